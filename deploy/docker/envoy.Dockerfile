# Envoy with our configuration. The build renders and validates it, so that it always matches its template.
# Build it from the root of the repository:
#   docker build -f deploy/docker/envoy.Dockerfile -t infermesh/envoy .
ARG PYTHON_TAG=3.11.13-slim-bookworm
ARG ENVOY_TAG=v1.40.0

FROM python:${PYTHON_TAG} AS config
COPY deploy/envoy/requirements.lock /src/
RUN pip install --no-cache-dir -r /src/requirements.lock
COPY protos /src/protos
COPY deploy/envoy /src/deploy/envoy
RUN pip install --no-cache-dir --no-deps /src/protos /src/deploy/envoy && pip check
COPY protos/infermesh/descriptors.binpb deploy/envoy/src/infermesh_envoy/errors.lua /etc/envoy/
ARG ROUTER=router:8082
# The name by which clients call the API, beside those of the machine itself. Other names are refused, because a web page
# can make a name of its own point here. No web page has a name that ends in .svc: these are of Kubernetes' Services.
ARG PUBLIC_HOST=localhost
# --insecure: in plain text, because the container's ports are published on the host's loopback only (see compose.yaml).
# The admin port is on the container's own loopback, which no other container and no user of the host reaches.
RUN python -m infermesh_envoy --http 0.0.0.0:8080 --grpc 0.0.0.0:8081 --router "${ROUTER}" --admin-port 9901 --insecure \
    --allowed-host localhost --allowed-host 127.0.0.1 --allowed-host '[::1]' --allowed-host envoy \
    --allowed-host '*.svc' --allowed-host '*.svc.cluster.local' --allowed-host "${PUBLIC_HOST}" \
    --descriptors /etc/envoy/descriptors.binpb --lua /etc/envoy/errors.lua > /etc/envoy/envoy.yaml

FROM envoyproxy/envoy:${ENVOY_TAG}
COPY --from=config /etc/envoy /etc/envoy
RUN envoy --mode validate --config-path /etc/envoy/envoy.yaml
USER 101
EXPOSE 8080 8081
# the image has no HTTP client, but it has bash
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9901 && printf 'GET /ready HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n' >&3 && grep -q LIVE <&3"]
ENTRYPOINT ["envoy", "--config-path", "/etc/envoy/envoy.yaml", "--concurrency", "1", "--disable-hot-restart", \
    "--drain-time-s", "30", "--drain-strategy", "immediate", "--file-flush-interval-msec", "1000", "--log-level", "warning"]
