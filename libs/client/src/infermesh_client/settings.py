"""Owns where the mesh of this user lives: folders and ports, read from INFERMESH_* once. Knows no process."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClientSettings(BaseSettings):
    """What the command `infermesh` takes from the environment."""

    model_config = SettingsConfigDict(env_prefix="INFERMESH_", frozen=True, extra="ignore", validate_default=True)

    home: Path = Field(Path("~/.infermesh"), description="Folder of logs, run-time files and models.")
    models: Path | None = Field(None, description="Folder of the models; default: models in INFERMESH_HOME.")
    http_port: int = Field(8080, ge=1, le=65535, description="Port of Envoy's REST listener on 127.0.0.1.")
    grpc_port: int = Field(8081, ge=1, le=65535, description="Port of Envoy's gRPC listener on 127.0.0.1.")


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of one mesh."""

    root: Path
    models: Path

    @classmethod
    def of(cls, settings: ClientSettings) -> "Home":
        """The absolute folders that the settings name; creates nothing."""
        root = settings.home.expanduser().absolute()
        return cls(root, settings.models.expanduser().absolute() if settings.models else root / "models")

    @property
    def log(self) -> Path:
        """One log file for each process."""
        return self.root / "log"

    @property
    def run(self) -> Path:
        """Files of the running mesh: mesh.json, rendered configurations, the supervisor's socket."""
        return self.root / "run"
