"""`tollkeeper reconcile`: our books beside a provider's file, and the corrections that join them."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.program import tollkeeper
from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tollkeeper.limits import Enforcement
from tollkeeper.providerfile import ProviderRow
from tollkeeper.reconciliation import compare
from tollkeeper.restated import spread
from tollkeeper.usage import Buckets, Caller, Charge
from tollkeeper_cli import operations
from tollkeeper_cli.__main__ import main
from tollkeeper_cli.asked import Correct
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.history import read_history

DOLLAR = 10**9
SOFT = budget(allocation=100 * DOLLAR, enforcement=Enforcement.SOFT)
OTHER = budget("company", 100 * DOLLAR, enforcement=Enforcement.SOFT)
ACCOUNT, ABOVE = account_of(SOFT), account_of(OTHER)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    desk = Desk(tmp_path / "ledger.db", SOFT, OTHER)
    for number, cost in enumerate((DOLLAR, 2 * DOLLAR, 3 * DOLLAR)):
        charges = (Charge(ACCOUNT, cost, 0), Charge(ABOVE, cost, 0))
        at = NOW + timedelta(minutes=number)
        desk.charge(record("g", *charges, cost=cost, upstream_id=f"id-{number}", admitted_at=at, finished_at=at))
    desk.store.close()
    return tmp_path


def spent(data: Path) -> tuple[int, int]:
    desk = Desk(data / "ledger.db", SOFT, OTHER)
    both = desk.account(ACCOUNT).spent, desk.account(ABOVE).spent
    verify(desk.export())
    desk.store.close()
    return both


def transactions(data: Path) -> int:
    desk = Desk(data / "ledger.db", SOFT, OTHER)
    lines = desk.export()
    desk.store.close()
    return len(lines)


def run(data: Path, text: str, *arguments: str, name: str = "usage.csv") -> int:
    (data / name).write_text(text)
    return main(["reconcile", str(data / name), "--data-dir", str(data), *arguments])


AGREED = "id,model,cost\nid-0,gpt-5,1\nid-1,gpt-5,2\nid-2,gpt-5,3\n"
DIFFERENT = "id,model,cost\nid-0,gpt-5,1\nid-1,gpt-5,2.5\nid-2,gpt-5,2.9\n"


def test_books_that_agree_end_well(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, AGREED) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["2026-11-21", "gpt-5", "3", "6.00", "3", "6.00", "0.00"]


def test_differences_are_shown_by_day_and_model_and_nothing_is_written(data: Path) -> None:
    (data / "usage.csv").write_text(DIFFERENT)
    done = tollkeeper("reconcile", data / "usage.csv", "--data-dir", data)
    assert (done.returncode, done.stdout.splitlines()[1].split()[-1]) == (3, "0.40")
    assert spent(data) == (6 * DOLLAR, 6 * DOLLAR)


def test_corrections_are_booked_on_every_account_once(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, DIFFERENT, "--book") == 0
    assert spent(data) == (64 * DOLLAR // 10,) * 2
    capsys.readouterr()
    assert run(data, DIFFERENT, "--book") == 0
    assert capsys.readouterr().err == "", "the same file again books nothing new"
    assert spent(data) == (64 * DOLLAR // 10,) * 2
    assert run(data, DIFFERENT) == 0
    for text, cents in ((AGREED, 600), (DIFFERENT, 640), (AGREED, 600)):
        assert run(data, text, "--book") == 0
        assert spent(data) == (cents * DOLLAR // 100,) * 2, "a later file of the provider's is followed too"


def test_rows_without_an_id_are_spread_over_their_day_and_model(data: Path) -> None:
    rows = [{"date": "2026-11-21", "model": "gpt-5", "cost": "7.2"}]
    for _ in range(2):
        assert run(data, json.dumps(rows), "--book", name="usage.json") == 0
        assert spent(data) == (72 * DOLLAR // 10,) * 2


def test_a_difference_over_several_tenants_is_booked_for_each_by_what_it_used(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger.db", SOFT, OTHER)
    for tenant, of, cost in (("team", ACCOUNT, DOLLAR), ("org", ABOVE, 3 * DOLLAR), ("free", None, 4 * DOLLAR)):
        charges = [Charge(of, cost, 0)] if of else []
        desk.charge(record("g", *charges, cost=cost, caller=Caller(tenant), upstream_id=None))
    desk.store.close()
    for dollars, booked in ((16, 3), (16, 0), (8, 3), (16, 3)):
        before = transactions(tmp_path)
        assert run(tmp_path, f"date,model,cost\n2026-11-21,gpt-5,{dollars}\n", "--book") == 0
        assert spent(tmp_path) == (dollars * DOLLAR // 8, dollars * DOLLAR * 3 // 8), "of the rest nobody keeps account"
        assert transactions(tmp_path) - before == booked


def test_a_booking_that_was_broken_off_is_finished_by_the_same_file(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger.db", SOFT, OTHER)
    for tenant, of in (("team", ACCOUNT), ("org", ABOVE)):
        desk.charge(record("g", Charge(of, DOLLAR, 0), caller=Caller(tenant), upstream_id=None))
    row = ProviderRow("line 2", None, NOW.date(), "gpt-5", 5 * DOLLAR, Buckets())
    first, _ = compare(read_history(desk.export()), [row]).fixes
    asked = Correct(mark=first.mark, changes=tuple(first.changes.items()), reason="x", details=first.details)
    desk.do(lambda work: operations._correct(work, desk.policy, NOW, asked=asked))
    desk.store.close()
    assert run(tmp_path, "date,model,cost\n2026-11-21,gpt-5,5\n", "--book") == 0
    assert spent(tmp_path) == (5 * DOLLAR // 2, 5 * DOLLAR // 2)


def test_rows_with_and_without_ids_of_one_day_are_not_counted_twice(data: Path) -> None:
    mixed = "id,date,model,cost\nid-0,,gpt-5,1.5\n,2026-11-21,gpt-5,5.1\n"
    for _ in range(2):
        assert run(data, mixed, "--book") == 0
        assert spent(data) == (66 * DOLLAR // 10,) * 2


def test_rows_of_nobody_are_named_and_stay_open(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, AGREED + "id-9,gpt-5,4\n") == 3
    assert "line 5: id id-9 is in no booked usage; 4.00 USD stay open" in capsys.readouterr().err
    assert run(data, AGREED + "id-9,gpt-5,4\n", "--book") == 3, "what cannot be booked keeps the books apart"


def test_what_a_file_leaves_out_of_its_days_is_told_and_not_compared(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(data / "ledger.db", SOFT, OTHER)
    for provider in ("openai", "anthropic"):
        desk.charge(record("g", cost=DOLLAR, provider=provider, model=f"{provider}-other"))
    desk.store.close()
    assert run(data, AGREED) == 0
    told = capsys.readouterr().err.splitlines()
    assert told == ["2026-11-21 openai-other: the file does not name it; 1 requests of ours cost 1.00 USD"]


def test_of_a_day_that_only_ids_speak_of_the_requests_that_they_name_are_compared(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, "id,model,cost\nid-0,gpt-5,1\n") == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[1].split() == ["2026-11-21", "gpt-5", "1", "1.00", "1", "1.00", "0.00"]
    assert told.err == "2026-11-21 gpt-5: the file does not name 2 requests of ours; they cost 5.00 USD\n"
    assert run(data, "id,model,cost\nid-0,gpt-5,1.5\n", "--book") == 0
    assert run(data, "id,model,cost\nid-0,gpt-5,1.5\n") == 0
    assert spent(data) == (65 * DOLLAR // 10,) * 2


@pytest.mark.parametrize("book", [(), ("--book",)])
def test_no_booking_is_advised_for_what_stays_open(
    data: Path, capsys: pytest.CaptureFixture[str], book: tuple[str, ...]
) -> None:
    assert run(data, AGREED + "id-9,gpt-5,4\n", *book) == 3
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == "Error: the books differ by what stays open, see the lines above: no correction can join that"


@pytest.mark.parametrize("says", ["2026-11-21 gpt-5-mini", "2026-11-20 gpt-5", "2026-11-22 gpt-5"])
@pytest.mark.parametrize("cost", ["1", "1.5"])
def test_an_id_whose_row_says_another_day_or_model_is_told_and_corrects_nothing(
    data: Path, capsys: pytest.CaptureFixture[str], says: str, cost: str
) -> None:
    text = f"id,date,model,cost\nid-0,{says.replace(' ', ',')},{cost}\n,2026-11-21,gpt-5,5\n"
    for book in ((), ("--book",)):
        assert run(data, text, *book) == 3
        told = capsys.readouterr().err
        assert f"line 2: id id-0 is our request of 2026-11-21 gpt-5, and the row says {says}; its {cost}" in told
        assert "USD stay open" in told
    assert spent(data) == (6 * DOLLAR, 6 * DOLLAR)


def test_an_id_fits_by_any_day_of_its_request_and_by_its_models_name_with_a_date(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger.db", SOFT, OTHER)
    desk.charge(
        record("g", Charge(ACCOUNT, DOLLAR, 0), cost=DOLLAR, upstream_id="id-0", finished_at=NOW + timedelta(days=1))
    )
    desk.store.close()
    for day in ("2026-11-21", "2026-11-22"):
        assert run(tmp_path, f"id,date,model,cost\nid-0,{day},gpt-5-2025-08-07,1\n") == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,model,cost\nid-0,gpt-5,-1\n", "line 2, cost: -1 is negative"),
        ("id,model,cost\nid-0,gpt-5,NaN\n", "line 2, cost: 'NaN' is not an amount of money: write dollars with"),
        ("id,model,cost\nid-0,gpt-5,9223372037\n", "line 2, cost: '9223372037' is too large"),
        (
            "id,model,price\nid-0,gpt-5,1\n",
            "line 1: 'price' is not a column; the file has id, model, price; a file has model and cost, id or date, and",
        ),
        (
            "Request ID,Model,total_cost\nid-0,gpt-5,1\n",
            "'Request ID' (did you mean id?), 'Model' (did you mean model?), 'total_cost' (did you mean cost?) are not col",
        ),
        ("id,model,cost,id\nid-0,gpt-5,1,id-0\n", "line 1: the column 'id' stands there twice"),
        (
            "id,model\nid-0,gpt-5\n",
            "line 1: there is no column cost; the file has id, model; a file has model and cost",
        ),
        (
            "id;model;cost\nid-0;gpt-5;1\n",
            "line 1: the cells are separated by semicolons: save it as UTF-8 with commas",
        ),
        ("id,model,cost\nid-0,,1\n", "line 2, model: there is none; write its name as requests do"),
        ("id,model,cost\nid-0,gpt-5,\n", "line 2, cost: it is missing; a cost is dollars"),
        ("", "the file is empty: a file has model and cost, id or date"),
        ("id,model,cost\nid-0,gpt-5\n", "line 2: it has more or fewer cells than the header"),
        ("id,model,cost\nid-0,gpt-5,1\nid-0,gpt-5,1\n", "line 3: the id 'id-0' stands in line 2 too"),
        ("model,cost\ngpt-5,1\n", "line 1: there is no column id or date; the file has model, cost"),
        ("id,date,model,cost\n,,gpt-5,1\n", "line 2: it has neither an id nor a date"),
        ("date,model,cost\n21.11.2026,gpt-5,1\n", "line 2: date '21.11.2026' is not a day"),
        ("id,model,cost,input\nid-0,gpt-5,1,-5\n", "line 2: input='-5' is not a count of tokens"),
        (
            f"id,model,cost\nid-0,gpt-5,{'9' * 5000}\n",
            "line 2, cost: 9999999999999999999999999999999999999999… is too large",
        ),
        (f"id,model,cost\nid-0,gpt-5,{'9' * 5000}x\n", "… is not an amount of money: write dollars with"),
        (
            f"id,model,cost,input\nid-0,gpt-5,1,{'9' * 5000}\n",
            "… is too large: write at most 9223372036854775807 tokens",
        ),
        (
            "date,model,cost\n0001-01-01T00:00:00+23:00,gpt-5,1\n",
            "line 2: date '0001-01-01T00:00:00+23:00' is not a day: write 2026-11-21",
        ),
        ("date,model,cost\n9999-12-31T23:00:00-23:00,gpt-5,1\n", "-23:00' is not a day: write 2026-11-21"),
        (f"date,model,cost\n{'9' * 5000},gpt-5,1\n", "… is not a day: write 2026-11-21"),
        ("id,model,cost\n", "the file has no rows"),
    ],
)
def test_a_file_that_cannot_be_is_named_by_row_and_column(
    data: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    assert run(data, text, "--book") == 1
    told = capsys.readouterr().err
    assert says in told
    assert (told.count("\n"), len(told) < 500) == (1, True)
    assert spent(data) == (6 * DOLLAR, 6 * DOLLAR)


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_a_day_at_the_end_of_the_calendar_is_compared_as_any_other(data: Path, day: str) -> None:
    assert run(data, f"date,model,cost\n{day},gpt-5,1\n", "--book") == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[{"id":"id-0","model":"gpt-5","cost":"1","cost":"2"}]',
            "row 1: 'cost' stands there twice: leave one of them",
        ),
        (
            '[{"id":"id-0","model":"gpt-5","cost":"1","input":1' + 23 * "0" + "}]",
            "is too large: write at most",
        ),
        (
            '[{"id":"id-0","model":"gpt-5","cost":"1","input":"' + 5000 * "9" + '"}]',
            f"write at most {2**63 - 1} tokens",
        ),
        ('[{"id":"id-0","model":"gpt-5","cost":"1","input":1' + 5000 * "0" + "}]", "it is not JSON: "),
        ("[" * 900 + "]" * 900, "it is not a JSON list of objects"),
        ('{"id":"id-0"}', "it is not a JSON list of objects"),
        ("[NaN]", "it is not JSON"),
    ],
)
def test_a_list_that_cannot_be_is_named_by_row_and_column(
    data: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    assert run(data, text, "--book", name="usage.json") == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert says in told
    assert spent(data) == (6 * DOLLAR, 6 * DOLLAR)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-16-be"])
def test_a_table_as_spreadsheets_save_it_is_read(data: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (data / "usage.txt").write_bytes((mark + AGREED.replace(",", "\t").replace("\n", "\r\n")).encode(encoding))
    assert main(["reconcile", str(data / "usage.txt"), "--data-dir", str(data)]) == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (AGREED.encode("utf-16-le"), "it has zero bytes, as UTF-16 without its mark"),
        (
            b"id,model,cost\nid-0,gpt-5,1\nid-1,\xe9,2\n",
            "line 3: it is not text in UTF-8: save it as UTF-8 with commas",
        ),
        (AGREED.encode("utf-16")[:-1], "it is not text in UTF-16"),
    ],
)
def test_a_file_in_another_encoding_is_told_how_to_be_saved(
    data: Path, capsys: pytest.CaptureFixture[str], content: bytes, says: str
) -> None:
    (data / "usage.csv").write_bytes(content)
    assert main(["reconcile", str(data / "usage.csv"), "--data-dir", str(data)]) == 1
    told = capsys.readouterr().err
    assert says in told
    assert "(in Excel: CSV UTF-8)" in told


@given(st.integers(-(10**12), 10**12), st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_what_is_spread_sums_to_the_whole(amount: int, weights: list[int]) -> None:
    parts = spread(amount, weights)
    assert (len(parts), sum(parts)) == (len(weights), amount)
    assert all(part * amount >= 0 for part in parts)
