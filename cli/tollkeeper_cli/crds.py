"""`tollkeeper crds`: the custom resource definitions, to be applied with kubectl."""

import click

from tollkeeper.crd import render


@click.command("crds")
def crds_command() -> None:
    """Print the custom resource definitions: `tollkeeper crds | kubectl apply -f -`."""
    click.echo("---\n".join(text for _, text in sorted(render().items())), nl=False)
