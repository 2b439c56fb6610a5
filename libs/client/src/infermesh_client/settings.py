"""Settings of the command: the folders and ports of this user's mesh, read once from INFERMESH_* variables."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from infermesh_runtime.api_keys import KEYS_FILE


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
