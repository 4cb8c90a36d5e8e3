"""The commands: where each is declared, and what the program's help says of it in a line.

A command's module declares it: options, help, and the checks of both. What it does it imports when it does it, since the
rooms of `up` take longer to load than most commands take in all, and `--help` and `--version` need none of them.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class Declared:
    """A command that is not loaded: `place` is its module and name, `line` what the list of commands says of it."""

    place: str
    line: str

    def load(self) -> click.Command:
        """The command."""
        module, _, name = self.place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


COMMANDS: Mapping[str, Declared] = {
    "up": Declared("tollkeeper_cli.up:up_command", "Run everything against a Kubernetes context."),
    "keys": Declared("tollkeeper_cli.keys:keys_group", "Create, list and revoke the gateway's API keys."),
    "adjust": Declared("tollkeeper_cli.adjust:adjust_command", "Correct what was spent of a budget or quota."),
    "refund": Declared("tollkeeper_cli.adjust:refund_command", "Give a booked request back to all its accounts."),
    "reconcile": Declared("tollkeeper_cli.reconcile:reconcile_command", "Compare a provider's usage with the ledger."),
    "captures": Declared("tollkeeper_cli.captures:captures_group", "List, show and delete bodies that are kept."),
    "export": Declared("tollkeeper_cli.export:export_command", "Write every transaction as a line of JSON."),
    "verify": Declared("tollkeeper_cli.verify:verify_command", "Check an export, or a ledger: every hash, every sum."),
    "what-if": Declared("tollkeeper_cli.what_if:what_if_command", "Replay the past under other policies or prices."),
    "crds": Declared("tollkeeper_cli.crds:crds_command", "Print the custom resource definitions."),
    "provider": Declared(
        "tollkeeper_cli.provider:provider_command", "Run a SIMULATED provider, for a try without one."
    ),
}
"""By name, in the order of a first use."""
