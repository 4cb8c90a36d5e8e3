"""How the demo comes to its end: Ctrl-C, a termination, a closed terminal, and the end of the `make` above it."""

import os
import signal
import threading
from types import FrameType

PARENT_CHECK_SECONDS = 0.5


def end_as_at_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP do what SIGINT does at that moment: the first ends the story in order, the next one at once.

    A signal that is ignored already stays ignored (`nohup make demo`).
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_number: int, frame: FrameType | None) -> None:
    at_ctrl_c = signal.getsignal(signal.SIGINT)
    if callable(at_ctrl_c):
        at_ctrl_c(signal.SIGINT, frame)
    else:
        raise KeyboardInterrupt


def end_with_make() -> None:
    """End in order when the `make` that started this process is gone: a killed one cannot pass its signal on."""
    if "MAKELEVEL" in os.environ:
        threading.Thread(target=_follow, args=(os.getppid(),), name="parent", daemon=True).start()


def _follow(parent: int) -> None:
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(PARENT_CHECK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
