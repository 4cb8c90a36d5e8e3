"""What is wrong with single accounts, told in the log: whoever is refused for it is not told more than that it is."""

import structlog

from tollkeeper.leases import LeaseReply, Reason

MOST_REMEMBERED = 1000

_log = structlog.get_logger("tollkeeper.authority")


class AccountFaults:
    """Says once of each account that nothing can be set aside there, until it could be said of very many."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, reply: LeaseReply) -> None:
        """Log the faults that a reply refuses for."""
        for refusal in reply.refused:
            if refusal.reason is Reason.FAULT and refusal.account not in self._told:
                if len(self._told) >= MOST_REMEMBERED:
                    self._told.clear()
                self._told.add(refusal.account)
                _log.error(
                    "an account grants nothing, whatever is left there", account=refusal.account, error=refusal.fault
                )
