"""Retention: what is over goes, in bounded steps, so that neither requests nor readers wait for it.

A capture goes at the end that was stated when it was taken, or earlier where its tenant now has a shorter retention. Where
a tenant keeps nothing any more, what was kept goes at its stated end.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from tollkeeper_ledger.captures.storage import CaptureStore

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


def erase_one(store: CaptureStore, request_id: str) -> int:
    """Delete what is kept of a request; how many captures that were. Raises what the store raises."""
    deleted = store.delete(request_id)
    _shrink(store)
    return deleted


def erase(store: CaptureStore, tenant: str) -> int:
    """Delete all that is kept of a tenant; how many that were. Raises what the store raises."""
    deleted = _all_of(partial(store.delete_of, tenant, AT_ONCE))
    _shrink(store)
    return deleted


def _shrink(store: CaptureStore) -> None:
    for _ in range(STEPS):
        if not store.shrink():
            break


def _all_of(step: Callable[[], int]) -> int:
    """Repeat a bounded step until it finds less than its bound."""
    deleted = 0
    while (some := step()) == AT_ONCE:
        deleted += some
    return deleted + some
