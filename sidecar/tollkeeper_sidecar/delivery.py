"""Delivering usage: records go to the authority in a batch, and around those that it cannot book (I2).

A batch that fails for any reason but `Unavailable` is halved until the records at fault are found. All others of it are
booked at once, so that a fault of one record is never more than that.
"""

from collections.abc import Callable, Sequence

from tollkeeper.counters import Counters
from tollkeeper.errors import Unavailable
from tollkeeper.leases import Authority
from tollkeeper.usage import UsageRecord

LARGEST_REPORT = 500
"""At most so many records go in one call."""

Taken = Callable[[Sequence[UsageRecord]], None]
Refused = Callable[[UsageRecord, Exception], None]


async def deliver(
    authority: Authority,
    records: Sequence[UsageRecord],
    taken: Taken,
    refused: Refused,
    counters: Counters | None = None,
) -> None:
    """Report records in their order, and tell of each of them once, in that order: it is booked, or cannot be.

    `counters` are told with all of them, whichever of several calls are taken (see `Authority.report`). Makes at most twice
    as many calls as there are records. Raises `Unavailable` when the authority does not answer; of the records that nothing
    was told of by then, nothing is known.
    """
    try:
        await authority.report(records, counters)
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001 - usage must go on to be booked, whatever one record holds
        if len(records) == 1:
            refused(records[0], error)
            return
    else:
        taken(records)
        return
    middle = len(records) // 2
    await deliver(authority, records[:middle], taken, refused, counters)
    await deliver(authority, records[middle:], taken, refused, counters)
