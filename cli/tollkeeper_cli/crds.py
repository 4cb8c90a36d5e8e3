"""`tollkeeper crds`: the custom resource definitions, to be applied with kubectl."""

import click


@click.command("crds")
def crds_command() -> None:
    """Print the custom resource definitions: `tollkeeper crds | kubectl apply -f -`."""
    from tollkeeper.crd import render  # all resources, which its help need not wait for

    click.echo("---\n".join(text for _, text in sorted(render().items())), nl=False)
