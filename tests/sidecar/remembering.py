"""A keeper of bodies in memory, in place of a store."""

import threading
from collections.abc import Sequence

from tollkeeper.captures import Capture


class Remembering:
    """A keeper in memory that can fail, or wait until it is let go."""

    def __init__(self) -> None:
        self.kept: list[Capture] = []
        self.calls = 0
        self.fault: Exception | None = None
        self.refuses = ""
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def keep(self, captures: Sequence[Capture]) -> None:
        self.calls += 1
        self.may_go_on.wait(30)
        if self.fault is not None:
            raise self.fault
        if any(one.request_id == self.refuses for one in captures):
            raise ValueError("this one cannot be stored")
        self.kept += captures
