"""`tollkeeper`: the commands and their options. Every option is also `TOLLKEEPER_<COMMAND>_<OPTION>` in the environment."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from tollkeeper_cli.commands import COMMANDS
from tollkeeper_cli.failure import Failed
from tollkeeper_cli.output import reader_may_leave


class _Program(click.Group):
    """The group of all commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the base class's own signature
        """In the order of a first use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        """Load one command."""
        return COMMANDS[cmd_name].load() if cmd_name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - likewise
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.line) for name, command in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named. A reader of its output that leaves early is no failure."""
        with reader_may_leave():
            return super().invoke(ctx)


@click.group(
    cls=_Program,
    context_settings={"auto_envvar_prefix": "TOLLKEEPER", "show_default": True, "help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a check found a violation.",
)
@click.version_option(package_name="tollkeeper", prog_name="tollkeeper")
def program() -> None:
    """Token quotas and AI budgets for Kubernetes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        with reader_may_leave():
            arguments = sys.argv[1:] if arguments is None else arguments
            program.main(args=list(arguments), prog_name="tollkeeper", standalone_mode=False)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("tollkeeper: stopped before it was done", err=True)
        return Failed.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
