"""`tollkeeper up`: operator, webhook, authority, gateway and console in one process over SQLite."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tollkeeper_cli import options
from tollkeeper_cli.failure import told_in_one_line
from tollkeeper_cli.settings import PortSettings, Settings, load

_PORT = click.IntRange(0, 65535)
Command = TypeVar("Command", bound=Callable[..., Any])


def _port_option(name: str, what: str) -> Callable[[Command], Command]:
    default = PortSettings.model_fields[name].default
    return click.option(
        f"--{name.replace('_', '-')}-port",
        type=_PORT,
        show_envvar=True,
        show_default=str(default),
        help=f"Port of the {what}; 0 takes a free one.",
    )


@click.command("up")
@options.config
@options.context
@options.kubeconfig
@options.data_dir
@click.option("--install/--no-install", default=True, show_envvar=True, help="Install CRDs and policies at the start.")
@click.option(
    "--webhook-host", default="127.0.0.1", show_envvar=True, help="Address at which the API server reaches the webhook."
)
@_port_option("gateway", "gateway")
@_port_option("gateway_metrics", "gateway's metrics and health")
@_port_option("webhook", "admission webhook (TLS)")
@_port_option("webhook_health", "webhook's metrics and health")
@_port_option("operator", "operator's metrics and health")
@_port_option("console", "console")
def up_command(
    config: Path | None,
    context: str | None,
    kubeconfig: Path | None,
    data_dir: Path | None,
    install: bool,
    webhook_host: str,
    **ports: int | None,
) -> None:
    """Run everything against the current (or named) context, until SIGTERM, Ctrl-C or the end of its terminal.

    Ready when http://127.0.0.1:8082/readyz answers 200. The console and the gateway listen on loopback. At its end
    requests in flight may finish for 25 seconds; after 60 seconds, or at a second signal, it ends at once.
    """
    with told_in_one_line():
        settings = _merged(load(config), data_dir, ports)
        from tollkeeper_cli.process import (
            run_until_stopped,  # all rooms, which help and wrong settings need not wait for
        )

        run_until_stopped(settings, context, kubeconfig, install_all=install, webhook_host=webhook_host)


def _merged(settings: Settings, data_dir: Path | None, ports: dict[str, int | None]) -> Settings:
    """The file's settings with the options over them."""
    given = {name.removesuffix("_port"): port for name, port in ports.items() if port is not None}
    merged = settings.model_copy(update={"ports": settings.ports.model_copy(update=given)})
    if data_dir is None:
        return merged
    return merged.model_copy(update={"storage": settings.storage.model_copy(update={"directory": data_dir})})
