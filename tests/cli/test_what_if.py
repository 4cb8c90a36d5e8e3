"""`tollkeeper what-if` as its user runs it."""

import json
from pathlib import Path

import pytest

from tests.cli.program import tollkeeper
from tests.ledger.builders import NOW, Desk, budget, record
from tollkeeper.limits import Enforcement
from tollkeeper.usage import Buckets, Charge
from tollkeeper_cli.__main__ import main

DOLLAR = 10**9
POLICIES = """
apiVersion: tollkeeper.dev/v1alpha1
kind: Tenant
metadata: {{name: team}}
spec: {{level: Team, namespaces: {{names: [team]}}}}
---
apiVersion: tollkeeper.dev/v1alpha1
kind: TokenBudget
metadata: {{name: monthly, namespace: team}}
spec: {{tenantRef: {{name: team}}, allocation: "{allocation}", period: {{every: Month}}, minimumBalance: "0"}}
"""
PRICES = """
apiVersion: tollkeeper.dev/v1alpha1
kind: PriceBook
metadata: {name: dear}
spec: {models: [{provider: openai, model: gpt-5, perMillion: {input: "50000", output: "0"}}]}
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    desk = Desk(tmp_path / "ledger.db", soft := budget(enforcement=Enforcement.SOFT))
    account = soft.account_at((), NOW)[0].text
    for number in range(5):
        charge = Charge(account, DOLLAR, 0)
        desk.charge(record("g", charge, request=f"r{number}", buckets=Buckets(input=40), cost=DOLLAR))
    desk.store.close()
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "all.yaml").write_text(POLICIES.format(allocation="2.00"))
    (tmp_path / "prices.yaml").write_text(PRICES)
    return tmp_path


def test_the_table_says_who_would_have_been_refused_by_what_and_when(data: Path) -> None:
    done = tollkeeper("what-if", "--policies", data / "policies", "--data-dir", data)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[1] == ["all", "5", "3", "2026-11-21", "12:00:00", "5.00", "2.00", "3.00"]
    assert lines[2][:5] == ["limit", "TokenBudget", "team/monthly", "3", "3"]


def test_json_says_the_same_out_of_an_export(data: Path) -> None:
    export = data / "export.jsonl"
    assert tollkeeper("export", "--data-dir", data, "-o", export).returncode == 0
    priced = ("--prices", data / "prices.yaml", "--ledger", export, "--output", "json")
    told = json.loads(tollkeeper("what-if", *priced).stdout)
    assert (told["total"]["booked_usd"], told["total"]["cost_usd"], told["total"]["refused"]) == ("5.00", "10.00", 0)


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


def test_a_damaged_export_is_named_and_is_a_violation(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = data / "export.jsonl"
    main(["export", "--data-dir", str(data), "-o", str(export)])
    export.write_bytes(export.read_bytes().replace(b'"amount":1000000000', b'"amount":1000000001', 1))
    code, says = run(capsys, "what-if", "--policies", data / "policies", "--ledger", export)
    assert (code, f"{export}: line 2: transaction 2 was changed" in says) == (3, True)


IMPOSSIBLE = (
    ("9" * 5000, "… is not a number that can be: shorten it, or put it in quotes if it is a text"),
    ("0x" + "f" * 5000, "… is not a number that can be"),
    ("." + "9" * 5000, "… is not a number that can be"),
    ("2026-02-30", "'2026-02-30' is not a time that can be: write one such as 2026-12-01T00:00:00Z"),
    ("2026-11-21T00:00:00+99:99", "is not a time that can be"),
    ("[" * 5000, "it is nested too deeply"),
)
"""Numbers and times that YAML takes and nobody can read."""


@pytest.mark.parametrize(("text", "says"), IMPOSSIBLE)
def test_a_number_or_time_in_settings_that_cannot_be_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    (tmp_path / "settings.yaml").write_text(f"ports: {{gateway: {text}}}")
    code, told = run(capsys, "up", "--config", tmp_path / "settings.yaml")
    assert code == 2
    assert says in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (POLICIES.format(allocation="-1"), "TokenBudget team/monthly spec.allocation"),
        (POLICIES.format(allocation="-1"), "correct it; nothing was replayed"),
        (POLICIES.replace("kind: Tenant", "kind: Nothing").format(allocation="1"), "Nothing team"),
        ("a: [", "it is not YAML"),
        ("- 1", "a document in it is not an object"),
        ("", "there is no resource of Tollkeeper"),
        *((f"at: {text}", says) for text, says in IMPOSSIBLE),
    ],
)
def test_policies_that_cannot_be_are_named(
    data: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    (data / "policies" / "all.yaml").write_text(text)
    code, told = run(capsys, "what-if", "--policies", data / "policies", "--data-dir", data)
    assert code == 1
    assert says in told


def test_times_between_which_nothing_lies_are_wrong_usage(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = ("--since", "2026-11-21T00:00:00Z", "--until", "2026-11-01T00:00:00Z")
    code, told = run(capsys, "what-if", "--policies", data / "policies", "--data-dir", data, *times)
    assert (code, "--until 2026-11-01T00:00:00Z is not after --since" in told) == (2, True)


def test_nothing_to_compare_with_is_wrong_usage(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "what-if", "--data-dir", data)[0] == 2
