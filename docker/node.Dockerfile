# The node without the engine: listener, delivery worker, command line. No torch.
#   docker build -f docker/node.Dockerfile -t voxtell-dicom-node .
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY dicom_node dicom_node
COPY voxtell voxtell
COPY worker worker
RUN python -m venv /opt/voxtell \
    && /opt/voxtell/bin/pip install --no-cache-dir --constraint constraints.txt '.[postgres]'

FROM python:3.11-slim
# The ids are fixed: both images share one volume.
RUN groupadd --gid 10001 voxtell \
    && useradd --uid 10001 --gid voxtell --home-dir /var/lib/voxtell --create-home voxtell
COPY --from=build /opt/voxtell /opt/voxtell
ENV PATH="/opt/voxtell/bin:$PATH" \
    VOXTELL_HOME=/var/lib/voxtell \
    VOXTELL_HOST=0.0.0.0 \
    VOXTELL_LOG_FORMAT=json
USER 10001:10001
WORKDIR /var/lib/voxtell
VOLUME /var/lib/voxtell
EXPOSE 11112
# Connects and says nothing: an association would need a title, an address, a certificate and a place among others.
HEALTHCHECK --interval=30s --timeout=15s --start-period=20s \
    CMD ["python", "-c", "import os, socket; socket.create_connection((os.environ['VOXTELL_HOST'], int(os.environ.get('VOXTELL_PORT') or 11112)), 10).close()"]
ENTRYPOINT ["voxtell-dicom"]
CMD ["listen"]
