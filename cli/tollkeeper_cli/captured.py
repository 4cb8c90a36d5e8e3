"""What `tollkeeper captures` works with: the store of bodies that settings name, and how what it has is told."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import orjson

from tollkeeper.captures import Body, Capture
from tollkeeper.errors import InvalidValue
from tollkeeper.windows import format_time
from tollkeeper_cli.capture_keys import keys_of
from tollkeeper_cli.ledgers import check_there
from tollkeeper_cli.settings import InvalidSettings, Settings, StorageSettings, load
from tollkeeper_ledger.captures.errors import NoCaptures
from tollkeeper_ledger.captures.storage import CaptureStore, Kept, open_captures
from tollkeeper_ledger.captures.sweeping import Erased, erase, erase_one

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal would obey; lines and tabs are not."""


def listed(config: Path | None, data_dir: Path | None, tenant: str | None, most: int) -> Sequence[Kept]:
    """What is kept of a tenant, or of all. Raises what `open_captures` and the store raise."""
    settings = _settings(config, data_dir)
    try:
        with _opened(settings, reads=True) as store:
            return store.listed(tenant, datetime.now(UTC), most)
    except NoCaptures:
        check_there(settings.storage.ledger)
        return ()


def read(config: Path | None, data_dir: Path | None, request: str) -> Capture:
    """What is kept of a request. Raises `InvalidSettings` without a key, `InvalidValue` where nothing is, or as `Vault`."""
    settings = _settings(config, data_dir)
    keys = keys_of(settings.capture)
    if keys is None:
        raise InvalidSettings(
            "capture.keys: the settings name no key to decrypt with; add it, and name the file with --config"
        )
    from tollkeeper_ledger.captures.vault import Vault  # it loads cryptography, which the other commands need not have

    with _opened(settings, reads=True) as store:
        found = Vault(store, keys).read(request, datetime.now(UTC))
    if found is None:
        raise InvalidValue(_missing(request))
    return found


def delete(config: Path | None, data_dir: Path | None, request: str | None, tenant: str | None) -> Erased:
    """Delete what is kept of a request or a tenant. Raises `InvalidValue` where nothing is kept of a request."""
    with _opened(_settings(config, data_dir), reads=False) as store:
        erased = erase(store, tenant) if tenant is not None else erase_one(store, request or "")
    if request is not None and erased == Erased(0, is_held=False):
        raise InvalidValue(_missing(request))
    return erased


def _settings(config: Path | None, data_dir: Path | None) -> Settings:
    settings = load(config)
    if data_dir is None:
        return settings
    return settings.model_copy(update={"storage": StorageSettings(directory=data_dir)})


@contextlib.contextmanager
def _opened(settings: Settings, *, reads: bool) -> Iterator[CaptureStore]:
    with contextlib.closing(open_captures(settings.storage.ledger, make=False, reads=reads)) as store:
        yield store


def _missing(request: str) -> str:
    return (
        f"nothing is kept of a request {request!r}: it was not captured, its time is over, or it was deleted; "
        "`tollkeeper captures list` shows what is kept"
    )


def tell_list(kept: Sequence[Kept], output: str) -> None:
    """Print a list, as a table or as JSON."""
    if output == "json":
        click.echo(orjson.dumps([_kept(one) for one in kept], option=orjson.OPT_INDENT_2))
    else:
        _table([("REQUEST", "TENANT", "CAPTURED", "KEPT UNTIL", "STATUS", "BYTES"), *map(_row, kept)])


def tell(one: Capture, output: str) -> None:
    """Print both bodies, for people or as JSON."""
    click.echo(orjson.dumps(_shown(one), option=orjson.OPT_INDENT_2) if output == "json" else _told(one))


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(one: Kept) -> tuple[str, ...]:
    times = (time.strftime("%Y-%m-%d %H:%M") for time in (one.captured_at, one.expires_at))
    return (one.request_id, one.tenant, *times, str(one.status), str(one.stored_bytes))


def _kept(one: Kept | Capture) -> dict[str, Any]:
    times = {"captured_at": format_time(one.captured_at), "kept_until": format_time(one.expires_at)}
    told = {"request_id": one.request_id, "tenant": one.tenant, **times, "status": one.status}
    return told | ({"stored_bytes": one.stored_bytes} if isinstance(one, Kept) else {})


def _shown(one: Capture) -> dict[str, Any]:
    return {**_kept(one), "request": _body(one.request), "answer": _body(one.answer)}


def _body(body: Body) -> dict[str, Any]:
    told = {"content_type": body.content_type, "bytes": body.size, "truncated": body.truncated}
    return told | {"body": body.content.decode("utf-8", "backslashreplace")}


def _told(one: Capture) -> str:
    until = format_time(one.expires_at)
    head = f"request {one.request_id} of tenant {one.tenant}, {format_time(one.captured_at)}, kept until {until}"
    return "\n".join((head, *_side("request", one.request), *_side(f"answer {one.status}", one.answer)))


def _side(name: str, body: Body) -> tuple[str, str]:
    cut = f", of which {len(body.content)} are kept" if body.truncated else ""
    head = f"--- {name}: {body.content_type or 'no content type'}, {body.size} bytes{cut}"
    text = body.content.decode("utf-8", "backslashreplace")
    return _plain(head), _plain(text)


def _plain(text: str) -> str:
    """Text for a terminal: what is no letter stands as its number."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
