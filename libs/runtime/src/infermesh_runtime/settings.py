"""Reads a service's settings from INFERMESH_* environment variables, and refuses unknown or malformed ones."""

import difflib
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from infermesh_runtime import addresses

PREFIX = "INFERMESH_"
split_host_port = addresses.split_host_port
ENTRY_POINTS = "infermesh.settings"
"""Entry-point group where installed services register their settings classes, so that each knows all variables."""


def _check_host_port(value: str) -> str:
    split_host_port(value)
    return value


def _check_optional_host_port(value: str) -> str:
    return _check_host_port(value) if value else value


def _split_commas(value: object) -> object:
    return tuple(part for raw in value.split(",") if (part := raw.strip())) if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


HostPort = Annotated[str, AfterValidator(_check_host_port)]
OptionalHostPort = Annotated[str, AfterValidator(_check_optional_host_port)]
CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
"""Written as "a, b,c" in the variable. Spaces around the parts, and empty parts, are dropped."""
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]


class ServiceSettings(BaseSettings):
    """The settings of every service. A service adds its own with `Field(default, description=...)`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", enable_decoding=False, validate_default=True
    )

    listen: HostPort = Field("127.0.0.1:0", description="Where to serve gRPC, host:port; port 0 takes any free one.")
    metrics_listen: OptionalHostPort = Field(
        "", description="Where to serve Prometheus metrics over HTTP, host:port; empty serves none."
    )
    log_level: LogLevel = Field("info", description="Least severe log lines to write: debug, info, warning or error.")
    drain_s: float = Field(
        30.0, ge=0, le=86400, description="Longest wait for running requests when stopping, in seconds."
    )
    reflection: bool = Field(True, description="Whether gRPC reflection tells clients which services there are.")
    mesh_token: str = Field(
        "",
        description="Secret that the processes of one mesh share: a worker, and a router's admin address, refuse calls "
        "without it. Empty: none is asked for.",
    )
    mesh_token_file: str = Field("", description="Path of a file that holds the mesh token, instead of the token.")
    mesh_ca: str = Field(
        "",
        description="Path of the PEM file of the mesh's CA. With INFERMESH_MESH_CERT and INFERMESH_MESH_KEY it turns "
        "on mutual TLS between Envoy, routers and workers. Empty: plain text.",
    )
    mesh_cert: str = Field("", description="Path of the PEM file of this process's certificate chain, from that CA.")
    mesh_key: str = Field("", description="Path of the PEM file of this certificate's private key.")
    mesh_name: str = Field(
        "",
        description="Name that the certificates of other processes must have. Empty: the host by which each is called.",
    )
    insecure: bool = Field(
        False,
        description="Allows listening on other addresses than loopback in plain text. Set it only where the network "
        "itself keeps strangers out.",
    )

    @model_validator(mode="after")
    def _check_mesh_token(self) -> Self:
        token = self.token()
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise ValueError("the mesh token must consist of visible ASCII characters, without spaces")
        return self

    @model_validator(mode="after")
    def _check_mesh_tls(self) -> Self:
        files = {name: getattr(self, name) for name in ("mesh_ca", "mesh_cert", "mesh_key")}
        if any(files.values()) and not all(files.values()):
            raise ValueError("INFERMESH_MESH_CA, INFERMESH_MESH_CERT and INFERMESH_MESH_KEY must be set together")
        for name, path in files.items():
            if path and not os.access(path, os.R_OK):
                raise ValueError(f"{_variable(type(self), name)}={path!r} cannot be read")
        return self

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        addresses.check_exposure("INFERMESH_LISTEN", self.listen, protected=bool(self.mesh_ca), insecure=self.insecure)
        return self

    def token(self) -> str:
        """The mesh token, from the setting or else from its file; "" if there is none. Raises ValueError."""
        if self.mesh_token or not self.mesh_token_file:
            return self.mesh_token
        try:
            token = Path(self.mesh_token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"INFERMESH_MESH_TOKEN_FILE={self.mesh_token_file!r} cannot be read: {error}") from None
        if not token:
            raise ValueError(f"INFERMESH_MESH_TOKEN_FILE={self.mesh_token_file!r} is empty")
        return token


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


class SettingVariable(NamedTuple):
    """One environment variable of a service."""

    variable: str
    default: str
    """As written in the variable; "(required)" when there is none."""
    help: str


class SettingsError(Exception):
    """Settings that a process must not start with; `problems` has one line for each problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def load_or_exit(cls: type[SettingsT], argv: Sequence[str] | None = None) -> SettingsT:
    """Reads this process's settings from the environment, or ends the process.

    `--help` or `-h` in `argv` (default: the command line) prints the variables and exits with 0. Bad settings print one
    line for each problem and exit with 2. So does any other argument of a service, since services take none.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    if {"--help", "-h"} & set(arguments):
        print(format_help(cls))
        raise SystemExit(0)
    if arguments and issubclass(cls, ServiceSettings):
        _refuse(
            [f"unexpected argument {arguments[0]!r}. Services take environment variables instead; --help lists them."]
        )
    try:
        return read(cls)
    except SettingsError as error:
        _refuse(error.problems)


def read(cls: type[SettingsT]) -> SettingsT:
    """Reads the settings from the environment. Raises SettingsError, which lists every problem."""
    problems = unknown_variables(cls, os.environ)
    try:
        settings = cls()
    except ValidationError as error:
        problems += [
            _describe_problem(cls, detail) for detail in error.errors(include_url=False, include_context=False)
        ]
    if problems:
        raise SettingsError(problems)
    return settings


def unknown_variables(cls: type[BaseSettings], environ: Iterable[str]) -> list[str]:
    """One line for each INFERMESH_* name in `environ` that no installed service declares."""
    strangers = sorted({name.upper() for name in environ if name.upper().startswith(PREFIX)} - variables(cls))
    if not strangers:
        return []
    known, broken = variables(cls), []
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            known |= variables(_load_class(entry))
        except (ImportError, AttributeError, TypeError) as error:
            broken.append(f"{entry.value} ({error})")
    doubt = f" These settings classes could not be loaded: {', '.join(broken)}." if broken else ""
    return [_describe_unknown(name, known) + doubt for name in strangers if name not in known]


def variables(cls: type[BaseSettings]) -> set[str]:
    """Names of the environment variables that `cls` reads."""
    return {_variable(cls, name) for name in cls.model_fields}


def describe(cls: type[BaseSettings]) -> list[SettingVariable]:
    """The variables of `cls` in the order of their declaration, for documents and `--help`."""
    return [
        SettingVariable(
            _variable(cls, name), _format_default(info.get_default(call_default_factory=True)), info.description or ""
        )
        for name, info in cls.model_fields.items()
    ]


def format_help(cls: type[BaseSettings]) -> str:
    """The text of `--help`."""
    lines = [f"  {o.variable}={o.default}\n      {o.help}" for o in describe(cls)]
    return "Settings are environment variables. They are listed with their defaults:\n\n" + "\n".join(lines)


def _variable(cls: type[BaseSettings], name: str) -> str:
    return (cls.model_config.get("env_prefix", "") + name).upper()


def _load_class(entry: EntryPoint) -> type[BaseSettings]:
    loaded = entry.load()
    if not (isinstance(loaded, type) and issubclass(loaded, BaseSettings)):
        raise TypeError(f"entry point {entry.name} = {entry.value} is not a settings class")
    return loaded


def _format_default(default: Any) -> str:
    match default:
        case _ if default is PydanticUndefined:
            return "(required)"
        case None:
            return ""
        case bool():
            return str(default).lower()
        case float() if default.is_integer():
            return str(int(default))
        case tuple() | list() | set() | frozenset():
            return ",".join(str(part) for part in default)
        case _:
            return str(default)


def _describe_problem(cls: type[BaseSettings], detail: Any) -> str:
    message = _in_our_words(str(detail["msg"]))
    if not detail["loc"]:
        return message
    name = str(detail["loc"][0])
    info = cls.model_fields.get(name)
    meaning = f" {info.description}" if info and info.description else ""
    if detail["type"] == "missing":
        return f"{_variable(cls, name)} is not set, but required.{meaning}"
    return f"{_variable(cls, name)}={detail['input']!r} is invalid: {message}.{meaning}"


def _in_our_words(message: str) -> str:
    """pydantic's "Input should be a valid number, unable to parse …" as "expected a valid number"."""
    message = message.removeprefix("Value error, ").partition(", unable to")[0]
    message = message.replace("Input should be greater than", "expected a value greater than")
    message = message.replace("Input should be less than", "expected a value less than")
    return message.replace("Input should be", "expected").removesuffix(".")


def _describe_unknown(name: str, known: set[str]) -> str:
    closest = difflib.get_close_matches(name, known, n=1, cutoff=0)
    hint = f" Did you mean {closest[0]}?" if closest else ""
    return f"{name} is not a setting of infermesh.{hint}"


def _refuse(problems: Sequence[str]) -> NoReturn:
    print("\n".join(f"settings: {problem}" for problem in problems), file=sys.stderr)
    raise SystemExit(2)
