"""Settings of the command: the folders and ports of this user's mesh, read once from INFERMESH_* variables."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from infermesh_runtime.api_keys import KEYS_FILE
from infermesh_runtime.settings import CommaList


class ClientSettings(BaseSettings):
    """The environment variables that the command `infermesh` reads."""

    model_config = SettingsConfigDict(env_prefix="INFERMESH_", frozen=True, extra="ignore", validate_default=True)

    home: Path = Field(default=Path("~/.infermesh"), description="Folder for logs, run-time files and models.")
    models: Path | None = Field(
        default=None, description="Folder where models are stored; by default the folder models in INFERMESH_HOME."
    )
    keys_file: Path | None = Field(
        default=None,
        description="File of API keys that `infermesh keys` writes; by default keys.json in INFERMESH_HOME.",
    )
    api_key: str = Field(
        default="", description="API key that the command sends with its requests; needed where the mesh has keys."
    )
    http_port: int = Field(
        default=8080, ge=1, le=65535, description="Port on 127.0.0.1 where Envoy serves the REST API."
    )
    grpc_port: int = Field(default=8081, ge=1, le=65535, description="Port on 127.0.0.1 where Envoy serves gRPC.")
    tls_cert: str = Field(
        default="",
        description="Path of the PEM file of the certificate chain with which Envoy serves TLS. Envoy reads it again "
        "when it is replaced by renaming. Empty: plain text.",
    )
    tls_key: str = Field(default="", description="Path of the PEM file of that certificate's private key.")
    tls_ca: str = Field(
        default="",
        description="Path of the PEM file of the CA to trust when the command connects to grpcs://host:port. Empty: "
        "the usual public CAs.",
    )
    cors_origins: CommaList = Field(
        default=(),
        description="Origins whose web pages may call the REST API, as in https://app.example, separated by commas; * "
        "allows any. Empty: none.",
    )
    allowed_hosts: CommaList = Field(
        default=(),
        description="Further host names by which the REST API may be called, separated by commas; * allows any. Its "
        "address and localhost are always allowed.",
    )
    reflection: bool = Field(default=True, description="Whether Envoy passes gRPC reflection on to the router.")
    mesh_token: str = Field(default="", description="The mesh token; see the router's settings.")
    mesh_token_file: str = Field(default="", description="Path of a file that holds the mesh token.")
    mesh_ca: str = Field(default="", description="Path of the mesh's CA; see the router's settings.")
    mesh_cert: str = Field(default="", description="Path of this process's certificate chain, from that CA.")
    mesh_key: str = Field(default="", description="Path of this certificate's private key.")
    mesh_name: str = Field(default="", description="Name that the certificates of other processes must have.")

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("INFERMESH_TLS_CERT and INFERMESH_TLS_KEY must be set together")
        if len({bool(self.mesh_ca), bool(self.mesh_cert), bool(self.mesh_key)}) > 1:
            raise ValueError("INFERMESH_MESH_CA, INFERMESH_MESH_CERT and INFERMESH_MESH_KEY must be set together")
        for path in (self.tls_cert, self.tls_key, self.tls_ca, self.mesh_ca, self.mesh_cert, self.mesh_key):
            if path and not os.access(path, os.R_OK):
                raise ValueError(f"the certificate file {path!r} cannot be read")
        return self


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of one mesh on this machine."""

    root: Path
    models: Path

    @classmethod
    def of(cls, settings: ClientSettings) -> "Home":
        """Resolves the folders that the settings name to absolute paths; creates nothing."""
        root = settings.home.expanduser().absolute()
        return cls(root, settings.models.expanduser().absolute() if settings.models else root / "models")

    @property
    def log(self) -> Path:
        """Folder of the log files, one for each process."""
        return self.root / "log"

    @property
    def run(self) -> Path:
        """Folder of the running mesh's files: mesh.json, rendered configurations, the supervisor's socket."""
        return self.root / "run"


def keys_path(settings: ClientSettings) -> Path:
    """The file of API keys; it need not exist."""
    return (settings.keys_file or settings.home / KEYS_FILE).expanduser().absolute()
