import asyncio
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper_provider import BookEntry, BookError, Buckets, read_book, totals
from tollkeeper_provider.book import Book

TOKENS = st.integers(0, 10**12)
entries = st.builds(
    BookEntry,
    id=st.text(st.characters(codec="utf-8"), max_size=20),
    time=st.datetimes(timezones=st.just(UTC)),
    model=st.text(st.characters(codec="utf-8"), max_size=20),
    stream=st.booleans(),
    buckets=st.builds(Buckets, input=TOKENS, cache_read=TOKENS, output=TOKENS, reasoning=TOKENS),
    cost_nanodollars=st.none() | st.integers(0, 2**62),
    completed=st.booleans(),
)


def entry(number: int, cost: int | None = 5) -> BookEntry:
    at = datetime(2026, 11, 21, 10, 0, number % 60, tzinfo=UTC)
    return BookEntry(f"chatcmpl-{number}", at, "gpt-5", False, Buckets(input=number, output=1), cost, True)


async def _book(path: Path, booked: list[BookEntry]) -> None:
    book = Book(path)
    try:
        await asyncio.gather(*(book.append(one) for one in booked))
    finally:
        await book.close()


@given(st.lists(entries, max_size=20))
def test_a_book_reads_back_as_it_was_written(booked: list[BookEntry]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "book"
        asyncio.run(_book(path, booked))
        assert read_book(path) == booked


@given(st.lists(entries, max_size=20))
def test_totals_are_the_sums_of_the_entries(booked: list[BookEntry]) -> None:
    summed = totals(booked)

    assert summed.answers == len(booked)
    assert summed.buckets.total == sum(one.buckets.total for one in booked)
    assert summed.cost_nanodollars == sum(one.cost_nanodollars or 0 for one in booked)
    assert summed.unpriced == sum(one.cost_nanodollars is None for one in booked)
    assert summed.incomplete == sum(not one.completed for one in booked)


@given(st.integers(1, 400))
def test_a_torn_last_line_is_passed_over_by_readers_and_cut_off_by_the_next_writer(bytes_lost: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "book"
        asyncio.run(_book(path, [entry(1), entry(2), entry(3)]))
        whole = path.read_bytes()
        path.write_bytes(whole[: max(len(whole) - bytes_lost, 0)])
        left = read_book(path)

        asyncio.run(_book(path, [entry(4)]))

        assert left == [entry(1), entry(2), entry(3)][: len(left)]
        assert len(left) < 3
        assert read_book(path) == [*left, entry(4)]


async def test_an_entry_is_in_the_file_when_its_append_returns(tmp_path: Path) -> None:
    book = Book(tmp_path / "book")
    for number in range(5):
        await book.append(entry(number))
        assert read_book(tmp_path / "book")[-1] == entry(number)
    await book.close()


async def test_an_entry_whose_caller_is_cancelled_is_booked_all_the_same(tmp_path: Path) -> None:
    book = Book(tmp_path / "book")
    appending = asyncio.create_task(book.append(entry(1)))
    await asyncio.sleep(0)
    appending.cancel()
    await book.close()

    assert appending.cancelled()
    assert read_book(tmp_path / "book") == [entry(1)]


async def test_a_closed_book_takes_no_entry(tmp_path: Path) -> None:
    book = Book(tmp_path / "book")
    await book.close()
    with pytest.raises(BookError, match="is closed; chatcmpl-1 is not booked"):
        await book.append(entry(1))


async def test_a_book_has_one_writer(tmp_path: Path) -> None:
    book = Book(tmp_path / "book")
    with pytest.raises(BookError, match="is in use by another provider"):
        Book(tmp_path / "book")
    await book.close()
    await Book(tmp_path / "book").close()


def test_a_line_that_is_no_entry_is_named(tmp_path: Path) -> None:
    asyncio.run(_book(tmp_path / "book", [entry(1)]))
    with (tmp_path / "book").open("a") as file:
        file.write("{}\n")
    with pytest.raises(BookError, match="line 2 is not an entry"):
        read_book(tmp_path / "book")


@pytest.mark.parametrize("name", ["", "missing/book"])
def test_a_book_that_cannot_be_opened_is_one_clear_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(BookError, match=r"^book .*: cannot be opened: "):
        Book(tmp_path / name)


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from test_book import entry
from tollkeeper_provider import BookError
from tollkeeper_provider.book import Book

async def main():
    book = Book(Path(sys.argv[1]))
    await book.append(entry(1))
    size = Path(sys.argv[1]).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
    try:
        await book.append(entry(2))
    except BookError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await book.append(entry(3))
    await book.close()

asyncio.run(main())
"""


def test_a_full_disk_refuses_the_entry_and_leaves_no_half_of_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "book")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
        timeout=30,
    )
    assert "cannot be written: File too large; make room on its disk" in done.stdout
    assert read_book(tmp_path / "book") == [entry(1), entry(3)]


@pytest.mark.parametrize("text", ["notes\n", "notes", '{"id":"1"}\n{"to": 1', "\x7fELF"])
def test_a_file_that_is_no_book_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes"
    path.write_text(text)
    with pytest.raises(BookError, match="another kind of file; name another with --book"):
        Book(path)
    assert path.read_text() == text
