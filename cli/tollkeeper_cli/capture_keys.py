"""The keys that bodies are encrypted with, as the settings name them. They are loaded when they are asked for."""

from typing import TYPE_CHECKING, Final

from tollkeeper.errors import InvalidValue
from tollkeeper_cli.settings import CaptureSettings, InvalidSettings

if TYPE_CHECKING:  # it loads the cryptography of keys, which who has none need not have
    from tollkeeper_ledger.captures.sealing import Keys

_WHERE: Final = "capture.keys"


def keys_of(settings: CaptureSettings) -> "Keys | None":
    """The keys that the settings name, if they do. Raises `InvalidSettings` for what are none; nothing of them is told."""
    if settings.keys is None:
        return None
    text = settings.keys.read(_WHERE, "a key of 32 bytes as base64, one a line,")
    try:
        from tollkeeper_ledger.captures.sealing import parse_keys

        return parse_keys(text)
    except ImportError as error:
        raise InvalidSettings(f"{_WHERE}: {error}; install tollkeeper[captures]") from error
    except InvalidValue as error:
        raise InvalidSettings(f"{_WHERE}: {error}") from error
