"""Which names were booked lately: most questions for a request's id are answered without asking the database."""

from collections.abc import Collection, Iterable

KEPT = 1 << 16
"""So many names are kept at least, and twice as many at most."""


class LatelyBooked:
    """Knows every booked request's id that sorts after `floor`, and between which two names all other marks are.

    Ids of requests grow with time (UUIDv7), whichever gateway gives them, so those of a report are nearly always among the
    last. Nothing relies on that: for others it says that it cannot tell.
    """

    def __init__(self, floor: str, marks: tuple[str, str] | None) -> None:
        self._floor = floor
        self._marks = marks
        self._young, self._old = set[str](), set[str]()

    def among(self, names: Collection[str]) -> set[str] | None:
        """Which of these are booked; nothing where only the database can tell."""
        least, greatest = min(names, default=""), max(names, default="")
        if least <= self._floor or (self._marks and least <= self._marks[1] and self._marks[0] <= greatest):
            return None
        return self._young.intersection(names) | self._old.intersection(names)

    def add(self, ids: Iterable[str], marks: Collection[str]) -> None:
        """These are booked now."""
        self._young.update(ids)
        if len(self._young) >= KEPT:
            self._floor = max(self._floor, max(self._old, default=""))
            self._young, self._old = set(), self._young
        if marks:
            known = self._marks or (min(marks), max(marks))
            self._marks = min(known[0], *marks), max(known[1], *marks)
