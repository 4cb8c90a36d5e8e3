"""`tollkeeper captures`: the bodies that are kept, who they are of, what they say, and their deletion (R27)."""

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import orjson

from tollkeeper.captures import Body, Capture
from tollkeeper.errors import InvalidValue
from tollkeeper.windows import format_time
from tollkeeper_cli import options
from tollkeeper_cli.capture_keys import keys_of
from tollkeeper_cli.failure import told_in_one_line
from tollkeeper_cli.output import reader_may_leave
from tollkeeper_cli.settings import InvalidSettings, Settings, StorageSettings, load
from tollkeeper_ledger.captures.storage import CaptureStore, Kept, open_captures
from tollkeeper_ledger.captures.sweeping import erase, erase_one

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal would obey; lines and tabs are not."""

_output = click.option(
    "--output",
    "-o",
    type=click.Choice(["table", "json"]),
    default="table",
    show_envvar=True,
    help="For people, or JSON as it is.",
)


@click.group("captures")
def captures_group() -> None:
    """List, show and delete the bodies of requests and answers that tenants want kept."""


@captures_group.command("list")
@click.option("--tenant", show_envvar=True, help="Those of one tenant; else of all.")
@click.option(
    "--most", type=click.IntRange(1, 100_000), default=100, show_envvar=True, help="So many, the latest first."
)
@_output
@options.config
@options.data_dir
def list_command(tenant: str | None, most: int, output: str, config: Path | None, data_dir: Path | None) -> None:
    """List what is kept: request, tenant, when, until when, status and size. Needs no key. Works while `tollkeeper up` runs."""
    with told_in_one_line(), _opened(_settings(config, data_dir), reads=True) as store:
        kept = store.listed(tenant, datetime.now(UTC), most)
        with reader_may_leave():
            if output == "json":
                click.echo(orjson.dumps([_kept(one) for one in kept], option=orjson.OPT_INDENT_2))
            else:
                _table([("REQUEST", "TENANT", "CAPTURED", "KEPT UNTIL", "STATUS", "BYTES"), *map(_row, kept)])


@captures_group.command("show")
@click.argument("request", metavar="REQUEST-ID")
@_output
@options.config
@options.data_dir
def show_command(request: str, output: str, config: Path | None, data_dir: Path | None) -> None:
    """Show both bodies of a request, decrypted with the keys that capture.keys of the settings names.

    Exit code 3 where what is stored is not what was kept of this request. Works while `tollkeeper up` runs.
    """
    with told_in_one_line():
        settings = _settings(config, data_dir)
        keys = keys_of(settings.capture)
        if keys is None:
            raise InvalidSettings(
                "capture.keys: the settings name no key to decrypt with; add it, and name the file with --config"
            )
        from tollkeeper_ledger.captures.vault import Vault

        with _opened(settings, reads=True) as store:
            found = Vault(store, keys).read(request, datetime.now(UTC))
        if found is None:
            raise InvalidValue(_missing(request))
        with reader_may_leave():
            click.echo(orjson.dumps(_shown(found), option=orjson.OPT_INDENT_2) if output == "json" else _told(found))


@captures_group.command("delete")
@click.argument("request", metavar="[REQUEST-ID]", required=False)
@click.option("--tenant", show_envvar=True, help="All that is kept of this tenant, instead of one request.")
@options.config
@options.data_dir
def delete_command(request: str | None, tenant: str | None, config: Path | None, data_dir: Path | None) -> None:
    """Delete what is kept of a request, or of a tenant, for good, and say how much that was. Needs no key.

    The ledger is not touched: that the request was made, and what it cost, stays. Works while `tollkeeper up` runs, which
    keeps what is captured from then on.
    """
    if (request is None) == (tenant is None):
        raise click.UsageError("name one request, or a tenant with --tenant")
    with told_in_one_line():
        with _opened(_settings(config, data_dir), reads=False) as store:
            deleted = erase(store, tenant) if tenant is not None else erase_one(store, request or "")
        if request is not None and not deleted:
            raise InvalidValue(_missing(request))
        with reader_may_leave("what was to be deleted is: do not repeat the command"):
            click.echo(f"{deleted} {'capture' if deleted == 1 else 'captures'} deleted")


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
