"""What the statuses of quotas and budgets share: where a window lies, and how the keys of `per` stand."""

from tollkeeper.resources.meta import Observed
from tollkeeper.resources.wire import Time


class Span(Observed):
    """A window of time: from its start up to, and without, its end."""

    start: Time | None = None
    """The first instant that belongs to it; left out where it has none (prepaid)."""
    end: Time | None = None
    """When the next one begins; left out where it never ends (prepaid)."""


class KeyCounts(Observed):
    """How many keys of `per` there are, and how many of them are in trouble (B5)."""

    total: int = 0
    """Keys with an account in this window."""
    low: int = 0
    """Keys below the low-balance threshold."""
    insufficient: int = 0
    """Keys that are used up."""


class TopKey(Observed):
    """One of the keys that used most."""

    key: str
    """The values of `per`, joined with a comma."""
    used: str
    """How much it used."""
    remaining: str
    """How much it may still use."""
    utilization: int
    """Percent used, rounded down."""
