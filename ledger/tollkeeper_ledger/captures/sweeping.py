"""Retention: what is over goes, in bounded steps, so that neither requests nor readers wait for it.

A capture goes at the end that was stated when it was taken, or earlier where its tenant now has a shorter retention. Where
a tenant keeps nothing any more, what was kept goes at its stated end.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from tollkeeper_ledger.captures.storage import CaptureStore, Shrunk

AT_ONCE: Final = 100
"""Captures of one transaction."""

STEPS: Final = 64
"""In so many at most a sweep gives back room; the next one goes on."""


def sweep(store: CaptureStore, now: datetime, retentions: Mapping[str, timedelta]) -> int:
    """Delete what is over at an instant; how many that were. `retentions` are those in force, by tenant.

    Raises what the store raises; what was deleted until then is, and the next sweep goes on.
    """
    deleted = _all_of(partial(store.delete_over, now, AT_ONCE))
    for tenant, retention in retentions.items():
        deleted += _all_of(partial(store.delete_before, tenant, now - retention, AT_ONCE))
    _shrink(store)
    return deleted


@dataclass(frozen=True, slots=True)
class Erased:
    """How many captures were deleted; `is_held`: a reader keeps the bytes of what was deleted from being overwritten yet."""

    captures: int
    is_held: bool


def erase_one(store: CaptureStore, request_id: str) -> Erased:
    """Delete what is kept of a request. Raises what the store raises."""
    deleted = store.delete(request_id)
    return Erased(deleted, _shrink(store) is Shrunk.HELD)


def erase(store: CaptureStore, tenant: str) -> Erased:
    """Delete all that is kept of a tenant. Raises what the store raises."""
    deleted = _all_of(partial(store.delete_of, tenant, AT_ONCE))
    return Erased(deleted, _shrink(store) is Shrunk.HELD)


def _shrink(store: CaptureStore) -> Shrunk:
    for _ in range(STEPS):
        if (shrunk := store.shrink()) is not Shrunk.MORE:
            return shrunk
    return Shrunk.MORE


def _all_of(step: Callable[[], int]) -> int:
    """Repeat a bounded step until it finds less than its bound."""
    deleted = 0
    while (some := step()) == AT_ONCE:
        deleted += some
    return deleted + some
