"""`tollkeeper`: the commands and their options. Every option is also `TOLLKEEPER_<COMMAND>_<OPTION>` in the environment."""

import sys
from collections.abc import Sequence
from importlib.metadata import version

import click

from tollkeeper_cli.adjust import adjust_command, refund_command
from tollkeeper_cli.books import export_command, verify_command
from tollkeeper_cli.crds import crds_command
from tollkeeper_cli.failure import FAILED
from tollkeeper_cli.keys import keys_group
from tollkeeper_cli.reconcile import reconcile_command
from tollkeeper_cli.simulated import provider_command
from tollkeeper_cli.up import up_command
from tollkeeper_cli.what_if import what_if_command


@click.group(
    context_settings={"auto_envvar_prefix": "TOLLKEEPER", "show_default": True, "help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a check found a violation.",
)
@click.version_option(version("tollkeeper"), prog_name="tollkeeper")
def program() -> None:
    """Token quotas and AI budgets for Kubernetes."""


COMMANDS = (
    up_command,
    keys_group,
    adjust_command,
    refund_command,
    reconcile_command,
    export_command,
    verify_command,
    what_if_command,
    crds_command,
    provider_command,
)
for command in COMMANDS:
    program.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        program.main(args=None if arguments is None else list(arguments), prog_name="tollkeeper", standalone_mode=False)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("tollkeeper: stopped before it was done", err=True)
        return FAILED
    except BrokenPipeError:
        # Whoever read our output had enough of it (`tollkeeper export | head`).
        sys.stderr.close()
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
