"""`tollkeeper keys`: API keys of the gateway, kept as hashes in Secrets of `tollkeeper-system` (W1, W5)."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from tollkeeper.keys import PREFIX, ApiKey, fingerprint, new_secret
from tollkeeper_cli import options
from tollkeeper_cli.failure import Failed, told_in_one_line
from tollkeeper_cli.output import standard_output

if TYPE_CHECKING:  # it loads the edge to Kubernetes, which help need not wait for
    from tollkeeper_cli.key_secrets import KeySecrets


class _Checked(click.ParamType[Any]):
    """Text that fits a type of `tollkeeper.resources.wire`: a key must not name what no resource can be called."""

    name = "text"

    def __init__(self, kind: Literal["CallerName", "Line", "ObjectName"], *, several: bool = False) -> None:
        self._kind = kind
        self._several = several

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text, or with `several` a tuple of its parts; wrong usage where one does not fit."""
        from pydantic import TypeAdapter, ValidationError

        from tollkeeper.resources import wire  # with all resources, which help need not wait for

        adapter: TypeAdapter[Any] = TypeAdapter(getattr(wire, self._kind))
        parts = [part.strip() for part in value.split(",") if part.strip()] if self._several else [value]
        for part in parts:
            try:
                adapter.validate_python(part)
            except ValidationError as error:
                self.fail(error.errors()[0]["msg"].removeprefix("Value error, "), param, ctx)
        return tuple(parts) if self._several else value


class _KeyId(click.ParamType[Any]):
    """The public part of a key, by which lists and ledgers name it."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The id; wrong usage for anything else, which is not repeated when it is a key itself."""
        text = str(value)
        if not re.fullmatch(r"[0-9a-f]{12}", text):
            is_key = text.startswith(PREFIX)
            what = (
                "that is a key, of which the id is the part between the first two _" if is_key else f"{text!r} is no id"
            )
            self.fail(f"{what}; `tollkeeper keys list` shows the ids", param, ctx)
        return text


@click.group("keys")
def keys_group() -> None:
    """Create, list and revoke the gateway's API keys."""


def _secrets(context: str | None, kubeconfig: Path | None) -> "KeySecrets":
    from tollkeeper_cli.key_secrets import KeySecrets

    return KeySecrets(context, kubeconfig)


@keys_group.command("create")
@click.option(
    "--tenant",
    type=_Checked("ObjectName"),
    required=True,
    show_envvar=True,
    help="The tenant that requests with this key are charged to.",
)
@click.option("--user", type=_Checked("Line"), show_envvar=True, help="The one user of this key.")
@click.option(
    "--assistants",
    type=_Checked("CallerName", several=True),
    default="",
    show_envvar=True,
    help="Assistants that it may name, with commas between; else all.",
)
@click.option(
    "--models",
    type=_Checked("Line", several=True),
    default="",
    show_envvar=True,
    help="Models that it may use (globs), with commas between; else all.",
)
@click.option("--delegate", is_flag=True, show_envvar=True, help="Let callers name the user (header Tollkeeper-User).")
@options.context
@options.kubeconfig
def create_command(
    tenant: str,
    user: str | None,
    assistants: tuple[str, ...],
    models: tuple[str, ...],
    delegate: bool,
    context: str | None,
    kubeconfig: Path | None,
) -> None:
    """Create a key. Standard output is the key and nothing else: it is shown once and never stored."""
    if user and delegate:
        raise click.UsageError("--user and --delegate exclude each other: a key has one user, or lets callers name one")
    secret, key_id = new_secret()
    key = ApiKey(key_id, fingerprint(secret), tenant, user, assistants, models, delegate, created=datetime.now(UTC))
    with told_in_one_line():
        _secrets(context, kubeconfig).create(key)
    _show(secret, key)


def _show(secret: str, key: ApiKey) -> None:
    """Print the key and nothing else on standard output. Raises `Failed` when nobody can have read it: it is lost."""
    try:
        with standard_output() as output:
            output.write(f"{secret}\n".encode())
    except (OSError, Failed) as error:
        raise Failed(
            f"key {key.id} could not be shown ({error}) and is lost: `tollkeeper keys revoke {key.id}`, then create another"
        ) from error
    user = f", user {key.user}" if key.user else ""
    click.echo(f"key {key.id} of tenant {key.tenant}{user}: keep it, it is not shown again", err=True)


@keys_group.command("list")
@options.context
@options.kubeconfig
def list_command(context: str | None, kubeconfig: Path | None) -> None:
    """List the keys: id, tenant, user, what they permit, when made, whether revoked. What is damaged fails it at the end."""
    with told_in_one_line():
        keys, damaged = _secrets(context, kubeconfig).all()
    rows = [("ID", "TENANT", "USER", "ASSISTANTS", "MODELS", "CREATED", "STATE"), *(_row(key) for key in keys)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if damaged:
        raise Failed("; ".join(damaged))


def _row(key: ApiKey) -> tuple[str, ...]:
    user = key.user or ("(delegate)" if key.delegate else "-")
    created = key.created.strftime("%Y-%m-%d %H:%M") if key.created else "-"
    permits = (",".join(key.assistants) or "all", ",".join(key.models) or "all")
    return (key.id, key.tenant, user, *permits, created, "revoked" if key.revoked else "active")


@keys_group.command("revoke")
@click.argument("key_id", metavar="ID", type=_KeyId())
@options.context
@options.kubeconfig
def revoke_command(key_id: str, context: str | None, kubeconfig: Path | None) -> None:
    """Revoke a key; it is refused everywhere within 5 seconds. The key stays listed."""
    with told_in_one_line():
        before = _secrets(context, kubeconfig).revoke(key_id)
    since = f" since {before.strftime('%Y-%m-%d %H:%M')} UTC" if before else ""
    click.echo(f"key {key_id} is revoked{since}", err=True)
