"""What the person who runs the demo may choose, all from the environment that `make` passes on."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tollkeeper_demo.telling import StoryError
from tollkeeper_demo.trace import TrafficRow, read_trace

PORTS: Mapping[str, tuple[str, int]] = {
    "console": ("PORT", 8080),
    "gateway": ("GATEWAY_PORT", 4040),
    "gateway_metrics": ("GATEWAY_METRICS_PORT", 4041),
    "webhook": ("WEBHOOK_PORT", 8443),
    "webhook_health": ("WEBHOOK_HEALTH_PORT", 8081),
    "operator": ("OPERATOR_PORT", 8082),
    "provider": ("PROVIDER_PORT", 4050),
}
"""Server → the variable that moves it, and where it listens otherwise."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """`once`: check every step and end. `trace`: rows to send instead of generated traffic. `context`: a named cluster.

    `webhook_host` is the address at which a cluster that is not ours reaches this machine.
    """

    once: bool
    trace: tuple[TrafficRow, ...] | None
    context: str | None
    ports: Mapping[str, int]
    webhook_host: str | None = None
    seed: int = 2026


def from_environment(environment: Mapping[str, str] = os.environ) -> DemoSettings:
    """The settings. Raises `StoryError` that names the variable that cannot be, `TraceError` that names file and line."""
    trace = environment.get("TRACE")
    if trace and not Path(trace).is_file():
        raise StoryError(
            f"TRACE={trace}: there is no such file; name a CSV with TIMESTAMP,ContextTokens,GeneratedTokens"
        )
    return DemoSettings(
        once=environment.get("ONCE", "") not in ("", "0"),
        trace=tuple(read_trace(Path(trace))) if trace else None,
        context=environment.get("CONTEXT") or None,
        webhook_host=environment.get("WEBHOOK_HOST") or None,
        ports={server: _port(environment, variable, default) for server, (variable, default) in PORTS.items()},
    )


def _port(environment: Mapping[str, str], variable: str, default: int) -> int:
    text = environment.get(variable) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise StoryError(f"{variable}={text}: it is not a port; write a number from 1 to 65535")
    return int(text)
