"""Whether there is a ledger where the settings say: a command that reads or corrects books never makes new ones."""

import contextlib
from pathlib import Path

from tollkeeper.errors import InvalidValue
from tollkeeper_ledger.errors import NoLedger
from tollkeeper_ledger.storage import LedgerAt, open_reader


def check_there(ledger: LedgerAt, otherwise: str = "") -> None:
    """Raise `InvalidValue` where there is none, with the option or setting that names another, and `otherwise`.

    Raises `LedgerUnavailable` for a database that does not answer.
    """
    if isinstance(ledger, Path):
        if not ledger.is_file():
            raise InvalidValue(f"{ledger}: there is no ledger; name its folder with --data-dir{otherwise}")
        return
    with contextlib.closing(open_reader(ledger)) as reader:
        try:
            reader.metadata()
        except NoLedger as error:
            raise InvalidValue(f"{error}; name its database in storage.postgres of the settings{otherwise}") from error
