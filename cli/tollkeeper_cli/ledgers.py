"""Where there is a ledger: a command that reads or corrects books never makes new ones, nor writes over any."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tollkeeper.errors import InvalidValue
from tollkeeper_cli.failure import WrongUsage
from tollkeeper_cli.settings import StorageSettings, load
from tollkeeper_ledger import files
from tollkeeper_ledger.errors import LedgerUnavailable, LedgerUnreadable, NoLedger
from tollkeeper_ledger.export import export
from tollkeeper_ledger.storage import LedgerAt, open_reader

SPOOLS = "gateway"
"""The folder in a data folder where gateways keep usage until it is booked; `tollkeeper_sidecar.gateway` makes it."""


def storage_of(config: Path | None, data_dir: Path | None) -> StorageSettings:
    """Where the books lie: in the folder that --data-dir names, else as the settings say. Raises `InvalidSettings`."""
    return load(config).storage if data_dir is None else StorageSettings(directory=data_dir)


@contextlib.contextmanager
def exported(ledger: LedgerAt, otherwise: str = "") -> Iterator[Iterator[bytes]]:
    """The chain of a ledger as the lines of an export. Raises what `check_there` raises."""
    check_there(ledger, otherwise)
    # The chain holds one of the reader's connections until it ends, or is closed.
    with contextlib.closing(open_reader(ledger)) as reader, contextlib.closing(reader.chain()) as chain:
        yield export(chain)


def check_there(ledger: LedgerAt, otherwise: str = "") -> None:
    """Raise `InvalidValue` where there is none, with the option or setting that names another, and `otherwise`.

    Raises `LedgerUnavailable` for a database that does not answer.
    """
    on_sqlite = isinstance(ledger, Path)
    if isinstance(ledger, Path) and not ledger.is_file():
        raise InvalidValue(f"{ledger}: there is no ledger; name its folder with --data-dir{otherwise}")
    place = "its folder with --data-dir" if on_sqlite else "its database in storage.postgres of the settings"
    try:
        with contextlib.closing(open_reader(ledger)) as reader:
            reader.metadata()
    except NoLedger as error:
        raise InvalidValue(f"{error}; name {place}{otherwise}") from error
    except LedgerUnreadable:
        raise
    except LedgerUnavailable as error:
        other = "--data-dir" if on_sqlite else "storage.postgres of the settings"
        raise LedgerUnavailable(f"{error}; is it the ledger of a `tollkeeper up`? {other} names another") from error


def check_spared(output: Path, storage: StorageSettings) -> None:
    """Raise `WrongUsage` for an output that would take the place of books, by whatever name or link: a file of this ledger or of
    any SQLite database, or one among the spools of its gateways."""
    if isinstance(storage.ledger, Path) and files.of_the_ledger(output, storage.ledger):
        raise WrongUsage(
            f"{output}: it is a file of the ledger {storage.ledger} that is to be read; name another file with -o"
        )
    if database := files.of_a_database(output):
        raise WrongUsage(
            f"{output}: it is a file of the SQLite database {database}, which would be lost; name another file with -o"
        )
    spools = storage.directory / SPOOLS
    if Path(os.path.realpath(output)).is_relative_to(os.path.realpath(spools)):
        raise WrongUsage(
            f"{output}: it lies in {spools}, where gateways keep usage until it is booked; name another file with -o"
        )
