"""Group commit: one thread takes all steps that wait, runs them as one work and commits it once.

A step is a function of a `Work`. Its future is resolved after the commit that holds it, so an answer is durable. A step
that raises gets its own error and leaves the others alone. A commit that the storage does not take now fails all of its batch,
and nothing of it is booked; one that fails for another reason is done over once, each step alone, so that only the step
at fault is refused. So a step may run more than once, also where a storage has several writers: it has no effect but its
changes and its answer.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol, TypeVar

from tollkeeper.errors import TollkeeperError, Unavailable
from tollkeeper_ledger.errors import LedgerUnavailable, Unstorable
from tollkeeper_ledger.state import State
from tollkeeper_ledger.storage import Store
from tollkeeper_ledger.work import Work

Result = TypeVar("Result")
Step = Callable[[Work], Any]
Answer = tuple[Any, BaseException | None]


class Waiting(Protocol):
    """Who waits for the answer to a step, such as a future."""

    def cancelled(self) -> bool:
        """Whether the step was taken back; it is not begun then."""
        ...


Deliver = Callable[[Sequence[tuple[Any, Any, BaseException | None]]], None]
"""Gets everybody who waits for a step of a batch, each with the answer or the error."""


class _Asked(NamedTuple):
    step: Step
    waiting: Any
    deliver: Deliver


LARGEST_BATCH = 512
LONGEST_QUEUE = 8192


class LedgerWriter:
    """The one writer of a ledger. `committed` is called on the writing thread with the accounts that a commit changed."""

    def __init__(self, store: Store, committed: Callable[[frozenset[str]], None]) -> None:
        self.store = store
        self._committed = committed
        self._closed = False
        self._waiting: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, step: Callable[[Work], Result]) -> Future[Result]:
        """Run a step in the next batch.

        The future raises what the step raised; `LedgerUnavailable` while the ledger cannot be written; another error, such
        as `Unstorable`, for a step whose changes cannot be stored.
        """
        future: Future[Result] = Future()
        try:
            self.enqueue(step, future, resolve)
        except LedgerUnavailable as error:
            future.set_exception(error)
        return future

    def enqueue(self, step: Step, waiting: Waiting, deliver: Deliver) -> None:
        """Run a step in the next batch; `deliver` is called once for all steps of the batch that name it.

        It is called on the writing thread, which does nothing else meanwhile. Raises `LedgerUnavailable` when the ledger
        is being closed, or too many wait.
        """
        if self._closed:
            raise LedgerUnavailable(f"ledger {self.store.name}: it is being closed")
        if self._waiting.qsize() >= LONGEST_QUEUE:
            raise LedgerUnavailable(f"ledger {self.store.name}: {LONGEST_QUEUE} writes wait; try again")
        self._waiting.put(_Asked(step, waiting, deliver))

    def close(self) -> None:
        """Commit what waits, then close the ledger."""
        self._closed = True
        self._waiting.put(None)
        self._thread.join()
        self.store.close()

    def _run(self) -> None:
        while batch := self._next_batch():
            # From here on a step can no longer be taken back; one that was is not begun.
            self._do([asked for asked in batch if _begins(asked.waiting)])

    def _next_batch(self) -> list[_Asked]:
        """Wait for one step and take along what else waits; empty at the end."""
        first = self._waiting.get()
        batch = [] if first is None else [first]
        while batch and len(batch) < LARGEST_BATCH:
            try:
                more = self._waiting.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._waiting.put(None)
                break
            batch.append(more)
        return batch

    def _do(self, batch: list[_Asked]) -> None:
        answers, failure = self._transact([asked.step for asked in batch])
        if failure is not None and len(batch) > 1 and not isinstance(failure, Unavailable):
            for one in batch:
                self._do([one])
            return
        told: dict[Deliver, list[tuple[Any, Any, BaseException | None]]] = {}
        for (_, waiting, deliver), (value, refused) in zip(batch, answers, strict=True):
            told.setdefault(deliver, []).append((waiting, value, refused or failure))
        for deliver, answered in told.items():
            deliver(answered)

    def _transact(self, steps: list[Step]) -> tuple[list[Answer], TollkeeperError | None]:
        """Make what the steps change durable: their answers, and why that failed."""
        answers: list[Answer] = []

        def change(state: State) -> Work:
            work, answers[:] = _together(steps, state) or _apart(steps, state)
            return work

        failure: TollkeeperError | None = None
        try:
            work = self.store.transact(change)
        except TollkeeperError as unbooked:
            failure = unbooked
        except Exception as fault:  # noqa: BLE001 - the one writing thread must outlive whatever one batch holds
            failure = Unstorable(f"ledger {self.store.name}: {fault!r}; nothing of this was booked")
            failure.__cause__ = fault
        else:
            if not work.is_empty:
                self._committed(work.changed_accounts)
        return answers if len(answers) == len(steps) else [(None, None)] * len(steps), failure


def resolve(answered: Sequence[tuple[Future[Any], Any, BaseException | None]]) -> None:
    """Give futures their answers."""
    for future, value, error in answered:
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)


def _begins(waiting: Waiting) -> bool:
    """From here on a step can no longer be taken back."""
    return waiting.set_running_or_notify_cancel() if isinstance(waiting, Future) else not waiting.cancelled()


Done = tuple[Work, list[Answer]]


def _together(steps: list[Step], state: State) -> Done | None:
    """All steps on one work; nothing where one of them raises, for its changes cannot be told from the others'."""
    work, answers = Work(state), list[Answer]()
    try:
        for step in steps:
            work.touched.clear()
            answers.append((step(work), None))
    except LedgerUnavailable:
        raise
    except Exception:  # noqa: BLE001 - it is done over apart, where whoever submitted the step is told
        return None
    return work, answers


def _apart(steps: list[Step], state: State) -> Done:
    """Each step on a work of its own, so that one that raises leaves the others alone."""
    work = Work(state)
    return work, [_attempt(step, work) for step in steps]


def _attempt(step: Step, work: Work) -> Answer:
    """Run a step on a work of its own; take its changes over only when it succeeds. What the storage raises ends the batch."""
    own = Work(work)
    try:
        value = step(own)
    except LedgerUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - handed to whoever submitted the step
        return None, error
    work.absorb(own)
    return value, None
