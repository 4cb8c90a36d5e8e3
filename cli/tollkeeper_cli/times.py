"""Times as options state them."""

from datetime import datetime

from tollkeeper.errors import shown
from tollkeeper_cli.errors import WrongRequest


def time_of(option: str, text: str | None) -> datetime | None:
    """The instant of an RFC 3339 text. Raises `WrongRequest` that names the option."""
    try:
        time = datetime.fromisoformat(text) if text else None
    except ValueError as error:
        raise WrongRequest(
            f"{option} {shown(text)} is not a time: write RFC 3339, such as 2026-11-01T00:00:00Z"
        ) from error
    if time is not None and time.tzinfo is None:
        raise WrongRequest(f"{option} {shown(text)} has no time zone: write an offset, such as {time.isoformat()}Z")
    return time
