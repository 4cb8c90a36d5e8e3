"""How a command has a correction booked: by the process that owns the ledger, and by itself where none runs."""

from collections.abc import Mapping
from typing import Any

from tollkeeper_cli import control
from tollkeeper_cli.asked import read_asked
from tollkeeper_cli.ledgers import check_there
from tollkeeper_cli.settings import StorageSettings


def booked(storage: StorageSettings, raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Ask the process that runs over a folder; where none runs, open the ledger, do it, and close it again.

    Raises `InvalidValue` where there is no ledger, and what `control.ask` and `operations.perform_alone` raise.
    """
    raw = read_asked(raw)
    answer = control.ask(storage.directory, raw)
    if answer is not None:
        return answer
    check_there(storage.ledger)
    import asyncio

    from tollkeeper_cli.operations import perform_alone  # an authority, which a process that runs has already

    return asyncio.run(perform_alone(storage.ledger, raw))
