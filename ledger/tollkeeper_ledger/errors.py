"""The errors of the ledger."""

from tollkeeper.errors import TollkeeperError, Unavailable


class LedgerUnavailable(Unavailable):
    """The ledger cannot be written or read now (disk full, file locked); nothing of the call was booked.

    Where that is not certain, a storage raises `OutcomeUnknown` instead.
    """


class NoLedger(LedgerUnavailable):
    """The database answers and holds no ledger: no authority ever opened one there."""


class LedgerUnreadable(LedgerUnavailable):
    """What lies there of a ledger cannot be read as it lies, and asking again changes nothing; the message says what does."""


class Unstorable(TollkeeperError):
    """One call asks for what the ledger cannot store; nothing of it was booked, and asking again changes nothing."""


class LedgerInUse(TollkeeperError):
    """Another process writes this ledger; two writers would not know of each other's leases."""


class ChainBroken(TollkeeperError):
    """A transaction does not follow from the one before it, or does not sum to zero."""


class BooksDiffer(TollkeeperError):
    """A ledger's rows do not say what its chain says."""
