"""What can go wrong in the gateway: one small tree.

- `GatewayError`: the gateway cannot start or go on; its text says what, where and what to do.
  - `SpoolError`: the spool cannot be written or read.
    - `SpoolFull`: it reached its bound, or its disk is full.
- `RequestRefused`: one request is answered by the gateway itself. It carries a `Denial` and what the answer has to tell;
  which HTTP status and shape that becomes is decided at the edge (`openai_errors`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from tollkeeper.errors import TollkeeperError


class GatewayError(TollkeeperError):
    """The gateway cannot start or go on."""


class SpoolError(GatewayError):
    """The spool cannot be written or read."""


class SpoolFull(SpoolError):
    """The spool reached its bound, or the disk under it is full."""


class Denial(Enum):
    """Why a request is not passed on (F1, F2, H3, M6)."""

    BAD_REQUEST = auto()
    KEY_INVALID = auto()
    NOT_PERMITTED = auto()
    NOT_METERED = auto()
    MODEL_NOT_PRICED = auto()
    UNKNOWN_ROUTE = auto()
    BODY_TOO_LARGE = auto()
    HEADERS_TOO_LARGE = auto()
    CONTENDED = auto()
    USED_UP = auto()
    OURS = auto()
    PROVIDER_UNREACHABLE = auto()


@dataclass(slots=True)
class RequestRefused(Exception):
    """One request is refused. `code` replaces the denial's usual one; `param` names the field at fault.

    `retry_after` is whole seconds; `resets` is when the limit that refused begins again; `limits` are all that were looked
    at, as data.
    """

    denial: Denial
    message: str
    param: str | None = None
    code: str | None = None
    retry_after: int | None = None
    resets: datetime | None = None
    limits: tuple[Mapping[str, object], ...] = ()

    def __str__(self) -> str:
        return self.message
