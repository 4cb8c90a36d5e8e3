"""What the webhook counts; labels are bounded: paths, our kinds and the six workload kinds, and two verdicts."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_OUR_KINDS = ("Tenant", "TokenQuota", "TokenBudget", "TokenGrant", "PriceBook")
_WORKLOADS = ("Pod", "Deployment", "StatefulSet", "ReplicaSet", "DaemonSet", "Job", "CronJob")
_KINDS = frozenset((*_OUR_KINDS, *_WORKLOADS))


class WebhookMetrics:
    """Counters of one webhook, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reviews = Counter(
            "tollkeeper_admission_reviews",
            "Admission reviews answered.",
            ("path", "kind", "verdict"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "tollkeeper_admission_seconds",
            "How long an answer took.",
            ("path",),
            buckets=_BOUNDS,
            registry=self.registry,
        )

    def answered(self, path: str, kind: str, *, allowed: bool, seconds: float) -> None:
        """Count one answer."""
        known = kind if kind in _KINDS else "other"
        self._reviews.labels(path, known, "allowed" if allowed else "refused").inc()
        self._seconds.labels(path).observe(seconds)

    def exposed(self) -> bytes:
        """The text that `/metrics` answers."""
        return generate_latest(self.registry)
