"""What both storages of captures do alike (R27)."""

import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.captures.builders import CAPTURED, DAY, HOUR, NOON, sealed
from tollkeeper_ledger.captures.errors import CapturesUnavailable, NoCaptures
from tollkeeper_ledger.captures.postgres import PostgresCaptures
from tollkeeper_ledger.captures.sqlite import SqliteCaptures
from tollkeeper_ledger.captures.storage import CaptureStore, Kept, open_captures
from tollkeeper_ledger.captures.sweeping import AT_ONCE, Erased, erase, sweep
from tollkeeper_ledger.storage import LedgerAt

FOR_EVER = NOON + timedelta(days=4000)


def names(store: CaptureStore, tenant: str | None = None) -> list[str]:
    return [one.request_id for one in store.listed(tenant, CAPTURED - 9999 * DAY, 10_000)]


def test_what_is_added_is_found_as_it_was(store: CaptureStore) -> None:
    one = sealed(request=bytes(range(256)) * 1000, answer=b"")
    store.add([one, sealed("r2")])
    assert store.find("r1", NOON) == one
    assert store.find("r3", NOON) is None


def test_what_is_kept_already_stays_as_it_is(store: CaptureStore) -> None:
    store.add([sealed()])
    store.add([sealed(answer=b"another"), sealed("r2")])
    assert store.find("r1", NOON) == sealed()
    assert names(store) == ["r2", "r1"]


def test_nothing_is_added_of_nothing(store: CaptureStore) -> None:
    store.add([])
    assert names(store) == []


def test_a_list_tells_the_latest_first_and_no_more_than_is_asked_for(store: CaptureStore) -> None:
    store.add([sealed(f"r{number}", captured_at=CAPTURED + number * HOUR) for number in range(5)])
    store.add([sealed("other", tenant="ops")])
    assert [one.request_id for one in store.listed("research", NOON, 2)] == ["r4", "r3"]
    (told,) = store.listed("ops", NOON, 10)
    assert told == Kept("other", "ops", CAPTURED, CAPTURED + DAY, 200, len(b"sealed request") + len(b"sealed answer"))


def test_what_is_over_is_told_to_nobody_before_it_is_swept(store: CaptureStore) -> None:
    store.add([sealed(expires_at=NOON)])
    assert store.find("r1", NOON) is None
    assert store.listed(None, NOON, 10) == []
    assert store.find("r1", NOON - timedelta(microseconds=1)) is not None


def test_one_request_is_deleted_and_counted(store: CaptureStore) -> None:
    store.add([sealed("r1"), sealed("r2")])
    assert (store.delete("r1"), store.delete("r1")) == (1, 0)
    assert names(store) == ["r2"]


def test_all_of_a_tenant_is_erased_in_steps(store: CaptureStore) -> None:
    """R27."""
    store.add([sealed(f"r{number}") for number in range(AT_ONCE + 5)])
    store.add([sealed("other", tenant="ops")])
    assert store.delete_of("research", 3) == 3
    assert erase(store, "research") == Erased(AT_ONCE + 2, is_held=False)
    assert names(store) == ["other"]
    assert erase(store, "nobody").captures == 0


def test_a_sweep_deletes_what_is_over_and_nothing_else(store: CaptureStore) -> None:
    """R27."""
    store.add([sealed("over", expires_at=NOON), sealed("not yet", expires_at=NOON + timedelta(microseconds=1))])
    assert sweep(store, NOON, {}) == 1
    assert names(store) == ["not yet"]
    assert sweep(store, NOON, {}) == 0


def test_a_sweep_of_more_than_one_step_deletes_all_of_it(store: CaptureStore) -> None:
    store.add([sealed(f"r{number}", expires_at=NOON) for number in range(2 * AT_ONCE)])
    assert sweep(store, NOON, {}) == 2 * AT_ONCE


def test_a_retention_that_is_shorter_now_holds_for_what_is_kept(store: CaptureStore) -> None:
    store.add([sealed("mine"), sealed("ours", tenant="ops")])
    assert sweep(store, NOON, {"research": HOUR + timedelta(microseconds=1)}) == 0
    assert sweep(store, NOON, {"research": HOUR}) == 1
    assert names(store) == ["ours"]


def test_a_retention_that_is_longer_now_keeps_nothing_longer(store: CaptureStore) -> None:
    store.add([sealed()])
    assert sweep(store, CAPTURED + DAY, {"research": 10 * DAY}) == 1


def test_where_nothing_is_kept_any_more_what_was_goes_at_its_stated_end(store: CaptureStore) -> None:
    store.add([sealed()])
    assert sweep(store, CAPTURED + DAY - HOUR, {}) == 0
    assert sweep(store, CAPTURED + DAY, {}) == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 50), st.integers(1, 50)), max_size=20),
    st.dictionaries(st.sampled_from(["a", "b"]), st.integers(1, 50)),
    st.integers(0, 100),
)
def test_after_a_sweep_stands_just_what_every_rule_keeps(
    store: CaptureStore, rows: list[tuple[str, int, int]], now_in_force: dict[str, int], at: int
) -> None:
    for tenant in ("a", "b", "c"):
        erase(store, tenant)
    taken = [
        sealed(f"r{number}", tenant=tenant, captured_at=CAPTURED + when * HOUR, expires_at=CAPTURED + (when + kept) * HOUR)
        for number, (tenant, when, kept) in enumerate(rows)
    ]  # fmt: skip
    store.add(taken)
    now, retentions = CAPTURED + at * HOUR, {tenant: hours * HOUR for tenant, hours in now_in_force.items()}
    expected = {
        one.request_id
        for one in taken
        if one.expires_at > now and one.captured_at + retentions.get(one.tenant, 9999 * DAY) > now
    }
    assert sweep(store, now, retentions) == len(taken) - len(expected)
    assert set(names(store)) == expected


def test_what_bodies_take_is_told_and_the_room_of_those_that_went_is_not(store: CaptureStore) -> None:
    """R27."""
    assert not store.takes(10**6)
    for number in range(4):
        store.add([sealed(f"r{number}", answer=os.urandom(300_000))])
    assert store.takes(10**6)
    assert not store.takes(10**7)
    erase(store, "research")
    if isinstance(store, PostgresCaptures):
        store._session.change("SELECT pg_stat_force_next_flush()")
        assert store.takes(10**6)
        store._session.change("VACUUM captures")
    assert not store.takes(10**6)


def test_what_cannot_be_done_is_told_of_bodies_and_not_of_booking(store: CaptureStore) -> None:
    gone = "ALTER TABLE captures RENAME TO elsewhere"
    store._connection.execute(gone) if isinstance(store, SqliteCaptures) else store._session.change(gone)  # type: ignore[attr-defined]
    with pytest.raises(CapturesUnavailable, match="nothing of this was done") as refused:
        store.add([sealed()])
    assert not str(refused.value).startswith("ledger")
    with pytest.raises(CapturesUnavailable):
        names(store)


def test_what_was_kept_is_there_after_it_is_opened_again(ledger: LedgerAt) -> None:
    first = open_captures(ledger, make=True)
    first.add([sealed()])
    first.close()
    for make, reads in ((True, False), (False, False), (False, True)):
        again = open_captures(ledger, make=make, reads=reads)
        assert names(again) == ["r1"]
        again.close()


def test_where_nothing_was_ever_kept_nothing_is_made_for_a_reader(ledger: LedgerAt) -> None:
    for _ in range(2):
        with pytest.raises(NoCaptures, match="no bodies were kept there"):
            open_captures(ledger, make=False)


def test_what_a_newer_release_made_is_left_alone(store: CaptureStore, ledger: LedgerAt) -> None:
    change = "PRAGMA user_version = 9" if isinstance(ledger, Path) else "UPDATE captures_schema SET version = 9"
    if isinstance(store, SqliteCaptures):
        store._connection.execute(change)
    else:
        store._session.change(change)  # type: ignore[attr-defined]
    with pytest.raises(
        CapturesUnavailable, match="schema version 9 and this release knows 1; use the release that wrote"
    ):
        open_captures(ledger, make=True)


def test_a_reader_sees_what_is_added_and_deleted_beside_it(store: CaptureStore, ledger: LedgerAt) -> None:
    reader = open_captures(ledger, make=False, reads=True)
    store.add([sealed()])
    assert names(reader) == ["r1"]
    store.delete("r1")
    assert names(reader) == []
    reader.close()


def test_several_open_add_and_delete_at_once(ledger: LedgerAt) -> None:
    faults: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            store = open_captures(ledger, make=True)
            for number in range(20):
                store.add([sealed(f"{worker}-{number}", tenant=f"t{number % 2}")])
                store.delete_of("t1", 5)
            store.close()
        except BaseException as fault:  # noqa: BLE001 - told by the test's own thread
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    left = open_captures(ledger, make=False)
    assert len(left.listed("t0", NOON, 1000)) == 40
    erase(left, "t1")
    assert len(left.listed(None, NOON, 1000)) == 40
    left.close()
