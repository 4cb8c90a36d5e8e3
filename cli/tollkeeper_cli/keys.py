"""`tollkeeper keys`: API keys of the gateway, kept as hashes in Secrets of `tollkeeper-system` (W1, W5)."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click

from tollkeeper.errors import InvalidValue
from tollkeeper.keys import KEY_FIELD, KEY_LABEL, ApiKey, fingerprint, new_secret
from tollkeeper_cli import options
from tollkeeper_cli.failure import told_in_one_line
from tollkeeper_kube import SYSTEM_NAMESPACE, Kube, NotFound, Object, connect
from tollkeeper_kube.kinds import SECRET, TENANT

Result = TypeVar("Result")


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
    "--tenant", required=True, show_envvar=True, help="The tenant that requests with this key are charged to."
)
@click.option("--user", show_envvar=True, help="The one user of this key.")
@click.option(
    "--assistants", default="", show_envvar=True, help="Assistants that it may name, with commas between; else all."
)
@click.option(
    "--models", default="", show_envvar=True, help="Models that it may use (globs), with commas between; else all."
)
@click.option("--delegate", is_flag=True, show_envvar=True, help="Let callers name the user (header Tollkeeper-User).")
@options.context
@options.kubeconfig
def create_command(
    tenant: str,
    user: str | None,
    assistants: str,
    models: str,
    delegate: bool,
    context: str | None,
    kubeconfig: Path | None,
) -> None:
    """Create a key. Standard output is the key and nothing else: it is shown once and never stored."""
    if user and delegate:
        raise click.UsageError("--user and --delegate exclude each other: a key has one user, or lets callers name one")
    secret, key_id = new_secret()
    key = ApiKey(
        key_id, fingerprint(secret), tenant, user, _list(assistants), _list(models), delegate, created=datetime.now(UTC)
    )
    _on_cluster(context, kubeconfig, lambda kube: _create(kube, key))
    click.echo(
        f"key {key_id} of tenant {tenant}{f', user {user}' if user else ''}: keep it, it is not shown again", err=True
    )
    click.echo(secret)


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


async def _create(kube: Kube, key: ApiKey) -> None:
    if await kube.find(TENANT, key.tenant) is None:
        raise InvalidValue(f"--tenant: there is no tenant {key.tenant!r}; `kubectl get tenants` lists them")
    await kube.create(_manifest(key))


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
    return ApiKey.from_json(base64.b64decode((secret.get("data") or {}).get(KEY_FIELD, "")))


@keys_group.command("list")
@options.context
@options.kubeconfig
def list_command(context: str | None, kubeconfig: Path | None) -> None:
    """List the keys: id, tenant, user, what they permit, when made, whether revoked."""
    secrets = _on_cluster(
        context, kubeconfig, lambda kube: kube.list(SECRET, namespace=SYSTEM_NAMESPACE, label_selector=KEY_LABEL)
    )
    with told_in_one_line():
        keys = sorted((_parse(secret) for secret in secrets), key=lambda key: (key.tenant, key.id))
    rows = [("ID", "TENANT", "USER", "ASSISTANTS", "MODELS", "CREATED", "STATE"), *(_row(key) for key in keys)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(key: ApiKey) -> tuple[str, ...]:
    user = key.user or ("(delegate)" if key.delegate else "-")
    created = key.created.strftime("%Y-%m-%d %H:%M") if key.created else "-"
    permits = (",".join(key.assistants) or "all", ",".join(key.models) or "all")
    return (key.id, key.tenant, user, *permits, created, "revoked" if key.revoked else "active")


@keys_group.command("revoke")
@click.argument("key_id", metavar="ID")
@options.context
@options.kubeconfig
def revoke_command(key_id: str, context: str | None, kubeconfig: Path | None) -> None:
    """Revoke a key; it is refused everywhere within 5 seconds. The key stays listed."""
    _on_cluster(context, kubeconfig, lambda kube: _revoke(kube, key_id))
    click.echo(f"key {key_id} is revoked", err=True)


async def _revoke(kube: Kube, key_id: str) -> None:
    try:
        key = _parse(await kube.get(SECRET, _name(key_id), SYSTEM_NAMESPACE))
    except NotFound as error:
        raise InvalidValue(f"there is no key {key_id!r}; `tollkeeper keys list` shows their ids") from error
    if key.revoked is None:
        await kube.apply(_manifest(replace(key, revoked=datetime.now(UTC))))
