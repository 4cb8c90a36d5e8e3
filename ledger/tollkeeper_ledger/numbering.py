"""Row numbers by name, as one writer of a SQLite file knows them: rows of other tables name accounts and holders by these."""

from collections.abc import Callable, Iterable


class RowNumbers(dict[str, int]):
    """What is not known is asked of the file, and remembered; after a commit that failed all is as it was before (`drop`).

    A plain dictionary's look-up for all that is known: each lease that a commit changes needs two.
    """

    def __init__(self, ask: Callable[[str], int]) -> None:
        super().__init__()
        self._ask = ask
        self._found: list[str] = []
        self._gone: dict[str, int] = {}

    def __missing__(self, name: str) -> int:
        number = self[name] = self._ask(name)
        self._found.append(name)
        return number

    def find(self, names: Iterable[str]) -> None:
        """Find out the numbers of rows that were just written."""
        for name in names:
            self[name]  # asks for it

    def forget(self, names: Iterable[str]) -> None:
        """The rows of these names were just deleted."""
        self._gone |= {name: self.pop(name) for name in names if name in self}

    def keep(self) -> None:
        """What was found out and forgotten is durable."""
        self._found.clear()
        self._gone.clear()

    def drop(self) -> None:
        """What was found out since `keep` may be of rows that were never written, and what was forgotten still has its row."""
        for name in self._found:
            self.pop(name, None)
        self.update(self._gone)
        self.keep()
