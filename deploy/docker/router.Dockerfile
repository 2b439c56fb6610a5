# The router alone, without openvino and torch. Build it from the root of the repository:
#   docker build -f deploy/docker/router.Dockerfile -t infermesh/router .
ARG PYTHON_TAG=3.11.13-slim-bookworm

FROM python:${PYTHON_TAG} AS build
RUN python -m venv /opt/infermesh
ENV PATH=/opt/infermesh/bin:$PATH
COPY services/router/requirements.lock /src/
RUN pip install --no-cache-dir -r /src/requirements.lock
COPY protos /src/protos
COPY libs/runtime /src/libs/runtime
COPY services/router /src/services/router
RUN pip install --no-cache-dir --no-deps /src/protos /src/libs/runtime /src/services/router && pip check

FROM python:${PYTHON_TAG}
# the volumes with API keys and mesh token get their owner from these folders
RUN useradd --system --uid 10001 infermesh && install -d -o infermesh /keys /mesh
COPY --from=build /opt/infermesh /opt/infermesh
COPY deploy/docker/healthcheck.py /opt/infermesh/
ENV PATH=/opt/infermesh/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    INFERMESH_LISTEN=0.0.0.0:8082 \
    INFERMESH_METRICS_LISTEN=0.0.0.0:9090
USER 10001
EXPOSE 8082 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "/opt/infermesh/healthcheck.py", "127.0.0.1:8082"]
ENTRYPOINT ["python", "-m", "infermesh_router"]
