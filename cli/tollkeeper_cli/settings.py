"""Settings of the program (C1): one YAML file, validated whole before anything starts; options and environment go over it."""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from tollkeeper.errors import InvalidValue, shown
from tollkeeper_cli.yaml_files import documents_in
from tollkeeper_ledger.storage import LedgerAt, PostgresLedger

LEDGER_FILE = "ledger.db"
LARGEST_BODY = 8 * 2**20
SMALLEST_STORE = 2**20
LARGEST_STORE = 2**50


def _port(raw: object) -> object:
    if isinstance(raw, bool) or not isinstance(raw, int) or not 0 <= raw <= 65535:
        raise ValueError(f"{shown(raw)} is not a port: write a whole number from 0 (any free one) to 65535")
    return raw


def _url(raw: object) -> object:
    if not isinstance(raw, str) or not re.fullmatch(r"https?://[^\s]+", raw):
        raise ValueError(f"{shown(raw)} is not an address: write one such as https://api.openai.com, without /v1")
    return raw


def _upstream_name(raw: object) -> object:
    if not isinstance(raw, str) or not re.fullmatch(r"[a-z][a-z0-9-]*", raw):
        raise ValueError(f"{shown(raw)} is not a name: write small letters, digits and '-', beginning with a letter")
    return raw


def _database(raw: object) -> object:
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError("it names no database: write an address such as postgresql://user@host/database")
    return raw


def _body_bytes(raw: object) -> object:
    if isinstance(raw, bool) or not isinstance(raw, int) or not 1024 <= raw <= LARGEST_BODY:
        raise ValueError(f"{shown(raw)} is not a size: write a whole number of bytes from 1024 to {LARGEST_BODY}")
    return raw


def _store_bytes(raw: object) -> object:
    if isinstance(raw, bool) or not isinstance(raw, int) or not SMALLEST_STORE <= raw <= LARGEST_STORE:
        raise ValueError(
            f"{shown(raw)} is not a size: write a whole number of bytes from {SMALLEST_STORE} to {LARGEST_STORE}"
        )
    return raw


Port = Annotated[int, BeforeValidator(_port)]


class InvalidSettings(InvalidValue):
    """The settings cannot be as they are: wrong usage, as a wrong option is."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeySource(_Settings):
    """Where a secret is read from: an environment variable or a file. It is never written in the settings."""

    env: str | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "KeySource":
        if (self.env is None) == (self.file is None):
            raise ValueError("name exactly one of env and file")
        return self

    def read(self, where: str, what: str = "the provider's key") -> str:
        """The secret. Raises `InvalidSettings` that says where it should have been."""
        if self.env is not None:
            value = os.environ.get(self.env, "")
            missing = f"{where}: the environment variable {self.env} is empty or not set; put {what} there"
        else:
            try:
                value = (self.file or Path()).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidSettings(
                    f"{where}: {self.file} cannot be read ({_why(error)}); put {what} there"
                ) from error
            missing = f"{where}: the file {self.file} is empty; put {what} there"
        if not value.strip():
            raise InvalidSettings(missing)
        return value.strip()


class UpstreamSettings(_Settings):
    """A provider behind the gateway: its base address, up to but without `/v1`, and its key."""

    url: Annotated[str, BeforeValidator(_url)]
    key: KeySource


class StorageSettings(_Settings):
    """Where the ledger and the gateway's spool lie: in a folder, the ledger as a SQLite file, unless `postgres` says where.

    A password does not belong into the file: libpq reads `PGPASSWORD`, `PGPASSFILE` or a `service`.
    """

    directory: Path = Path("tollkeeper-data")
    postgres: Annotated[str, BeforeValidator(_database)] | None = None

    @property
    def ledger(self) -> LedgerAt:
        """Where the ledger lies."""
        return PostgresLedger(self.postgres) if self.postgres else self.directory / LEDGER_FILE


class CaptureSettings(_Settings):
    """How the bodies of tenants that ask for it are kept (R27).

    `keys` says where the keys are that they are encrypted with, 32 bytes as base64, one a line: the first encrypts, all
    decrypt. Without keys no bodies are kept. `largest_body_bytes` is how much is kept of one,
    `largest_store_bytes` how much of the disk all take, as they are stored: beyond it what comes is dropped.
    """

    keys: KeySource | None = None
    largest_body_bytes: Annotated[int, BeforeValidator(_body_bytes)] = 2**20
    largest_store_bytes: Annotated[int, BeforeValidator(_store_bytes)] = 4 * 2**30


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

    upstreams: dict[Annotated[str, BeforeValidator(_upstream_name)], UpstreamSettings] = {}
    storage: StorageSettings = StorageSettings()
    ports: PortSettings = PortSettings()
    capture: CaptureSettings = CaptureSettings()
    host: str = "127.0.0.1"


def load(path: Path | None) -> Settings:
    """The settings of a file, or the defaults. Raises `InvalidSettings` with every field that is wrong, in one line."""
    if path is None:
        return Settings()
    try:
        documents = documents_in(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{path}: it cannot be read ({_why(error)}); name another with --config") from error
    except InvalidValue as error:
        raise InvalidSettings(f"{error}; correct it") from error
    if len(documents) > 1:
        raise InvalidSettings(f"{path}: it has {len(documents)} documents: leave one, without a line of --- in it")
    raw = documents[0] if documents else None
    try:
        return Settings.model_validate({} if raw is None else raw)
    except ValidationError as error:
        raise InvalidSettings(f"{path}: {'; '.join(map(_wrong, error.errors()))}") from error


def _wrong(error: ErrorDetails) -> str:
    """One field that is wrong: where, what, and what to do."""
    where = ".".join(str(part) for part in error["loc"] if part != "[key]") or "the file"
    words = {
        "extra_forbidden": "there is no such setting; see the README for those that there are",
        "missing": "it is missing; write it",
        "model_type": "it is not a mapping; write `name: value` lines under it",
        "dict_type": "it is not a mapping; write `name: value` lines under it",
    }
    return f"{where}: {words.get(error['type']) or error['msg'].removeprefix('Value error, ')}"


def _why(error: OSError | UnicodeDecodeError) -> str:
    """In words for a person: without the number, and the path that stands in front."""
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8 text"
