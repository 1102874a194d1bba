# The node without the engine: listener, delivery worker, command line. No torch.
#   docker build -f docker/node.Dockerfile -t voxtell-dicom-node .
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
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
# Asks by C-ECHO under the node's own AE title: an allow-list (VOXTELL_ALLOWED_CALLING_AETS) must have it.
HEALTHCHECK --interval=30s --timeout=15s --start-period=20s \
    CMD ["sh", "-c", "voxtell-dicom echo \"${VOXTELL_AE_TITLE:-VOXTELL}@127.0.0.1:11112\""]
ENTRYPOINT ["voxtell-dicom"]
CMD ["listen"]
