"""The meter: a request's hold is written down before it is passed on, and ends exactly once, whatever happens."""

from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from tollkeeper.usage import Outcome, UsageRecord
from tollkeeper_sidecar.errors import SpoolError
from tollkeeper_sidecar.holder import LeaseHolder
from tollkeeper_sidecar.metrics import Metrics
from tollkeeper_sidecar.openai_errors import ours
from tollkeeper_sidecar.reporter import Reporter
from tollkeeper_sidecar.settlement import Admitted, Ending, estimated, record_of, used_of
from tollkeeper_sidecar.spool import Spool

MOST_TOLD = 200
"""Of so many models without a price is told: callers make names up."""

_log = structlog.get_logger("tollkeeper.gateway")


class Meter:
    """Opens and ends exchanges over one holder, one spool and one reporter."""

    def __init__(
        self, holder: LeaseHolder, spool: Spool, reporter: Reporter, metrics: Metrics, clock: Callable[[], datetime]
    ) -> None:
        self._holder = holder
        self._spool = spool
        self._reporter = reporter
        self._metrics = metrics
        self._clock = clock
        self._told: set[tuple[str, str, str]] = set()

    def begin(self, admitted: Admitted) -> "Exchange":
        """Write down what is held. Raises `RequestRefused` (our fault), with the hold given back, when that fails."""
        try:
            self._spool.hold(admitted.id, admitted.hold.amounts)
        except SpoolError as error:
            self._holder.settle(admitted.hold, admitted.hold.unused)
            _log.error("a request is refused because its hold cannot be written down", error=str(error))
            raise ours(
                "the gateway cannot write down what it meters: its disk or spool is full. Try again later."
            ) from error
        return Exchange(self, admitted)

    def end(self, admitted: Admitted, ending: Ending) -> bool:
        """Settle: write the record down, give back what is left, count; true when the spool has it."""
        record = record_of(admitted, ending, self._clock())
        on_disk = self._reporter.add(record)
        self._holder.settle(admitted.hold, used_of(record, admitted.hold))
        self._metrics.settled(record)
        if record.cost is None and not record.charges:
            self._tell_unpriced(record)
        return on_disk

    def _tell_unpriced(self, record: UsageRecord) -> None:
        """Usage without a price under no limit: no object's status or Event can tell of it (M6, B9). Once for each model."""
        who = (record.caller.tenant, record.provider, record.model)
        if who not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(who)
            _log.warning(
                "a model without a price is used where no limit counts it: add it to a PriceBook",
                tenant=record.caller.tenant,
                provider=record.provider,
                model=record.model,
            )

    async def durable(self) -> None:
        """Wait until what was ended is on the disk. A disk that fails is logged: the record is in memory and goes on."""
        try:
            await self._spool.durable()
        except SpoolError as error:
            _log.error(
                "settled requests may not survive a crash of the machine until they are reported", error=str(error)
            )


class Exchange:
    """One request between its hold and its end. The first end counts, all later ones change nothing."""

    __slots__ = ("_meter", "_on_disk", "admitted", "ended")

    def __init__(self, meter: Meter, admitted: Admitted) -> None:
        self._meter = meter
        self.admitted = admitted
        self.ended = False
        self._on_disk = False

    def end(self, ending: Ending) -> None:
        """Settle with what was used."""
        if not self.ended:
            self.ended = True
            self._on_disk = self._meter.end(self.admitted, ending)

    def end_estimated(self, outcome: Outcome, status: int, output_bytes: int, upstream_id: str | None = None) -> None:
        """Settle with the bound of the prompt and what was seen of the answer (M7)."""
        buckets = estimated(self.admitted.tokens, self.admitted.hold, output_bytes)
        self.end(Ending(buckets, outcome, status, upstream_id, estimated=True))

    def end_unused(self, outcome: Outcome, status: int) -> None:
        """End without usage: nothing is charged."""
        self.end(Ending(None, outcome, status))

    async def durable(self) -> None:
        """Return once the end is on the disk, or known to be in memory alone."""
        if self._on_disk:
            await self._meter.durable()


def booked_by(holder: LeaseHolder) -> Callable[[Sequence[UsageRecord]], None]:
    """What tells a holder of booked records."""

    def booked(records: Sequence[UsageRecord]) -> None:
        for record in records:
            holder.booked({charge.account: charge.amount for charge in record.charges})

    return booked
