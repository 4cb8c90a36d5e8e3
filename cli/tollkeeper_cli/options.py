"""Options that several commands share."""

from pathlib import Path

import click

config = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="TOLLKEEPER_CONFIG",
    show_envvar=True,
    help="Settings file (YAML): upstreams, storage, ports, capture.",
)
context = click.option(
    "--context",
    envvar="TOLLKEEPER_CONTEXT",
    show_envvar=True,
    help="Context of the kubeconfig; without it, the current one.",
)
kubeconfig = click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="TOLLKEEPER_KUBECONFIG",
    show_envvar=True,
    help="Kubeconfig file; without it, $KUBECONFIG, the pod's own account, or ~/.kube/config.",
)
data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TOLLKEEPER_DATA_DIR",
    show_envvar=True,
    help="Folder of the ledger and the gateway's spool; goes before storage.directory of the settings.",
)
