"""What others are short of, as far as this holder was told. Pure; times are monotonic seconds."""

from collections.abc import Iterable, Iterator

from tollkeeper.leases import RECALL_SECONDS


class Shortages:
    """Accounts of which this holder keeps nothing that lies free, each for a recall time after it was told."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._unanswered: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self._until)

    def __contains__(self, account: str) -> bool:
        return account in self._until

    def __iter__(self) -> Iterator[str]:
        return iter(self._until)

    @property
    def unanswered(self) -> frozenset[str]:
        """What the authority waits for."""
        return self._unanswered

    def told(self, accounts: Iterable[str], mono: float) -> None:
        """Others are short of these accounts."""
        heard = frozenset(accounts)
        self._unanswered |= heard
        self._until.update(dict.fromkeys(heard, mono + RECALL_SECONDS))

    def answer(self, accounts: frozenset[str]) -> None:
        """These are answered by a call that is made now."""
        self._unanswered -= accounts

    def not_answered(self, accounts: frozenset[str]) -> None:
        """That call did not reach the authority."""
        self._unanswered |= accounts

    def end(self, mono: float) -> None:
        """Forget what is over; what is not answered is not."""
        if self._until:
            over = {account for account, until in self._until.items() if mono >= until} - self._unanswered
            for account in over:
                del self._until[account]
