# The segmentation worker with the engine; runs on an NVIDIA GPU (with --gpus) and, slower, without.
#   docker build -f docker/gpu.Dockerfile -t voxtell-dicom-gpu .
#   docker build -f docker/gpu.Dockerfile -t voxtell-dicom-cpu --build-arg TORCH=cpu .      without NVIDIA's libraries, 2.8 GB less
FROM python:3.11-slim AS build
ARG TORCH=cuda
WORKDIR /src
COPY constraints.txt ./
# torch first and alone, before the sources: gigabytes that change with constraints.txt only. uv knows where its builds for
# CPUs are; with one in place no later step brings another.
RUN python -m venv /opt/voxtell \
    && if [ "$TORCH" = cpu ]; then \
        /opt/voxtell/bin/pip install --no-cache-dir --constraint constraints.txt uv \
        && /opt/voxtell/bin/uv pip install --python /opt/voxtell/bin/python --no-cache --constraint constraints.txt --torch-backend=cpu torch torchvision \
        && /opt/voxtell/bin/pip uninstall --yes uv; \
    else \
        /opt/voxtell/bin/pip install --no-cache-dir --constraint constraints.txt torch; \
    fi
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY dicom_node dicom_node
COPY voxtell voxtell
COPY worker worker
RUN /opt/voxtell/bin/pip install --no-cache-dir --constraint constraints.txt '.[gpu,postgres]' \
    && if [ "$TORCH" = cpu ] && [ -d /opt/voxtell/lib/python3.11/site-packages/nvidia ]; then \
        echo "this image is to have no NVIDIA libraries, and a dependency has brought some" >&2; exit 1; \
    fi

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
