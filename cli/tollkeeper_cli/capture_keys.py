"""The keys that bodies are encrypted with, as the settings name them. They are loaded when they are asked for."""

import stat
from typing import TYPE_CHECKING, Final

import structlog

from tollkeeper.errors import InvalidValue
from tollkeeper_cli.settings import CaptureSettings, InvalidSettings

if TYPE_CHECKING:  # it loads the cryptography of keys, which who has none need not have
    from tollkeeper_ledger.captures.sealing import Keys

_WHERE: Final = "capture.keys"

_log = structlog.get_logger("tollkeeper.captures")


def warn_of_readers(settings: CaptureSettings) -> None:
    """Tell in the log where others than its owner may read the file of the keys."""
    file = settings.keys.file if settings.keys else None
    mode = stat.S_IMODE(file.stat().st_mode) if file else 0
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        _log.warning(
            "others than its owner may read the keys of bodies: give the file the mode 0600, "
            "or a mounted secret the defaultMode 0400",
            file=str(file),
            mode=f"{mode:04o}",
        )


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
