"""`tollkeeper captures`: what is kept is listed, shown to who has the key, and deleted for good (R27)."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tests.cli.books import booked
from tests.ledger.captures.builders import DAY, body, capture, key, keys
from tollkeeper_cli.__main__ import main
from tollkeeper_ledger.captures.sqlite import SqliteCaptures
from tollkeeper_ledger.captures.vault import Vault

NOW = datetime.now(UTC)
REQUEST = "0191d2a4-7b1c-7000-8000-0123456789ab"
ANSWER = body(b"data: caf\xc3\xa9 \x1b[31m\xff\n\n", content_type="text/event-stream", size=4000, truncated=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a capture of each of two tenants, and one whose time is over."""
    store = SqliteCaptures(tmp_path / "bodies.db")
    times = {"captured_at": NOW - timedelta(hours=1), "expires_at": NOW + DAY}
    Vault(store, keys("a")).keep(
        [
            capture(REQUEST, **times, answer=ANSWER),
            capture("other", tenant="ops", **times),
            capture("over", captured_at=NOW - DAY, expires_at=NOW - timedelta(hours=1)),
        ]
    )
    store.close()
    return tmp_path


@pytest.fixture
def store(data: Path) -> Iterator[SqliteCaptures]:
    """The same, as a running process has it open."""
    store = SqliteCaptures(data / "bodies.db")
    yield store
    store.close()


@pytest.fixture
def config(data: Path) -> Path:
    return settings(data, "a")


def settings(data: Path, letters: str) -> Path:
    file = data / "tollkeeper.yaml"
    (data / "keys").write_text("\n".join(map(key, letters)))
    kept = {"keys": {"file": str(data / "keys")}}
    file.write_text(yaml.safe_dump({"storage": {"directory": str(data)}, "capture": kept}))
    return file


Captured = pytest.CaptureFixture[str]


def run(capsys: Captured, *arguments: str | Path) -> tuple[int, str, str]:
    code = main(("captures", *map(str, arguments)))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_list_tells_what_is_kept_and_needs_no_key(data: Path, capsys: Captured) -> None:
    """R27."""
    code, out, _ = run(capsys, "list", "--data-dir", data, "--tenant", "research")
    header, line = out.splitlines()
    assert (code, header.split()) == (0, ["REQUEST", "TENANT", "CAPTURED", "KEPT", "UNTIL", "STATUS", "BYTES"])
    request, tenant, *_, status, size = line.split()
    assert (request, tenant, status) == (REQUEST, "research", "200")
    assert int(size) > 0


def test_a_list_as_json_has_all_that_are_not_over(data: Path, capsys: Captured) -> None:
    _, out, _ = run(capsys, "list", "--data-dir", data, "-o", "json")
    told = {one["request_id"]: one for one in json.loads(out)}
    assert told.keys() == {REQUEST, "other"}
    assert told["other"]["tenant"] == "ops"
    assert told["other"]["kept_until"].endswith("Z")
    _, out, _ = run(capsys, "list", "--data-dir", data, "-o", "json", "--most", "1")
    assert len(json.loads(out)) == 1


def test_both_bodies_are_shown_to_who_has_the_key(config: Path, capsys: Captured) -> None:
    """R27: what a terminal would obey is shown as its number."""
    code, out, _ = run(capsys, "show", REQUEST, "--config", config)
    assert code == 0
    head, asked, question, told, *answer = out.splitlines()
    assert head.startswith(f"request {REQUEST} of tenant research, ")
    assert (asked, question) == ("--- request: application/json, 18 bytes", '{"question":"why"}')
    assert told == "--- answer 200: text/event-stream, 4000 bytes, of which 20 are kept"
    assert answer[0] == "data: café \\x1b[31m\\xff"


def test_both_bodies_are_shown_as_json_as_they_are(config: Path, capsys: Captured) -> None:
    _, out, _ = run(capsys, "show", REQUEST, "--config", config, "-o", "json")
    told = json.loads(out)
    assert told["request"] == {
        "content_type": "application/json",
        "bytes": 18,
        "truncated": False,
        "body": '{"question":"why"}',
    }
    assert (told["answer"]["truncated"], told["answer"]["body"]) == (True, "data: café \x1b[31m\\xff\n\n")


@pytest.mark.parametrize("request_id", ["nobody", "over"])
def test_what_is_not_kept_is_said_to_be_so(config: Path, capsys: Captured, request_id: str) -> None:
    code, _, err = run(capsys, "show", request_id, "--config", config)
    assert code == 1
    assert (
        f"nothing is kept of a request '{request_id}': it was not captured, its time is over, or it was deleted" in err
    )


def test_without_a_key_nothing_is_shown_and_the_setting_is_named(data: Path, capsys: Captured) -> None:
    code, _, err = run(capsys, "show", REQUEST, "--data-dir", data)
    assert code == 2
    assert "capture.keys: the settings name no key to decrypt with; add it, and name the file with --config" in err


def test_with_another_key_nothing_is_shown_and_the_missing_one_is_named(data: Path, capsys: Captured) -> None:
    """R27."""
    code, out, err = run(capsys, "show", REQUEST, "--config", settings(data, "b"))
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert f"it was encrypted with the key {repr(keys('a'))[5:-1]}, which is not among those of capture.keys" in err


def test_a_rotated_key_still_shows(data: Path, capsys: Captured) -> None:
    assert run(capsys, "show", REQUEST, "--config", settings(data, "ba"))[0] == 0


def test_a_body_that_was_moved_or_changed_ends_with_exit_code_3(
    store: SqliteCaptures, config: Path, capsys: Captured
) -> None:
    """R27."""
    found = store.find("other", NOW)
    assert found is not None
    store.delete("other")
    store.add([replace(found, tenant="research")])
    code, out, err = run(capsys, "show", "other", "--config", config)
    assert (code, out) == (3, "")
    assert len(err.splitlines()) == 1
    assert "tenant research, request other, body of the request: it was changed, or moved here from elsewhere" in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("capture: {keys: {}}", "name exactly one of env and file"),
        ("capture: {keys: {env: NOBODY_SET_THIS}}", "capture.keys: the environment variable NOBODY_SET_THIS is empty"),
        (
            "capture: {keys: {file: /no/such/key}}",
            "capture.keys: /no/such/key cannot be read (No such file or directory)",
        ),
        ("capture: {keys: {env: A_SHORT_KEY}}", "capture.keys: line 1 has 5 bytes and not 32; write 32 random bytes"),
        (
            "capture: {largest_body_bytes: 5}",
            "capture.largest_body_bytes: 5 is not a size: write a whole number of bytes",
        ),
        (
            "capture: {largest_store_bytes: 4GiB}",
            "capture.largest_store_bytes: '4GiB' is not a size: write a whole number of bytes",
        ),
        ("capture: {bodies: Always}", "capture.bodies: there is no such setting"),
    ],
)
def test_settings_that_cannot_be_are_wrong_usage(
    data: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    monkeypatch.setenv("A_SHORT_KEY", "c2hvcnQ=")
    file = data / "wrong.yaml"
    file.write_text(text)
    code, _, err = run(capsys, "show", REQUEST, "--config", file)
    assert (code, says in err, "c2hvcnQ=" in err) == (2, True, False), err


def test_one_request_is_deleted_for_good(store: SqliteCaptures, data: Path, capsys: Captured) -> None:
    """R27: beside a process that has the file open."""
    assert run(capsys, "delete", REQUEST, "--data-dir", data)[:2] == (0, "1 capture deleted\n")
    assert [one.request_id for one in store.listed(None, NOW, 10)] == ["other"]
    code, _, err = run(capsys, "delete", REQUEST, "--data-dir", data)
    assert code == 1
    assert "nothing is kept of a request" in err


def test_all_of_a_tenant_is_deleted_and_counted(store: SqliteCaptures, data: Path, capsys: Captured) -> None:
    """R27: what is over and not swept yet goes with it."""
    assert run(capsys, "delete", "--tenant", "research", "--data-dir", data)[:2] == (0, "2 captures deleted\n")
    assert [one.request_id for one in store.listed(None, NOW, 10)] == ["other"]
    assert run(capsys, "delete", "--tenant", "research", "--data-dir", data)[:2] == (0, "0 captures deleted\n")


@pytest.mark.parametrize("what", [(REQUEST,), ("--tenant", "research")])
def test_a_reader_that_keeps_the_bytes_of_what_is_deleted_is_told_and_the_command_is_to_be_repeated(
    data: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, what: tuple[str, ...]
) -> None:
    """R27."""
    monkeypatch.setattr("tollkeeper_ledger.captures.sqlite._WAIT_SECONDS", 0.05)
    with contextlib.closing(sqlite3.connect(data / "bodies.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM captures").fetchall()
        for deleted in ("1 capture deleted" if what == (REQUEST,) else "2 captures deleted", "0 captures deleted"):
            code, out, err = run(capsys, "delete", *what, "--data-dir", data)
            assert (code, out) == (1, f"{deleted}\n")
            assert len(err.splitlines()) == 1
            assert "a reader keeps the log of bodies.db from being emptied" in err
            assert "Repeat the command" in err
    code, out, err = run(capsys, "delete", "--tenant", "research", "--data-dir", data)
    assert (code, err) == (0, "")


@pytest.mark.parametrize("arguments", [(), (REQUEST, "--tenant", "research")])
def test_what_is_deleted_is_named_one_way(data: Path, capsys: Captured, arguments: tuple[str, ...]) -> None:
    code, _, err = run(capsys, "delete", *arguments, "--data-dir", data)
    assert code == 2
    assert "name one request, or a tenant with --tenant" in err


@pytest.mark.parametrize(
    ("command", "says"),
    [(("list",), "ledger.db: there is no ledger"), (("delete", REQUEST), "bodies.db: no bodies were kept there; name")],
)
def test_where_no_ledger_is_is_said_and_nothing_made(
    tmp_path: Path, capsys: Captured, command: tuple[str, ...], says: str
) -> None:
    code, _, err = run(capsys, *command, "--data-dir", tmp_path)
    assert code == 1
    assert says in err
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_of_which_no_body_was_ever_kept_has_an_empty_list(tmp_path: Path, capsys: Captured) -> None:
    booked(tmp_path, 1)
    code, out, err = run(capsys, "list", "-o", "json", "--data-dir", tmp_path)
    assert (code, out, err) == (0, "[]\n", "")


@pytest.mark.parametrize("command", [("show",), ("delete",), ("delete", "--tenant"), ("list", "--tenant")])
@pytest.mark.parametrize(("name", "told"), [("\udcff", r"'\udcff'"), ("a\nb", r"'a\nb'")])
def test_what_is_nobodys_name_is_wrong_usage(
    config: Path, capsys: Captured, command: tuple[str, ...], name: str, told: str
) -> None:
    """R27: bytes of an argument that are no UTF-8 come so."""
    code, out, err = run(capsys, *command, name, "--config", config)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert f"{told} has characters that no name has" in err


@pytest.mark.parametrize("command", [(), ("list",), ("show",), ("delete",)])
def test_every_command_explains_itself(command: tuple[str, ...], capsys: Captured) -> None:
    code, out, _ = run(capsys, *command, "--help")
    assert code == 0
    assert "Usage: tollkeeper captures" in out
