"""Bodies that tenants want kept, in the running process: opened when there is something to keep, and swept by and by.

A store of bodies that cannot be opened keeps nobody from serving requests: it is tried again with the next bodies, and with
the next sweep.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog

from tollkeeper.captures import Capture, Keeper
from tollkeeper.policy import CurrentPolicy, PolicySet
from tollkeeper_ledger.captures.errors import NoCaptures
from tollkeeper_ledger.captures.storage import CaptureStore, open_captures
from tollkeeper_ledger.captures.sweeping import sweep
from tollkeeper_ledger.storage import LedgerAt
from tollkeeper_sidecar.tasks import Faults, start_task

if TYPE_CHECKING:  # it loads the cryptography of keys, which who has none need not have
    from tollkeeper_ledger.captures.sealing import Keys

SWEEP_SECONDS: Final = 300.0

_log = structlog.get_logger("tollkeeper.captures")


@contextlib.asynccontextmanager
async def keeping(
    ledger: LedgerAt, keys: "Keys | None", policy: CurrentPolicy, clock: Callable[[], datetime]
) -> AsyncGenerator[Keeper | None]:
    """Sweep what is kept beside a ledger until the block ends; where there are keys, what keeps more of it."""
    kept = Kept(ledger, keys)
    sweeping = start_task(_sweep_again_and_again(kept, policy, clock), "retention of bodies")
    try:
        yield kept if keys is not None else None
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
        await asyncio.to_thread(kept.close)


class Kept:
    """The store of a ledger's bodies, opened when it is needed; several threads may use it."""

    def __init__(self, ledger: LedgerAt, keys: "Keys | None") -> None:
        self._ledger = ledger
        self._keys = keys
        self._lock = threading.Lock()
        self._store: CaptureStore | None = None

    def keep(self, captures: Sequence[Capture]) -> None:
        """See `Keeper`."""
        from tollkeeper_ledger.captures.vault import Vault

        if self._keys is not None:
            Vault(self._opened(), self._keys).keep(captures)

    def sweep(self, now: datetime, retentions: Mapping[str, timedelta]) -> int:
        """Delete what is over; see `sweeping.sweep`. Where nothing was ever kept there is nothing to do."""
        try:
            store = self._opened()
        except NoCaptures:
            return 0
        return sweep(store, now, retentions)

    def close(self) -> None:
        """Let go of the store."""
        with self._lock:
            if self._store is not None:
                self._store.close()

    def _opened(self) -> CaptureStore:
        with self._lock:
            if self._store is None:
                self._store = open_captures(self._ledger, make=self._keys is not None)
            return self._store


async def _sweep_again_and_again(kept: Kept, policy: CurrentPolicy, clock: Callable[[], datetime]) -> None:
    faults = Faults("bodies whose time is over cannot be deleted", "bodies whose time is over are deleted again")
    while True:
        try:
            deleted = await asyncio.to_thread(kept.sweep, clock(), retentions(policy.value))
        except Exception as error:  # noqa: BLE001 - retention must not end because one sweep did
            faults.met(error)
        else:
            faults.overcome()
            if deleted:
                _log.info("bodies whose time is over are deleted", captures=deleted)
        await asyncio.sleep(SWEEP_SECONDS)


def retentions(policy: PolicySet) -> Mapping[str, timedelta]:
    """How long bodies are kept now, of each tenant that wants them kept."""
    return {name: node.capture.retention for name, node in policy.tenants.items() if node.capture is not None}
