"""How grants are burned: after allocation and rollover, by priority, then expiry, then age. Pure arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Share:
    """What one grant put into one account. `amount` is in the account's unit; a smaller priority burns first."""

    grant: str
    amount: int
    priority: int
    created: datetime
    expires_at: datetime | None


def remaining(shares: Sequence[Share], *, base: int, used: int) -> dict[str, int]:
    """What is left of each grant when `used` is spent out of `base` (allocation and rollover) first, then of the grants."""
    over = max(0, used - max(0, base))
    left: dict[str, int] = {}
    for share in sorted(shares, key=lambda s: (s.priority, s.expires_at or _NEVER, s.created, s.grant)):
        burned = min(over, share.amount)
        left[share.grant] = share.amount - burned
        over -= burned
    return left
