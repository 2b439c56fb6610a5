"""Renders envoy.yaml.j2 with the values of EnvoyOptions and a table of error messages."""

from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from infermesh_envoy.browsers import hosts_regex, is_ip, origins_regex, own_names, refusals
from infermesh_envoy.local_errors import ANTHROPIC_ERRORS, DIALECTS, grpc_errors, rest_errors
from infermesh_envoy.options import MEBIBYTE, Address, EnvoyOptions
from infermesh_envoy.rest_paths import path_regex, rest_paths
from infermesh_envoy.secrets import router_names

CONNECTION_BUFFER_BYTES: Final = MEBIBYTE
FRAMING_BYTES: Final = 64 << 10  # what gRPC and HttpBody add to a body, plus room for one more read of the socket

REST_SERVICES: Final = (
    "infermesh.openai.v1.OpenAIService",
    "infermesh.openai.v1.BatchService",
    "infermesh.anthropic.v1.AnthropicService",
    "infermesh.ollama.v1.OllamaService",
    "infermesh.kserve.v1.KServeService",
    "infermesh.mesh.v1.MeshService",
)
"""The services that the transcoder offers as REST."""
CLIENT_SERVICES: Final = (
    "infermesh.inference.v1.InferenceService",
    "inference.GRPCInferenceService/ModelStreamInfer",  # before its service, because its requests are a stream
    "inference.GRPCInferenceService",
    "infermesh.mesh.v1.MeshService",
    "grpc.health.v1.Health",
)
ENDLESS_METHODS: Final = (
    "infermesh.mesh.v1.MeshService/WatchEvents",
    "infermesh.inference.v1.InferenceService/WatchHealth",
    "grpc.health.v1.Health/Watch",
)
"""The methods whose answers end when the client leaves. Where Envoy runs by itself, whatever stops it does not wait for
them, and so they are counted apart."""
REFLECTION_SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""The services for clients, and a method with a route of its own. AdminService and EndpointService are not among them:
they are for operators."""

METHOD_NOT_ALLOWED: Final = (
    "invalid_request_error",
    "method_not_allowed",
    "%REQ(:PATH)% does not accept the method %REQ(:METHOD)%",
)


def grpc_services(options: EnvoyOptions) -> tuple[str, ...]:
    """The native services that clients reach through Envoy."""
    return (*CLIENT_SERVICES, *REFLECTION_SERVICES) if options.reflection else CLIENT_SERVICES


def render(options: EnvoyOptions) -> str:
    """Returns the complete configuration as YAML, for `envoy --config-path`."""
    environment = Environment(
        loader=PackageLoader("infermesh_envoy", "."),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=select_autoescape(),  # HTML only
    )
    finds_routers = not is_ip(options.router.host)
    return environment.get_template("envoy.yaml.j2").render(
        http=options.http,
        grpc=options.grpc,
        routers=[options.router, *options.more_routers],
        finds_routers=finds_routers,
        endless_methods=list(ENDLESS_METHODS) if finds_routers else [],
        admin=Address("127.0.0.1", options.admin_port),
        admin_socket=str(options.admin_socket or ""),
        hosts_regex=hosts_regex(options),
        origins_regex=origins_regex(options),
        refusals=refusals(options),
        own_names=own_names(options),
        tls=options.tls,
        mesh_tls=options.mesh_tls,
        router_names=router_names(options),
        secrets=options.secrets.absolute(),
        access_log_path=options.access_log or "/dev/stdout",
        timeout_s=f"{options.timeout_s:g}",
        cors_origins=options.cors_origins,
        node_id=options.node_id,
        connection_buffer_bytes=CONNECTION_BUFFER_BYTES,
        max_body_bytes=options.max_body_bytes,
        max_message_bytes=options.max_body_bytes + FRAMING_BYTES,
        max_arriving_bytes=options.max_arriving_bytes,
        max_client_arriving_bytes=options.max_client_arriving_bytes,
        body_timeout_s=f"{options.body_timeout_s:g}",
        max_requests=options.max_requests,
        max_heap_bytes=options.max_heap_bytes,
        descriptors_path=str(options.descriptors),
        lua_path=str(options.lua),
        rest_services=list(REST_SERVICES),
        grpc_services=list(grpc_services(options)),
        rest_paths=rest_paths(options.descriptors),
        dialects=DIALECTS,
        anthropic_errors=ANTHROPIC_ERRORS,
        path_regex=path_regex,
        method_not_allowed=METHOD_NOT_ALLOWED,
        rest_errors=rest_errors(options),
        grpc_errors=grpc_errors(options),
    )
