"""The story, step by step. Each step runs real commands and checks what it says; what does not hold ends it."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import openai

from tollkeeper_demo.comparison import Comparison, compare, dollars, usages_of
from tollkeeper_demo.stage import Stage
from tollkeeper_demo.telling import Figure, StoryError
from tollkeeper_demo.trace import TrafficRow
from tollkeeper_demo.traffic import Result, Summary, endless, send

NAMESPACE, BUDGET = "research", "monthly"
MODEL = "gpt-5-mini"
CALLERS = 16
LONGEST_TRAFFIC_SECONDS = 60.0
ADMISSIONS, AT_ONCE = 100, 4
METERED_POD = ("kubectl", "run", "worker", "--image=worker", "--labels=tollkeeper.dev/metered=true", "-n", NAMESPACE)
GET_BUDGETS = ("kubectl", "get", "tokenbudgets", "-n", NAMESPACE)


def _not_spent(rows: int | None) -> str:
    what = f"{LONGEST_TRAFFIC_SECONDS:.0f} s of traffic"
    if rows is not None:
        what = f"the {rows} rows of TRACE: name a longer trace, or lower the allocation in examples/demo"
    return f"the budget is not spent after {what}"


@dataclass(slots=True)
class Seen:
    """What the traffic showed while it ran."""

    results: list[Result] = field(default_factory=list)
    last_ok: float = 0.0
    insufficient_at: float | None = None
    refused_at: float | None = None

    def note(self, result: Result) -> None:
        """Take one result of the client."""
        self.results.append(result)
        if result.error is None:
            self.last_ok = time.monotonic()

    @property
    def quota_error(self) -> openai.APIError | None:
        """The last quota exception that the client raised."""
        errors = (r.error for r in reversed(self.results) if r.refusal and r.refusal[1] == "insufficient_quota")
        return next(errors, None)


class Story:
    """The steps over one stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._teller = stage, stage.teller
        self._key = ""
        self._figures: list[Figure] = []

    async def tell(self) -> None:
        """All steps in their order. Raises `StoryError` at the first that does not hold."""
        began = time.monotonic()
        await self._policies()
        seen = await self._traffic()
        self._exception(seen)
        await self._refusals(seen)
        await self._without_us()
        await self._top_up()
        await self._books()
        await self._admission()
        took = time.monotonic() - began
        self._measure(Figure("the whole story", f"{took:.1f} s", "under 60 s", took < 60, decides=False))
        self._teller.table(self._figures)
        failed = [figure.name for figure in self._figures if figure.held is False and figure.decides]
        if failed:
            raise StoryError(f"not as asked for: {', '.join(failed)}")

    def _measure(self, figure: Figure) -> None:
        self._figures.append(figure)

    async def _policies(self) -> None:
        self._teller.step("A platform team applies its tenants, quotas and budgets")
        await self._stage.run("kubectl", "apply", "-f", "examples/demo/")
        await self._until("the budget to be Ready", lambda: self._budget().get("phase") == "Sufficient")
        await self._stage.run(*GET_BUDGETS)
        created = await asyncio.to_thread(self._stage.quiet, "tollkeeper", "keys", "create", "--tenant", NAMESPACE)
        self._key = created.stdout.strip()
        self._teller.command(
            f"tollkeeper keys create --tenant {NAMESPACE}", "tk_… (shown once, kept by the application)"
        )
        if not self._key:
            raise StoryError("`tollkeeper keys create` printed no key")

    async def _traffic(self) -> Seen:
        self._teller.step(
            f"{CALLERS} callers send traffic through the gateway with the official client, JSON and streaming"
        )
        seen, stop = Seen(), asyncio.Event()
        trace = self._stage.settings.trace
        rows = trace or endless(self._stage.settings.seed)
        sending = asyncio.create_task(self._send(rows, seen, stop))
        watching = asyncio.create_task(self._watch_budget(seen, stop))
        refusing = asyncio.create_task(self._watch_gate(seen, stop))
        try:
            summary = await asyncio.wait_for(sending, LONGEST_TRAFFIC_SECONDS + 20)
            await asyncio.wait_for(asyncio.gather(watching, refusing), 20)
        except TimeoutError as late:
            raise StoryError(_not_spent(None if trace is None else len(trace))) from late
        finally:
            for task in (sending, watching, refusing):
                task.cancel()
        self._tell_traffic(summary)
        return seen

    async def _send(self, rows: Any, seen: Seen, stop: asyncio.Event) -> Summary:
        return await send(
            rows, self._stage.address("gateway", "/openai/v1"), self._key,
            models=(MODEL,), callers=CALLERS, on_result=seen.note, stop=stop,
        )  # fmt: skip

    def _tell_traffic(self, summary: Summary) -> None:
        per_second = summary.sent / summary.seconds
        self._teller.say(
            f"{summary.sent} requests in {summary.seconds:.1f} s ({per_second:.0f}/s): {summary.ok} answered, "
            + ", ".join(f"{count} {name} {code}" for (name, code), count in sorted(summary.refused.items()))
        )
        median, p99 = summary.median_seconds * 1000, summary.p99_seconds * 1000
        self._measure(Figure("requests answered", f"{summary.ok} (median {median:.0f} ms, p99 {p99:.0f} ms)"))

    async def _watch_budget(self, seen: Seen, stop: asyncio.Event) -> None:
        """Show `kubectl get` whenever the budget passes a threshold or changes its phase, until it is Insufficient."""
        shown: tuple[Any, ...] = ("Sufficient", 0)
        deadline = time.monotonic() + LONGEST_TRAFFIC_SECONDS
        while time.monotonic() < deadline:
            status = await asyncio.to_thread(self._budget)
            passed = sum(status.get("utilization", 0) >= threshold for threshold in (50, 80, 95, 100))
            now = (status.get("phase"), passed)
            if now != shown:
                shown = now
                await self._stage.run(*GET_BUDGETS)
            if status.get("phase") == "Insufficient":
                seen.insufficient_at = time.monotonic()
                stop.set()
                return
            await asyncio.sleep(0.2)
        stop.set()
        raise StoryError(
            f"budget {NAMESPACE}/{BUDGET} is not Insufficient after {LONGEST_TRAFFIC_SECONDS:.0f} s of traffic"
        )

    async def _watch_gate(self, seen: Seen, stop: asyncio.Event) -> None:
        """Ask for a metered pod again and again (dry run) until the API server refuses it."""
        while seen.refused_at is None:
            outcome = await asyncio.to_thread(self._stage.quiet, *METERED_POD, "--dry-run=server")
            if outcome.returncode != 0:
                seen.refused_at = time.monotonic()
            elif stop.is_set() and time.monotonic() - seen.last_ok > 30:
                raise StoryError("the budget is spent and metered pods are still let in after 30 s")
            await asyncio.sleep(0.1)

    def _exception(self, seen: Seen) -> None:
        self._teller.step("The client raises its own quota exception")
        error = seen.quota_error
        if not isinstance(error, openai.RateLimitError):
            raise StoryError(
                f"the client raised {type(error).__name__}, not openai.RateLimitError with insufficient_quota"
            )
        self._teller.say(f"openai.RateLimitError: {error.message}")

    async def _refusals(self, seen: Seen) -> None:
        self._teller.step("A metered pod is refused by the API server")
        said = await self._stage.run(*METERED_POD, fails=True)
        if BUDGET not in said:
            raise StoryError(f"the refusal does not name the budget: {said}")
        took = max(0.0, (seen.refused_at or 0.0) - seen.last_ok)
        self._measure(Figure("refusal in force after the last answer", f"{took:.2f} s", "2 s at the latest", took <= 2))
        self._measure(
            Figure(
                "memory of `tollkeeper up`",
                f"{self._stage.up.memory_mib()} MiB",
                "under 200 MB",
                self._stage.up.memory_mib() < 190,
            )
        )

    async def _without_us(self) -> None:
        self._teller.step("… and again with everything of ours stopped")
        self._stage.up.stop()
        self._teller.command("# `tollkeeper up` is stopped", "")
        await self._stage.run(*METERED_POD, fails=True)
        await self._stage.start_up()

    async def _top_up(self) -> None:
        self._teller.step("A grant is applied: pod and requests pass again")
        began = time.monotonic()
        await self._stage.run("kubectl", "apply", "-f", "examples/demo/top-up/")
        await self._until(
            "the pod to pass", lambda: self._stage.quiet(*METERED_POD, "--dry-run=server").returncode == 0, every=0.05
        )
        pod = time.monotonic() - began
        await self._until_request_passes()
        request = time.monotonic() - began
        await self._stage.run(*METERED_POD)
        await self._stage.run(*GET_BUDGETS)
        await self._stage.run("kubectl", "get", "tokengrants", "-n", NAMESPACE)
        self._measure(Figure("release of pods after `kubectl apply` of the grant", f"{pod:.2f} s"))
        self._measure(Figure("release of requests after it", f"{request:.2f} s"))

    async def _until_request_passes(self) -> None:
        deadline = time.monotonic() + 15
        row = TrafficRow(1469, 13, datetime.now().astimezone())
        while True:
            summary = await send(
                [row], self._stage.address("gateway", "/openai/v1"), self._key, models=(MODEL,), callers=1
            )
            if summary.ok:
                return
            if time.monotonic() > deadline:
                raise StoryError(f"requests are still refused 15 s after the grant: {dict(summary.refused)}")
            await asyncio.sleep(0.1)

    async def _books(self) -> None:
        self._teller.step("The books: what the provider served against what the ledger charged")
        exported = await asyncio.to_thread(
            self._stage.quiet, "tollkeeper", "export", "--data-dir", str(self._stage.data)
        )
        if exported.returncode != 0:
            raise StoryError(f"`tollkeeper export` failed: {exported.stderr.strip()}")
        (self._stage.folder / "ledger.jsonl").write_text(exported.stdout)
        verified = await asyncio.to_thread(
            self._stage.quiet, "tollkeeper", "verify", str(self._stage.folder / "ledger.jsonl")
        )
        self._teller.command(
            "tollkeeper export > ledger.jsonl && tollkeeper verify ledger.jsonl", verified.stdout + verified.stderr
        )
        compared = compare(self._stage.book, usages_of(exported.stdout.splitlines()))
        self._tell_books(compared, verified.returncode == 0)

    def _tell_books(self, compared: Comparison, verified: bool) -> None:
        ours, theirs = compared.ledger, compared.provider
        self._measure(
            Figure(
                "answers: provider / ledger",
                f"{theirs.answers} / {ours.answers}",
                "equal",
                theirs.answers == ours.answers,
            )
        )
        self._measure(
            Figure(
                "tokens: provider / ledger", f"{theirs.tokens} / {ours.tokens}", "equal", theirs.tokens == ours.tokens
            )
        )
        self._measure(
            Figure(
                "cost: provider / ledger",
                f"{dollars(theirs.cost)} / {dollars(ours.cost)}",
                "equal",
                theirs.cost == ours.cost,
            )
        )
        self._measure(Figure("answers on which the books differ", str(len(compared.differing)), "0", compared.equal))
        overshoot = self._budget().get("overshoot", "?")
        self._measure(Figure("overshoot of the hard limit", f"${overshoot}", "exactly 0", overshoot == "0.00"))
        self._measure(Figure("chain of the ledger", "verified" if verified else "BROKEN", "verified", verified))

    async def _admission(self) -> None:
        """Ask for a pod often, then read from the webhook's own histogram how long its answers took."""
        for _ in range(ADMISSIONS // AT_ONCE):
            asking = (asyncio.to_thread(self._stage.quiet, *METERED_POD, "--dry-run=server") for _ in range(AT_ONCE))
            await asyncio.gather(*asking)
        within, total = await self._stage.admissions_within("0.025")
        share = 100 * within / max(1, total)
        self._measure(Figure("admission answers within 25 ms", f"{share:.1f} % of {total}", "99 %", share >= 99))

    def _budget(self) -> dict[str, Any]:
        """The budget's status."""
        outcome = self._stage.quiet(*GET_BUDGETS, BUDGET, "-o", "json")
        if outcome.returncode != 0:
            raise StoryError(f"the budget cannot be read: {outcome.stderr.strip()}")
        status: dict[str, Any] = json.loads(outcome.stdout).get("status", {})
        return status

    async def _until(self, what: str, holds: Callable[[], bool], *, seconds: float = 20, every: float = 0.2) -> None:
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(holds):
            if time.monotonic() > deadline:
                raise StoryError(f"waited {seconds:.0f} s for {what}")
            await asyncio.sleep(every)
