"""The operator's metrics, in a registry of its own. Labels are kinds, reasons and results: bounded."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@dataclass(slots=True)
class Metrics:
    """What the operator counts."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    decisions: Histogram = field(init=False)
    failures: Counter = field(init=False)
    objects: Gauge = field(init=False)
    accounts: Gauge = field(init=False)
    writes: Counter = field(init=False)
    unwritten: Gauge = field(init=False)
    write_lag: Histogram = field(init=False)
    events: Counter = field(init=False)
    gates: Gauge = field(init=False)
    unbooked: Gauge = field(init=False)
    watch_restarts: Gauge = field(init=False)
    decided: Gauge = field(init=False)

    def __post_init__(self) -> None:
        own = self.registry
        self.decisions = Histogram(
            "tollkeeper_operator_decision_seconds", "One pass over what changed", registry=own, buckets=_SECONDS
        )
        self.failures = Counter(
            "tollkeeper_operator_failures_total", "Passes that ended early, by part", ["part"], registry=own
        )
        self.objects = Gauge("tollkeeper_operator_objects", "Objects known, by kind", ["kind"], registry=own)
        self.accounts = Gauge("tollkeeper_operator_accounts", "Accounts of current windows", registry=own)
        self.writes = Counter(
            "tollkeeper_operator_status_writes_total",
            "Statuses written, by kind and result",
            ["kind", "result"],
            registry=own,
        )
        self.unwritten = Gauge(
            "tollkeeper_operator_statuses_unwritten",
            "Objects whose status could not be written when it was tried last, by kind",
            ["kind"],
            registry=own,
        )
        self.write_lag = Histogram(
            "tollkeeper_operator_status_lag_seconds",
            "From the time a status was due until it was written, by kind",
            ["kind"],
            registry=own,
            buckets=_SECONDS,
        )
        self.events = Counter(
            "tollkeeper_operator_events_total", "Events, by reason and result", ["reason", "result"], registry=own
        )
        self.gates = Gauge("tollkeeper_operator_gates", "Workload gates, by state", ["state"], registry=own)
        self.unbooked = Gauge(
            "tollkeeper_operator_unbooked_requests",
            "Requests that gateways had settled some time ago, by their own count, and that are not booked",
            registry=own,
        )
        self.watch_restarts = Gauge(
            "tollkeeper_operator_watch_restarts", "Times the watch was started again", registry=own
        )
        self.decided = Gauge(
            "tollkeeper_operator_last_decision_timestamp_seconds",
            "When the last pass ended, as Unix time",
            registry=own,
        )
