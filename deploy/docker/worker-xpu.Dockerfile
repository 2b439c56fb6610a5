# worker-xpu alone, for one kind of device. Build it from the root of the repository:
#   docker build -f deploy/docker/worker-xpu.Dockerfile --build-arg TORCH_INDEX=... -t infermesh/worker-xpu .
# TORCH_INDEX: package index with torch's builds for the device, as shown on pytorch.org under "Get started". XPU and CPU
#   need one. Empty takes torch from pip's own index, which is built for CUDA.
# DRIVER_PACKAGES: Debian packages of the device's user-space driver, which must match the host's kernel driver. Intel
#   GPUs need the Level Zero loader, driver and headers (for Triton); CUDA's driver comes from the container runtime.
ARG PYTHON_TAG=3.11.13-slim-bookworm

FROM python:${PYTHON_TAG} AS build
ARG TORCH_INDEX=
RUN python -m venv /opt/infermesh
ENV PATH=/opt/infermesh/bin:$PATH
COPY services/worker-xpu/requirements.lock /src/
# The index has its own Triton for its torch, under another package name; the one in the lock would overwrite it.
RUN if [ -n "${TORCH_INDEX}" ]; then \
        pip install --no-cache-dir --index-url "${TORCH_INDEX}" "$(grep '^torch==' /src/requirements.lock)" \
        && sed -i -E '/^(torch|triton)==/d' /src/requirements.lock; \
    fi && pip install --no-cache-dir -r /src/requirements.lock
COPY protos /src/protos
COPY libs/runtime /src/libs/runtime
COPY libs/engine /src/libs/engine
COPY libs/worker /src/libs/worker
COPY services/worker-xpu /src/services/worker-xpu
RUN pip install --no-cache-dir --no-deps \
    /src/protos /src/libs/runtime /src/libs/engine /src/libs/worker /src/services/worker-xpu && pip check

FROM python:${PYTHON_TAG}
ARG DRIVER_PACKAGES=
# Triton compiles its launchers with a C compiler when the worker runs
# hadolint ignore=DL3008,SC2086 # versions are the distribution's; DRIVER_PACKAGES is a list
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev ${DRIVER_PACKAGES} \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 infermesh && install -d -o infermesh /models /mesh
COPY --from=build /opt/infermesh /opt/infermesh
COPY deploy/docker/healthcheck.py /opt/infermesh/
ENV PATH=/opt/infermesh/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    INFERMESH_HOME=/tmp/infermesh \
    INFERMESH_MODELS=/models \
    INFERMESH_LISTEN=0.0.0.0:8083 \
    INFERMESH_METRICS_LISTEN=0.0.0.0:9090 \
    TRITON_CACHE_DIR=/tmp/triton \
    TORCHINDUCTOR_CACHE_DIR=/tmp/inductor
USER 10001
VOLUME /models
EXPOSE 8083 9090
# health is SERVING only when a model is loaded and its kernels are built
HEALTHCHECK --interval=10s --timeout=5s --start-period=240s \
    CMD ["python", "/opt/infermesh/healthcheck.py", "127.0.0.1:8083"]
ENTRYPOINT ["python", "-m", "infermesh_worker_xpu"]
