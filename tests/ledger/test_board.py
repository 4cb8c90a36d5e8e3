"""The board of authorities that share a database: as the model of it that recalls are checked with, and by several at once."""

import threading
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.board import Board
from tests.postgres_server import PostgresServer
from tollkeeper.recalls import Ask, Posting
from tollkeeper_ledger.postgres import board as module
from tollkeeper_ledger.postgres.board import PostgresBoard
from tollkeeper_ledger.postgres.store import PostgresStore

ASKS = [Ask(account, holder) for account in ("a", 'b"\\', "c@2026") for holder in ("g1", "g2", "é")]
A_DAY = 86_400.0


@pytest.fixture(scope="module")
def dsn(postgres: PostgresServer) -> str:
    dsn = postgres.new_database()
    PostgresStore(dsn).close()
    return dsn


@pytest.fixture
def board(dsn: str) -> Iterator[PostgresBoard]:
    board = PostgresBoard(dsn)
    yield board
    board.close()
    clear(dsn)


def clear(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("DELETE FROM recalls")


def rows(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        (count,) = connection.execute("SELECT count(*) FROM recalls").fetchall()[0]
        return int(count)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from(ASKS)), st.dictionaries(st.sampled_from(ASKS), st.booleans())), max_size=8
    )
)
def test_it_does_what_its_model_does(dsn: str, steps: list[tuple[set[Ask], dict[Ask, bool]]]) -> None:
    """Answers are to what stands there now, or to what was asked before."""
    clear(dsn)
    real, model = PostgresBoard(dsn), Board()
    stands, stands_in_model = real.exchange(Posting()), model.exchange(Posting(), 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RECALL_SECONDS", A_DAY)
        for number, (asks, answers) in enumerate(steps):
            given_, given_in_model = (
                {ask: board[ask] - (0 if now else 1) for ask, now in answers.items() if ask in board}
                for board in (stands, stands_in_model)
            )
            stands = real.exchange(Posting(frozenset(asks), given_))
            stands_in_model = model.exchange(Posting(frozenset(asks), given_in_model), float(number) / 1000)
            assert stands.keys() == stands_in_model.keys()
    real.close()


def test_what_nobody_answers_is_over_after_the_recall_time_and_swept_away_by_the_next_that_is_asked(
    dsn: str, board: PostgresBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECALL_SECONDS", 0.0)
    assert board.exchange(Posting(frozenset(ASKS))) == {}
    assert rows(dsn) == len(ASKS)
    monkeypatch.undo()
    assert board.exchange(Posting(frozenset(ASKS[:1]))).keys() == {ASKS[0]}
    assert rows(dsn) == 1


def test_what_is_asked_again_stands_for_longer(board: PostgresBoard) -> None:
    first = board.exchange(Posting(frozenset(ASKS)))
    assert all(until > first[ask] for ask, until in board.exchange(Posting(frozenset(ASKS))).items())


class InOrder(frozenset[Ask]):
    """A set whose order is the test's: that of a set differs from process to process."""

    backwards = False

    def __iter__(self) -> Iterator[Ask]:
        return iter(sorted(super().__iter__(), reverse=self.backwards))


class Backwards(InOrder):
    backwards = True


def test_several_that_ask_and_answer_at_once_do_not_block_each_other(dsn: str) -> None:
    """A circle of locks would end one of them with an error."""
    asks = [Ask(f"a{number}", f"g{number % 7}") for number in range(300)]
    faults: list[BaseException] = []

    def work(order: type[InOrder]) -> None:
        board = PostgresBoard(dsn)
        try:
            for _ in range(15):
                stands = board.exchange(Posting(order(asks)))
                board.exchange(Posting(answers={ask: stands[ask] for ask in order(stands.keys() & asks[::2])}))
        except BaseException as fault:  # noqa: BLE001 - told by the test's own thread
            faults.append(fault)
        finally:
            board.close()

    threads = [threading.Thread(target=work, args=(order,)) for order in (InOrder, Backwards) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
