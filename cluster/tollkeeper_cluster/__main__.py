"""`python -m tollkeeper_cluster`: build the local Kubernetes, or run it in the foreground."""

import argparse
import signal
import sys
import time
from types import FrameType

from tollkeeper_cluster.binaries import ensure_binaries
from tollkeeper_cluster.cache import build_folder
from tollkeeper_cluster.errors import ClusterError, StartError
from tollkeeper_cluster.find import find_cluster
from tollkeeper_cluster.progress import shown_on

_DONE, _FAILED = 0, 1
_LOOK_EVERY_SECONDS = 2.0


class _StopRequestedError(Exception):
    """Somebody wants this program to end."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Exit status 0: done, 1: failed (one line on standard error), 2: wrong usage."""
    chosen = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        return _run(chosen)
    except ClusterError as error:
        print(f"tollkeeper_cluster: {error}", file=sys.stderr)
        return _FAILED
    except _StopRequestedError:
        print("tollkeeper_cluster: stopped before it was done", file=sys.stderr)
        return _FAILED


def _run(chosen: argparse.Namespace) -> int:
    if chosen.command == "build":
        print(ensure_binaries(shown_on()).kubectl.parent)
    elif chosen.command == "path":
        print(build_folder())
    else:
        _up(chosen.context)
    return _DONE


def _up(context: str | None) -> None:
    with find_cluster(context, progress=shown_on()) as cluster:
        print(f"# context {cluster.context}; Ctrl-C ends it")
        for name, value in cluster.environment().items():
            print(f"export {name}='{value}'")
        sys.stdout.flush()
        try:
            while (failure := cluster.failure()) is None:
                time.sleep(_LOOK_EVERY_SECONDS)
            raise StartError(failure)
        except _StopRequestedError:
            print("# ended", flush=True)


def _stop(_number: int, _frame: FrameType | None) -> None:
    # From here on the way out is short; a second signal must not interrupt it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise _StopRequestedError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tollkeeper_cluster",
        description="A local Kubernetes control plane for development: etcd, API server, controllers, kubectl.",
        epilog="KUBEBUILDER_ASSETS names a folder with these programs; without it they are built from source, once.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the programs if need be (minutes, once) and print their folder")
    commands.add_parser("path", help="print the folder that the programs of this version are kept in")
    up = commands.add_parser("up", help="run a cluster in the foreground and print how to reach it; Ctrl-C ends it")
    up.add_argument("--context", help="use this kube context instead of a cluster of our own")
    return parser


if __name__ == "__main__":
    sys.exit(main())
