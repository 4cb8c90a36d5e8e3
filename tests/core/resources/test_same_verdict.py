"""The API server and `parse` give the same verdict: on a list of sentences, and on anything that mutation makes of it."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.resources.objects import BOUND, EVERY_DAY, book, budget, quota, resource, tenant, tokens, window

from tollkeeper.resources import API_VERSION, InvalidResource, parse

pytestmark = pytest.mark.cluster

EVERY_36H = {"duration": "1d12h", "anchor": "2026-11-01T00:00:00Z"}
SELECTED = {
    "matchLabels": {"tollkeeper.dev/plan": "freemium"},
    "matchExpressions": [
        {"key": "team", "operator": "In", "values": ["red", "blue"]},
        {"key": "tollkeeper.dev/off", "operator": "DoesNotExist"},
    ],
}
MATCH = {
    "models": ["gpt-5*"],
    "providers": ["openai"],
    "features": ["chat"],
    "assistants": ["summariser"],
    "users": ["ana@example.com"],
    "apiKeys": ["3f2a"],
    "namespaces": ["research"],
    "workloads": ["Deployment/web"],
}
LIMIT = {
    "name": "per-user-daily",
    "unit": "WeightedTokens",
    "amount": "2M",
    "window": EVERY_DAY,
    "per": ["User", "Model"],
    "match": MATCH,
    "weights": {"input": "1", "cache_read": "0.1", "cache_write_5m": "1.25", "output": "4"},
    "enforcement": "Hard",
    "whenStale": "FailOpen",
    "anonymous": "Refuse",
    "thresholds": [50, 80, 95],
    "blockWorkloads": True,
}
MONEY_BUDGET = {
    **BOUND,
    "unit": "USD",
    "allocation": "250.00",
    "period": {"every": "Month", "timeZone": "Europe/Madrid"},
    "rollover": {"maximum": "50.00"},
    "minimumBalance": "-0.12",
    "lowBalanceThreshold": "0",
    "borrowing": {"limit": "20.00"},
    "lending": {"limit": "100.00"},
    "per": ["User"],
    "match": MATCH,
    "enforcement": "Soft",
    "whenStale": "FailClosed",
    "anonymous": "Share",
    "thresholds": [50, 80, 95, 100],
    "onExhausted": {"workloads": "SuspendJobs"},
}
TOKEN_BUDGET = {
    "tenantSelector": SELECTED,
    "unit": "Tokens",
    "allocation": "1.5M",
    "period": EVERY_36H,
    "minimumBalance": -500,
    "lowBalanceThreshold": "10k",
    "lending": {"limit": 1000},
}
TENANT = {
    "displayName": "Research",
    "level": "Department",
    "parentRef": {"name": "acme"},
    "namespaces": {"names": ["research", "research-dev"], "selector": SELECTED},
    "members": [
        {"kind": "Group", "name": "research-leads", "role": "Admin"},
        {"kind": "ServiceAccount", "name": "ci:runner", "role": "Member"},
    ],
    "assistants": [{"name": "summariser", "models": ["gpt-5*"], "active": True}, {"name": "coder"}],
    "costCenter": "CC-1042",
    "capture": {
        "bodies": "Always",
        "retention": "30d",
        "redact": {
            "builtIn": ["Secrets", "IPAddresses"],
            "patterns": [{"name": "employee", "pattern": "EMP-[0-9]{6}"}, {"name": "b", "pattern": r"(?i)\bcase \pL+"}],
        },
    },
    "outputLimit": "Lower",
    "unmetered": "Refuse",
}
GRANT = {
    "budgetRef": {"name": "monthly"},
    "amount": "25.00",
    "reason": "Payment",
    "reference": "INV-2026-1123",
    "effectiveFrom": "2026-11-23T00:00:00Z",
    "expiresAt": "2026-12-23T00:00:00.5+01:00",
    "priority": 10,
}
PER_MILLION = {"input": "1.25", "output": "10", "cacheRead": "0.125", "cacheWrite": "1.25", "cacheWrite1h": "2"}
BOOK = {
    "models": [
        {
            "provider": "openai",
            "model": "gpt-5-internal*",
            "perMillion": PER_MILLION,
            "perRequest": "0.001",
            "effectiveFrom": "2026-01-01T00:00:00Z",
            "contextWindow": 200000,
        },
        {"provider": "vllm", "model": "llama", "perMillion": {"input": "0", "output": "0"}},
    ],
    "tools": [{"name": "image-generate", "perCall": "0.04"}],
    "unknownModels": "Fallback",
    "fallback": {"perMillion": {"input": "10", "output": "40"}},
}
VALID: list[tuple[str, Mapping[str, Any]]] = [
    ("Tenant", TENANT),
    ("Tenant", {"level": "Organization"}),
    (
        "TokenQuota",
        {**BOUND, "limits": [LIMIT, {"name": "rpm", "unit": "Requests", "amount": 60, "window": EVERY_36H}]},
    ),
    ("TokenQuota", {"tenantSelector": SELECTED, "limits": [{"name": "x", "amount": 0, "window": {"every": "Minute"}}]}),
    ("TokenBudget", MONEY_BUDGET),
    ("TokenBudget", TOKEN_BUDGET),
    ("TokenBudget", BOUND),
    ("TokenGrant", GRANT),
    ("TokenGrant", {"budgetRef": {"name": "monthly"}, "amount": 2000000}),
    ("PriceBook", BOOK),
    ("PriceBook", {}),
]


def our_verdict(raw: Mapping[str, Any]) -> tuple[bool, str]:
    try:
        parse(raw)
    except InvalidResource as refusal:
        return False, str(refusal)
    return True, ""


def assert_same_verdict(admission: Any, raw: Mapping[str, Any]) -> bool:
    theirs, they_say = admission.verdict(raw)
    ours, we_say = our_verdict(raw)
    assert ours == theirs, f"{raw}\nAPI server: {they_say or 'taken'}\nparse: {we_say or 'taken'}"
    return ours


@pytest.mark.parametrize(("kind", "spec"), VALID)
def test_both_take_what_the_interface_shows(admission: Any, kind: str, spec: Mapping[str, Any]) -> None:
    assert assert_same_verdict(admission, resource(kind, spec))


def grant(**changes: Any) -> dict[str, Any]:
    return resource("TokenGrant", {**GRANT, **changes})


def pattern(text: Any) -> dict[str, Any]:
    return tenant(capture={"redact": {"patterns": [{"name": "own", "pattern": text}]}})


GATE = {"apiVersion": API_VERSION, "kind": "WorkloadGate", "metadata": {"name": "tollkeeper", "namespace": "default"}}

TAKEN: dict[str, dict[str, Any]] = {
    "no money as a number": budget(allocation=0, minimumBalance=0, lowBalanceThreshold=0, lending={"limit": 0}),
    "a minimum of minus no thousand": tokens(minimumBalance="-0k"),
    "a minimum of no thousand": tokens(minimumBalance="0.00k"),
    "the last day of a leap year's February": window(duration="1h", anchor="2000-02-29T00:00:00Z"),
    "a minimum of minus nothing": budget(minimumBalance="-0.00"),
    "a threshold at the default minimum": budget(lowBalanceThreshold="-0.12"),
    "the last nano-dollar": budget(minimumBalance="-0.000000002", lowBalanceThreshold="-0.000000002"),
    "the greatest sums of money": budget(allocation="999999999.999999999", minimumBalance="-999999999.999999999"),
    "the greatest counts": tokens(allocation="999999.999999999G", minimumBalance=-999999999999999),
    "half a thousand tokens": tokens(minimumBalance="-0.5k", lowBalanceThreshold=-500),
    "tokens with zero decimals": tokens(allocation="2.0"),
    "thresholds as integral floats": budget(thresholds=[50.0]),
    "no thresholds at all": budget(thresholds=[]),
    "nulls in place of defaults": budget(allocation=None, match=None, enforcement=None, thresholds=None),
    "an empty selector of tenants": budget(tenantRef=None, tenantSelector={}),
    "a null label": budget(tenantRef=None, tenantSelector={"matchLabels": {"a": None, "b": "c"}}),
    "an hour of a zone between hours": window(every="Hour", timeZone="Asia/Kathmandu"),
    "a zone with a sign": window(every="Day", timeZone="Etc/GMT+5"),
    "an anchor far from Greenwich": window(duration="1h", anchor="2026-02-28T23:59:59.999999-23:59"),
    "a second": window(duration="1s", anchor="2026-02-28T00:00:00Z"),
    "a gate": GATE,
    "a retention of a minute": tenant(capture={"retention": "60s"}),
    "a retention of ten years": tenant(capture={"retention": "3649d23h59m60s"}),
    "a retention with zeros in front": tenant(capture={"retention": "00030d007h"}),
    "nothing redacted by name": tenant(capture={"redact": {"builtIn": []}}),
    "a pattern of other letters": pattern(r"\p{Greek}+é"),
    "a pattern with a named group": pattern(r"(?P<who>a)|(?<what>b)"),
    "a pattern with flags and quotes": pattern(r"(?is:\Qa.b\E.)"),
    "a pattern of the longest": pattern("a" * 256),
    "a backslash before a C": pattern(r"\\C"),
    "a name with an emoji": tenant(displayName="\U0001f9ee" * 128),
    "one member as user and as group": tenant(
        members=[{"kind": "User", "name": "a", "role": "User"}, {"kind": "Group", "name": "a", "role": "User"}]
    ),
}

REFUSED: dict[str, dict[str, Any]] = {
    "money as a float": budget(allocation=250.5),
    "money as an integral float": budget(allocation=250.0),
    "money as a boolean": budget(allocation=True),
    "money with a suffix": budget(allocation="1k"),
    "money with ten decimals": budget(allocation="0.0000000001"),
    "money with an exponent": budget(allocation="2e3"),
    "money with a line end": budget(allocation="1\n"),
    "money in other digits": budget(allocation="٣"),
    "money without end": budget(allocation="1" * 40),
    "whole dollars as a number": budget(allocation=250),
    "a billion dollars": budget(allocation="1000000000"),
    "no thousand dollars": budget(minimumBalance="0k"),
    "a negative allocation": budget(allocation="-1"),
    "a minimum above nothing": budget(minimumBalance="0.000000001"),
    "a threshold below the minimum by a nano-dollar": budget(
        minimumBalance="-0.000000001", lowBalanceThreshold="-0.000000002"
    ),
    "a threshold below the default minimum": budget(lowBalanceThreshold="-0.120000001"),
    "a threshold below the default minimum of tokens": tokens(lowBalanceThreshold="-1"),
    "half a token": tokens(allocation="2.5"),
    "binary suffixes": tokens(allocation="2Mi"),
    "tokens beyond the greatest": tokens(allocation=10**15),
    "tokens beyond 64 bits": tokens(allocation=10**20),
    "rollover without a period": budget(rollover={"maximum": "1"}),
    "rollover without a maximum": budget(rollover={}, period=EVERY_DAY),
    "two ways to bind": budget(tenantSelector={}),
    "no way to bind": budget(tenantRef=None),
    "thresholds that repeat": budget(thresholds=[5, 5]),
    "a threshold of nothing": budget(thresholds=[0]),
    "a threshold as text": budget(thresholds=["50"]),
    "too many thresholds": budget(thresholds=list(range(1, 22))),
    "a null in a list": budget(per=[None]),
    "a key twice": budget(per=["User", "User"]),
    "an unknown key": budget(per=["Galaxy"]),
    "an unknown field": budget(enforcment="Hard"),
    "an unknown field that is null": budget(bogus=None),
    "this code's own field name": budget(minimum_balance="0"),
    "an unknown field beside the spec": {**budget(), "statuss": {}},
    "a spec that is a list": resource("TokenBudget", []),
    "no spec": resource("TokenBudget", None),
    "a selector's operator without values": budget(
        tenantRef=None, tenantSelector={"matchExpressions": [{"key": "a", "operator": "In"}]}
    ),
    "no limits": resource("TokenQuota", {**BOUND, "limits": []}),
    "two limits of one name": resource("TokenQuota", {**BOUND, "limits": [LIMIT, LIMIT]}),
    "a count as a float": quota(amount=1.5),
    "a count as an integral float": quota(amount=2.0),
    "a negative count": quota(amount=-1),
    "money as a count": quota(unit="USD"),
    "weights without their unit": quota(weights={"output": "4"}),
    "weights by the price book's names": quota(unit="WeightedTokens", weights={"cacheRead": "1"}),
    "weights as numbers": quota(unit="WeightedTokens", weights={"output": 4}),
    "a soft limit that closes gates": quota(enforcement="Soft", blockWorkloads=True),
    "a truth as text": quota(blockWorkloads="true"),
    "an empty window": window(),
    "both kinds of window": window(every="Day", duration="1h", anchor="2026-01-01T00:00:00Z"),
    "a duration without anchor": window(duration="1h"),
    "an anchor without duration": window(anchor="2026-01-01T00:00:00Z"),
    "a zone beside a duration": window(duration="1h", anchor="2026-01-01T00:00:00Z", timeZone="UTC"),
    "a zone of Mars": window(every="Day", timeZone="Mars/Olympus"),
    "a folder of zones": window(every="Day", timeZone="Europe"),
    "a zone in small letters": window(every="Day", timeZone="europe/madrid"),
    "the machine's own zone": window(every="Day", timeZone="Local"),
    "an offset for a zone": window(every="Day", timeZone="+02:00"),
    "a file for a zone": window(every="Day", timeZone="../../etc/passwd"),
    "a zone of nothing": window(every="Day", timeZone=""),
    "a duration of nothing": window(duration="0h", anchor="2026-01-01T00:00:00Z"),
    "an empty duration": window(duration="", anchor="2026-01-01T00:00:00Z"),
    "a duration out of order": window(duration="30m1h", anchor="2026-01-01T00:00:00Z"),
    "the thirtieth of February": window(duration="1h", anchor="2026-02-30T00:00:00Z"),
    "the last day of no leap year's February": window(duration="1h", anchor="2100-02-29T00:00:00Z"),
    "a date for a time": window(duration="1h", anchor="2026-02-28"),
    "a time without offset": window(duration="1h", anchor="2026-02-28T00:00:00"),
    "a time finer than microseconds": window(duration="1h", anchor="2026-02-28T00:00:00.1234567Z"),
    "a grant of nothing": grant(amount="0.00"),
    "a negative grant": grant(amount=-1),
    "a grant of an integral float": grant(amount=25.0),
    "a grant that expires before it counts": grant(expiresAt="2026-11-23T00:59:59+01:00"),
    "a grant for a reason of its own": grant(reason="Gift"),
    "a priority out of range": grant(priority=1001),
    "a tenant that is its own parent": tenant(parentRef={"name": "monthly"}),
    "a tenant with a dotted name": resource("Tenant", {"level": "Team"}, name="a.b"),
    "a tenant with a long name": resource("Tenant", {"level": "Team"}, name="a" * 64),
    "a tenant that takes every namespace": tenant(namespaces={"selector": {}}),
    "a tenant with a namespace twice": tenant(namespaces={"names": ["a", "a"]}),
    "a tenant without level": resource("Tenant", {}),
    "a member twice": tenant(
        members=[{"kind": "User", "name": "a", "role": "User"}, {"kind": "User", "name": "a", "role": "Owner"}]
    ),
    "a service account without namespace": tenant(members=[{"kind": "ServiceAccount", "name": "a", "role": "User"}]),
    "an assistant without models": tenant(assistants=[{"name": "a", "models": []}]),
    "an empty name": tenant(displayName=""),
    "a control character": tenant(displayName="a\u0001"),
    "a long name": tenant(displayName="x" * 129),
    "a retention of nothing": tenant(capture={"retention": "0d"}),
    "a retention of less than a minute": tenant(capture={"retention": "59s"}),
    "a retention of more than ten years": tenant(capture={"retention": "3650d1s"}),
    "a kind of data that nobody knows": tenant(capture={"redact": {"builtIn": ["Feelings"]}}),
    "a kind of data twice": tenant(capture={"redact": {"builtIn": ["Secrets", "Secrets"]}}),
    "an empty pattern": pattern(""),
    "a pattern that finds the empty text": pattern("a*"),
    "a pattern that is not closed": pattern("(a"),
    "a pattern with lookaround": pattern("a(?=b)"),
    "a pattern with a back-reference": pattern(r"(a)\1"),
    "a pattern of single bytes": pattern(r"a\C"),
    "a pattern with too many repetitions": pattern("a{1001}"),
    "a long pattern": pattern("a" * 257),
    "a pattern that is a number": pattern(7),
    "two patterns of one name": tenant(
        capture={"redact": {"patterns": [{"name": "a", "pattern": "a"}, {"name": "a", "pattern": "b"}]}}
    ),
    "a pattern without a name": tenant(capture={"redact": {"patterns": [{"pattern": "a"}]}}),
    "a pattern with a capital name": tenant(capture={"redact": {"patterns": [{"name": "A", "pattern": "a"}]}}),
    "a fallback that is not there": book(unknownModels="Fallback"),
    "a fallback that is not used": book(fallback={"perMillion": {"input": "1", "output": "1"}}),
    "a price as a number": book(tools=[{"name": "a", "perCall": 1}]),
    "a tool twice": book(tools=[{"name": "a", "perCall": "1"}, {"name": "a", "perCall": "2"}]),
    "a price for input alone": book(models=[{"provider": "a", "model": "b", "perMillion": {"input": "1"}}]),
    "a gate of another name": {**GATE, "metadata": {"name": "other", "namespace": "default"}},
    "a gate with a spec": {**GATE, "spec": {}},
}


@pytest.mark.parametrize("sentence", TAKEN)
def test_both_take(admission: Any, sentence: str) -> None:
    assert assert_same_verdict(admission, TAKEN[sentence])


@pytest.mark.parametrize("sentence", REFUSED)
def test_both_refuse(admission: Any, sentence: str) -> None:
    assert not assert_same_verdict(admission, REFUSED[sentence])


WORDS = [
    "", "0", "-0", "1", "-1", "0.00", "25.00", "-0.12", "-0.13", "1.5", "2M", "1.5k", "0.0005k", "2Mi", "1e3", "01", "007",
    "999999999", "9999999999", "9999999999999999", "Day", "Hour", "Hard", "None", "User", "Tokens", "USD", "Requests",
    "UTC", "Europe/Madrid", "Mars/Olympus", "36h", "0h", "1h30m", "2026-11-01T00:00:00Z", "2026-11-01", "9999-12-31T23:59:59Z",
    "a", "A", "a.b", "-a", "a b", "*", "gpt-5*", "x" * 64, "x" * 254, "é", "true", "In", "Exists", "Fallback", "ServiceAccount",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 50, 1001, 10**9, 10**15, 2**63 - 1, 0.0, 1.0, 0.5, -2.0, [], {}, [None], [""], ["a", "a"],
    {"name": "a"}, {"every": "Day"}, {"maximum": "1"}, {"limit": 5}, {"matchLabels": {"a": "b"}}, {"a": "b"},
]  # fmt: skip
values = st.one_of(st.sampled_from(WORDS), st.sampled_from(VALUES).map(copy.deepcopy), st.integers(-(10**16), 10**16))


amounts = st.one_of(
    st.decimals("-1", "1", places=3).map("{:f}".format),
    st.integers(-(10**4), 10**4),
    st.builds("{}{}".format, st.decimals("-2", "2", places=4), st.sampled_from(["", "k", "M", "G"])),
)
times = st.builds(
    "2026-{:02}-{:02}T{:02}:00:00{}".format,
    st.integers(1, 12),
    st.integers(1, 31),
    st.integers(0, 24),
    st.sampled_from(["Z", "+01:00", "-23:59", ".5Z", ""]),
)
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(["allocation", "minimumBalance", "lowBalanceThreshold", "maximum", "limit", "amount"], amounts),
    **dict.fromkeys(["anchor", "effectiveFrom", "expiresAt"], times),
    **dict.fromkeys(["input", "output", "perRequest", "perCall", "cacheRead"], amounts),
    "unit": st.sampled_from(["USD", "Tokens", "Requests", "WeightedTokens"]),
    "enforcement": st.sampled_from(["Hard", "Soft", "Shadow"]),
    "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
    "values": st.lists(st.sampled_from(["a", "b", "", "-"]), max_size=3),
    "thresholds": st.lists(st.integers(1, 1001), max_size=3),
    "per": st.lists(st.sampled_from(["User", "Model", "Tenant"]), max_size=4),
    "timeZone": st.sampled_from(["UTC", "Asia/Gaza", "America/Argentina/Ushuaia", "Etc/GMT-14", "EST", "Z", "Factory"]),
    "duration": st.builds("{}d{}h{}m".format, st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
    "every": st.sampled_from(["Minute", "Hour", "Day", "Week", "Month", "Year"]),
    "kind": st.sampled_from(["User", "Group", "ServiceAccount"]),
    "unknownModels": st.sampled_from(["Refuse", "Fallback"]),
    "retention": st.builds("{}d{}m{}s".format, st.integers(0, 3651), st.integers(0, 2), st.integers(0, 61)),
    "pattern": st.text("ab(|)[]*+?{}0123\\^$.é", max_size=8),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every field and item below a value."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [found for key in keys for found in ((*path, key), *places(value[key], (*path, key)))]


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def mutate(draw: st.DrawFn, spec: Any) -> None:
    """Do one thing to one field or item of a spec; most often what somebody might write there."""
    *parents, key = draw(st.sampled_from(places(spec)))
    parent = at(spec, tuple(parents))
    match draw(st.sampled_from(["likely", "likely", "likely", "likely", "take away", "replace", "more", "borrow"])):
        case "likely" if key in LIKELY:
            parent[key] = draw(LIKELY[key])
        case "likely" if isinstance(parent, dict):
            name = draw(st.sampled_from(sorted(LIKELY.keys() & parent.keys()) or [key]))
            parent[name] = draw(LIKELY.get(name, values))
        case "replace" | "likely":
            parent[key] = draw(values)
        case "take away":
            del parent[key]
        case "borrow":
            parent[key] = copy.deepcopy(at(spec, draw(st.sampled_from(places(spec)))))
        case _ if isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        case _:
            names = ["timeZone", "duration", "anchor", "tenantSelector", "fallback", "per", "unit", "name", f"{key}s"]
            parent[draw(st.sampled_from(names))] = draw(values)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A valid object to which one or two things were done."""
    kind, spec = draw(st.sampled_from([(kind, spec) for kind, spec in VALID if spec]))
    raw = resource(kind, spec)
    for _ in range(draw(st.integers(1, 3))):
        if raw["spec"]:
            mutate(draw, raw["spec"])
    return raw


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(raw=mutated())
def test_both_judge_mutations_alike(admission: Any, raw: dict[str, Any]) -> None:
    assert_same_verdict(admission, raw)
