"""`tollkeeper keys`: API keys of the gateway, kept as hashes in Secrets of `tollkeeper-system` (W1, W5)."""

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import TypeAdapter, ValidationError

from tollkeeper.errors import InvalidValue
from tollkeeper.keys import KEY_FIELD, KEY_LABEL, PREFIX, ApiKey, fingerprint, new_secret
from tollkeeper.resources.wire import CallerName, Line, ObjectName
from tollkeeper_cli import options
from tollkeeper_cli.failure import Failed, told_in_one_line
from tollkeeper_cli.output import standard_output
from tollkeeper_kube import SYSTEM_NAMESPACE, Kube, NotFound, Object, connect
from tollkeeper_kube.kinds import SECRET, TENANT

Result = TypeVar("Result")


class _Checked(click.ParamType[Any]):
    """Text that fits a type of the resources: a key must not name what no resource can be called."""

    name = "text"

    def __init__(self, kind: Any, *, several: bool = False) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
        self._several = several

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text, or with `several` a tuple of its parts; wrong usage where one does not fit."""
        parts = [part.strip() for part in value.split(",") if part.strip()] if self._several else [value]
        for part in parts:
            try:
                self._adapter.validate_python(part)
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


def _on_cluster(context: str | None, kubeconfig: Path | None, work: Callable[[Kube], Awaitable[Result]]) -> Result:
    async def connected() -> Result:
        async with await connect(context, kubeconfig) as kube:
            return await work(kube)

    with told_in_one_line():
        return asyncio.run(connected())


@keys_group.command("create")
@click.option(
    "--tenant",
    type=_Checked(ObjectName),
    required=True,
    show_envvar=True,
    help="The tenant that requests with this key are charged to.",
)
@click.option("--user", type=_Checked(Line), show_envvar=True, help="The one user of this key.")
@click.option(
    "--assistants",
    type=_Checked(CallerName, several=True),
    default="",
    show_envvar=True,
    help="Assistants that it may name, with commas between; else all.",
)
@click.option(
    "--models",
    type=_Checked(Line, several=True),
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
    _on_cluster(context, kubeconfig, lambda kube: _create(kube, key))
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


async def _create(kube: Kube, key: ApiKey) -> None:
    if await kube.find(TENANT, key.tenant) is None:
        raise InvalidValue(f"--tenant: there is no tenant {key.tenant!r}; `kubectl get tenants` lists them")
    try:
        await kube.create(_manifest(key))
    except NotFound as error:
        raise InvalidValue(f"{error}; `tollkeeper up` makes it at its start") from error


def _manifest(key: ApiKey) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "tollkeeper.dev/api-key",
        "metadata": {"name": _name(key.id), "namespace": SYSTEM_NAMESPACE, "labels": {KEY_LABEL: key.id}},
        "data": {KEY_FIELD: base64.b64encode(key.to_json().encode()).decode()},
    }


def _name(key_id: str) -> str:
    return f"key-{key_id}"


def _parse(secret: Object) -> ApiKey:
    """The key in a Secret. Raises `InvalidValue` that names the Secret of a damaged one."""
    try:
        return ApiKey.from_json(base64.b64decode((secret.get("data") or {}).get(KEY_FIELD, "")))
    except ValueError as error:
        name = secret["metadata"]["name"]
        raise InvalidValue(
            f"Secret {SYSTEM_NAMESPACE}/{name} holds no readable key, and none is in force by it: "
            f"`kubectl delete secret {name} -n {SYSTEM_NAMESPACE}`"
        ) from error


@keys_group.command("list")
@options.context
@options.kubeconfig
def list_command(context: str | None, kubeconfig: Path | None) -> None:
    """List the keys: id, tenant, user, what they permit, when made, whether revoked. What is damaged fails it at the end."""
    secrets = _on_cluster(
        context, kubeconfig, lambda kube: kube.list(SECRET, namespace=SYSTEM_NAMESPACE, label_selector=KEY_LABEL)
    )
    keys, damaged = _sorted(secrets)
    rows = [("ID", "TENANT", "USER", "ASSISTANTS", "MODELS", "CREATED", "STATE"), *(_row(key) for key in keys)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if damaged:
        raise Failed("; ".join(damaged))


def _sorted(secrets: Iterable[Object]) -> tuple[list[ApiKey], list[str]]:
    """The keys by tenant, and what is wrong with Secrets that hold none."""
    keys: list[ApiKey] = []
    damaged: list[str] = []
    for secret in secrets:
        try:
            keys.append(_parse(secret))
        except InvalidValue as error:
            damaged.append(str(error))
    return sorted(keys, key=lambda key: (key.tenant, key.id)), damaged


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
    before = _on_cluster(context, kubeconfig, lambda kube: _revoke(kube, key_id))
    since = f" since {before.strftime('%Y-%m-%d %H:%M')} UTC" if before else ""
    click.echo(f"key {key_id} is revoked{since}", err=True)


async def _revoke(kube: Kube, key_id: str) -> datetime | None:
    """Revoke a key, and return since when it is, where it was revoked before: that stands."""
    try:
        key = _parse(await kube.get(SECRET, _name(key_id), SYSTEM_NAMESPACE))
    except NotFound as error:
        raise InvalidValue(f"there is no key {key_id!r}; `tollkeeper keys list` shows their ids") from error
    if key.revoked is None:
        await kube.apply(_manifest(replace(key, revoked=datetime.now(UTC))))
    return key.revoked
