"""Group commit: one thread takes all steps that wait, runs them as one work and commits it once.

A step is a function of a `Work`; it may run more than once where a storage has several writers, so it has no effect but its
changes and its answer. Its future is resolved after the commit that holds it, so an answer is durable. A step
that raises gets its own error and leaves the others alone; a commit that fails fails all of its batch, and nothing of it
is booked.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from tollkeeper.errors import TollkeeperError
from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.storage import Store
from tollkeeper_ledger.work import State, Work

Result = TypeVar("Result")
Step = Callable[[Work], Any]

LARGEST_BATCH = 512
LONGEST_QUEUE = 8192


class LedgerWriter:
    """The one writer of a ledger. `committed` is called on the writing thread with the accounts that a commit changed."""

    def __init__(self, store: Store, committed: Callable[[frozenset[str]], None]) -> None:
        self.store = store
        self._committed = committed
        self._closed = False
        self._waiting: queue.Queue[tuple[Step, Future[Any]] | None] = queue.Queue(LONGEST_QUEUE)
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, step: Callable[[Work], Result]) -> Future[Result]:
        """Run a step in the next batch. The future raises what the step raised, or `LedgerUnavailable`."""
        future: Future[Result] = Future()
        if self._closed:
            future.set_exception(LedgerUnavailable(f"ledger {self.store.name}: it is being closed"))
            return future
        try:
            self._waiting.put_nowait((step, future))
        except queue.Full:
            future.set_exception(LedgerUnavailable(f"ledger {self.store.name}: {LONGEST_QUEUE} writes wait; try again"))
        return future

    def close(self) -> None:
        """Commit what waits, then close the ledger."""
        self._closed = True
        self._waiting.put(None)
        self._thread.join()
        self.store.close()

    def _run(self) -> None:
        while batch := self._next_batch():
            # From here on a step can no longer be taken back; one that was is not begun.
            self._commit([(step, future) for step, future in batch if future.set_running_or_notify_cancel()])

    def _next_batch(self) -> list[tuple[Step, Future[Any]]]:
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

    def _commit(self, batch: list[tuple[Step, Future[Any]]]) -> None:
        answers: list[tuple[Any, BaseException | None]] = []

        def change(state: State) -> Work:
            work = Work(state)
            answers[:] = [_attempt(step, work) for step, _ in batch]
            return work

        failure: TollkeeperError | None = None
        try:
            work = self.store.transact(change)
        except TollkeeperError as unbooked:
            failure = unbooked
        except Exception as fault:  # noqa: BLE001 - a fault of ours in one batch must not end the one writer
            failure = LedgerUnavailable(f"ledger {self.store.name}: nothing of this batch was booked: {fault!r}")
            failure.__cause__ = fault
        else:
            if not work.is_empty:
                self._committed(frozenset(work.accounts))
        if len(answers) < len(batch):
            answers = [(None, None)] * len(batch)
        for (_, future), (value, refused) in zip(batch, answers, strict=True):
            if error := refused or failure:
                future.set_exception(error)
            else:
                future.set_result(value)


def _attempt(step: Step, work: Work) -> tuple[Any, BaseException | None]:
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
