"""The board of authorities that share a ledger, in memory and in a time of its own."""

from collections.abc import Mapping

from tollkeeper.leases import RECALL_SECONDS
from tollkeeper.recalls import Ask, Posting


class Board:
    """As `RecallBoard` says; `until` is all that stands there, in microseconds."""

    def __init__(self) -> None:
        self.until: dict[Ask, int] = {}

    def exchange(self, posting: Posting, mono: float) -> Mapping[Ask, int]:
        now = round(mono * 1_000_000)
        for ask, answered in posting.answers.items():
            if ask in self.until and self.until[ask] <= answered:
                del self.until[ask]
        if posting.asks:
            self.until = {ask: until for ask, until in self.until.items() if until > now}
        self.until |= dict.fromkeys(posting.asks, now + round(RECALL_SECONDS * 1_000_000))
        return {ask: until for ask, until in self.until.items() if until > now}
