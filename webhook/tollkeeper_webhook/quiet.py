"""Which holders have been quiet for so long that nothing of them can arrive any more that needs them known. Pure."""

from collections.abc import Iterable, Sequence

from tollkeeper_ledger.state import Holder

QUIET_SECONDS = 3600.0
"""How long a holder without leases stays known that is not heard of: a call for leases that it sent before must have
arrived by then, or it would be taken for a new holder's. Callers give up on such a call within seconds."""

MOST_AT_ONCE = 10_000


class QuietHolders:
    """What an authority has seen of holders without leases, since when each has not changed (monotonic seconds)."""

    def __init__(self) -> None:
        self._since: dict[Holder, float] = {}

    def due(self, without_leases: Iterable[Holder], at: float) -> Sequence[Holder]:
        """Those that are as they were for `QUIET_SECONDS`; whoever took a lease meanwhile begins anew."""
        self._since = {holder: self._since.get(holder, at) for holder in without_leases}
        return [holder for holder, since in self._since.items() if at - since >= QUIET_SECONDS]
