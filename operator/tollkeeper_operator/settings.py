"""What can be set about the operator; each has a default that fits."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Times in seconds. `port` None serves nothing: whoever embeds the operator asks it directly."""

    host: str = "127.0.0.1"
    port: int | None = 8082
    system_namespace: str = "tollkeeper-system"
    keeps_bodies: bool = True
    """Whether there is a key to encrypt bodies with; where there is none, tenants that want them kept are told (R27)."""
    debounce: float = 0.05
    """How long changes are gathered before they are decided on together."""
    coalesce: float = 3.0
    """How far apart two writes of one status are while nothing but numbers changes (H4: status within 5 s)."""
    heartbeat: float = 60.0
    """How old `asOf` becomes while nothing changes at all."""
    tick: float = 1.0
    """How often the clock is looked at: windows that ended, grants whose time has come."""
    reread: float = 15.0
    """How often all shared accounts are read again, so that nothing rests on being told alone."""
    relist: float = 60.0
    """How often the kinds are listed again: watches do not tell of what was deleted while they were broken."""
    forecast: float = 15.0
    """How old a forecast becomes while spending goes on."""
    unpriced: float = 5.0
    """How far apart the ledger is asked for usage without a price of one object while usage goes on (M6)."""
    late: float = 15.0
    """How old usage may become before it is booked without statuses saying that their numbers lack it (I5)."""
    writes_at_once: int = 8
    """How many writes to the API server are under way at once."""
    stalled: float = 15.0
    """After how long without a decision `/healthz` fails."""
