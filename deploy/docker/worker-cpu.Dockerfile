# Target `worker` is worker-cpu, with the command `infermesh`, so that models can be imported through the mesh. Target
# `import` runs that command, with worker-cpu's converter. Build them from the root of the repository:
#   docker build -f deploy/docker/worker-cpu.Dockerfile --target worker -t infermesh/worker-cpu .
ARG PYTHON_TAG=3.11.13-slim-bookworm

FROM python:${PYTHON_TAG} AS build
RUN python -m venv /opt/infermesh
ENV PATH=/opt/infermesh/bin:$PATH
COPY services/worker-cpu/requirements.lock /src/
RUN pip install --no-cache-dir -r /src/requirements.lock
COPY protos /src/protos
COPY libs/runtime /src/libs/runtime
COPY libs/engine /src/libs/engine
COPY libs/worker /src/libs/worker
COPY services/worker-cpu /src/services/worker-cpu
RUN pip install --no-cache-dir --no-deps \
    /src/protos /src/libs/runtime /src/libs/engine /src/libs/worker /src/services/worker-cpu && pip check

COPY libs/client /src/libs/client
RUN pip install --no-cache-dir -r /src/libs/client/requirements.lock \
    && pip install --no-cache-dir --no-deps /src/libs/client && pip check

FROM python:${PYTHON_TAG} AS base
# the volumes get their owner from these folders; programs must be allowed to run from /work, where conversions of a
# model of Hugging Face install torch for themselves
RUN useradd --system --uid 10001 infermesh && install -d -o infermesh /models /work /keys /mesh
ENV PATH=/opt/infermesh/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    INFERMESH_HOME=/work \
    INFERMESH_MODELS=/models \
    HF_HOME=/work/huggingface \
    TMPDIR=/work
USER 10001
VOLUME /models /work

FROM base AS import
COPY --from=build /opt/infermesh /opt/infermesh
ENTRYPOINT ["infermesh", "models", "import"]

FROM base AS worker
COPY --from=build /opt/infermesh /opt/infermesh
COPY deploy/docker/healthcheck.py /opt/infermesh/
ENV INFERMESH_LISTEN=0.0.0.0:8083 \
    INFERMESH_METRICS_LISTEN=0.0.0.0:9090
EXPOSE 8083 9090
# health is SERVING only when a model is loaded
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "/opt/infermesh/healthcheck.py", "127.0.0.1:8083"]
ENTRYPOINT ["python", "-m", "infermesh_worker_cpu"]
