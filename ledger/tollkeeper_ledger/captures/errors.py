"""The errors of captures.

- `CapturesUnavailable` (an `Unavailable`): the store cannot be written or read now.
  - `NoCaptures`: there is none.
  - `CapturesFull`: it takes all that it may.
- `KeyMissing`: what was encrypted with a key that is not among those given.
- `CaptureDamaged`: it is not what was written, or stands in another's place.
"""

from tollkeeper.errors import TollkeeperError, Unavailable


class CapturesUnavailable(Unavailable):
    """Bodies cannot be written or read now; nothing of the call was done."""


class NoCaptures(CapturesUnavailable):
    """No body was ever kept there."""


class CapturesFull(CapturesUnavailable):
    """Bodies take as much as the settings let them."""


class KeyMissing(TollkeeperError):
    """A body was encrypted with a key that nobody gave."""


class CaptureDamaged(TollkeeperError):
    """A body is not what was written for this request, tenant and side."""
