"""Settings of the program (C1): one YAML file, validated whole before anything starts; options and environment go over it."""

import os
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tollkeeper.errors import InvalidValue
from tollkeeper_ledger.storage import LedgerAt, PostgresLedger

LEDGER_FILE = "ledger.db"

Port = Annotated[int, Field(ge=0, le=65535)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeySource(_Settings):
    """Where a provider's key is read from: an environment variable or a file. It is never written in the settings."""

    env: str | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "KeySource":
        if (self.env is None) == (self.file is None):
            raise ValueError("name exactly one of env and file")
        return self

    def read(self, where: str) -> str:
        """The key. Raises `InvalidValue` that says where it should have been."""
        if self.env is not None:
            value = os.environ.get(self.env, "")
            missing = f"{where}: the environment variable {self.env} is empty or not set; put the provider's key there"
        else:
            try:
                value = (self.file or Path()).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidValue(
                    f"{where}: {self.file} cannot be read ({error}); put the provider's key there"
                ) from error
            missing = f"{where}: the file {self.file} is empty; put the provider's key there"
        if not value.strip():
            raise InvalidValue(missing)
        return value.strip()


class UpstreamSettings(_Settings):
    """A provider behind the gateway: its base address, up to but without `/v1`, and its key."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
    key: KeySource


class StorageSettings(_Settings):
    """Where the ledger and the gateway's spool lie: in a folder, the ledger as a SQLite file, unless `postgres` says where.

    A password does not belong into the file: libpq reads `PGPASSWORD`, `PGPASSFILE` or a `service`.
    """

    directory: Path = Path("tollkeeper-data")
    postgres: Annotated[str, Field(min_length=1)] | None = None

    @property
    def ledger(self) -> LedgerAt:
        """Where the ledger lies."""
        return PostgresLedger(self.postgres) if self.postgres else self.directory / LEDGER_FILE


class PortSettings(_Settings):
    """Ports on which the servers listen; 0 takes a free one."""

    gateway: Port = 4040
    gateway_metrics: Port = 4041
    webhook: Port = 8443
    webhook_health: Port = 8081
    operator: Port = 8082
    console: Port = 8080


class Settings(_Settings):
    """The whole file."""

    upstreams: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")], UpstreamSettings] = {}
    storage: StorageSettings = StorageSettings()
    ports: PortSettings = PortSettings()
    host: str = "127.0.0.1"


def load(path: Path | None) -> Settings:
    """The settings of a file, or the defaults. Raises `InvalidValue` with every field that is wrong, in one line."""
    if path is None:
        return Settings()
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(f"{path}: it cannot be read ({error}); name a settings file that exists") from error
    except yaml.YAMLError as error:
        raise InvalidValue(f"{path}: it is not YAML: {' '.join(str(error).split())}") from error
    try:
        return Settings.model_validate(raw or {})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors())
        raise InvalidValue(f"{path}: {wrong}") from error
