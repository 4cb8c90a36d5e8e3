"""What Prometheus is told. Labels are bounded: tenants and upstreams come from policy and settings, models are counted."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from tollkeeper.usage import BUCKETS, UsageRecord

MOST_MODELS: Final = 200
OTHER: Final = "other"
"""The label of models beyond the first 200: callers choose their names."""


class Metrics:
    """The gateway's counters and gauges in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        who = ("tenant", "provider", "model")
        self._tokens = Counter(
            "tollkeeper_usage_tokens_total", "Tokens used, by bucket.", ("bucket", *who), registry=self.registry
        )
        self._cost = Counter(
            "tollkeeper_usage_cost_nanodollars_total", "Cost of usage in nano-dollars.", who, registry=self.registry
        )
        self._requests = Counter(
            "tollkeeper_requests_total",
            "Requests that were passed on, by outcome.",
            ("tenant", "provider", "outcome"),
            registry=self.registry,
        )
        self._unpriced = Counter(
            "tollkeeper_unpriced_requests_total", "Requests without a price.", who, registry=self.registry
        )
        self._estimated = Counter(
            "tollkeeper_estimated_requests_total",
            "Requests whose usage had to be estimated.",
            who,
            registry=self.registry,
        )
        self._refusals = Counter(
            "tollkeeper_refusals_total", "Requests refused here.", ("reason",), registry=self.registry
        )
        self._captures_kept = Counter(
            "tollkeeper_captures_kept_total", "Requests whose bodies were kept.", registry=self.registry
        )
        self._captures_dropped = Counter(
            "tollkeeper_captures_dropped_total",
            "Requests whose bodies should have been kept and were not, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self._models: set[str] = set()

    def gauge(self, name: str, text: str) -> Gauge:
        """A gauge in this registry."""
        return Gauge(name, text, registry=self.registry)

    def settled(self, record: UsageRecord) -> None:
        """Count a settled request."""
        who = (record.caller.tenant, record.provider, self._model(record.model))
        self._requests.labels(record.caller.tenant, record.provider, record.outcome.value).inc()
        for bucket in BUCKETS:
            if count := getattr(record.buckets, bucket):
                self._tokens.labels(bucket, *who).inc(count)
        if record.cost is None:
            self._unpriced.labels(*who).inc()
        elif record.cost:
            self._cost.labels(*who).inc(record.cost)
        if record.estimated:
            self._estimated.labels(*who).inc()

    def refused(self, reason: str) -> None:
        """Count a refusal."""
        self._refusals.labels(reason).inc()

    def captures_kept(self, count: int) -> None:
        """Count requests whose bodies were kept."""
        self._captures_kept.inc(count)

    def captures_dropped(self, reason: str, count: int) -> None:
        """Count requests whose bodies were not kept."""
        self._captures_dropped.labels(reason).inc(count)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)

    def _model(self, model: str) -> str:
        if model not in self._models:
            if len(self._models) >= MOST_MODELS:
                return OTHER
            self._models.add(model)
        return model
