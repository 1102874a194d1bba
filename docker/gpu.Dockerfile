# The segmentation worker with the engine; runs on an NVIDIA GPU (with --gpus) and, slower, without.
#   docker build -f docker/gpu.Dockerfile -t voxtell-dicom-gpu .
FROM python:3.11-slim AS build
WORKDIR /src
COPY constraints.txt ./
# torch first and alone, before the sources: gigabytes that change with constraints.txt only.
RUN python -m venv /opt/voxtell \
    && /opt/voxtell/bin/pip install --no-cache-dir --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY dicom_node dicom_node
COPY voxtell voxtell
COPY worker worker
RUN /opt/voxtell/bin/pip install --no-cache-dir --constraint constraints.txt '.[gpu,postgres]'

FROM python:3.11-slim
# The ids are fixed: both images share one volume.
RUN groupadd --gid 10001 voxtell \
    && useradd --uid 10001 --gid voxtell --home-dir /var/lib/voxtell --create-home voxtell
COPY --from=build /opt/voxtell /opt/voxtell
ENV PATH="/opt/voxtell/bin:$PATH" \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    VOXTELL_HOME=/var/lib/voxtell \
    VOXTELL_LOG_FORMAT=json
USER 10001:10001
WORKDIR /var/lib/voxtell
VOLUME /var/lib/voxtell
# A worker has no port to ask; its lease in the ledger says whether it lives.
HEALTHCHECK NONE
ENTRYPOINT ["voxtell-dicom"]
CMD ["segment-worker"]
