"""`make demo`: build or find a cluster, start everything, tell the story; then stay up, or end with `ONCE=1`."""

import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from tollkeeper_cluster import Cluster, ClusterError, LocalCluster, find_cluster
from tollkeeper_cluster.progress import shown_on
from tollkeeper_demo.settings import DemoSettings, from_environment
from tollkeeper_demo.stage import Stage
from tollkeeper_demo.story import Story
from tollkeeper_demo.telling import StoryError, Teller
from tollkeeper_demo.trace import TraceError

OPERATOR_USER = "tollkeeper-operator"
"""Who `tollkeeper up` is on a local cluster: not the administrator, so that the guard of the gates has somebody to refuse."""


def main() -> int:
    """Exit code 0 when every step held, 1 otherwise."""
    teller = Teller()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        settings = from_environment()
        with find_cluster(settings.context, progress=shown_on()) as cluster, tempfile.TemporaryDirectory() as folder:
            asyncio.run(_play(settings, cluster, Path(folder), teller))
    except (StoryError, ClusterError, TraceError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        teller.say("stopped")
        return 0 if not _once() else 1
    return 0


def _once() -> bool:
    return from_environment().once


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


async def _play(settings: DemoSettings, cluster: Cluster, folder: Path, teller: Teller) -> None:
    kubeconfig = cluster.kubeconfig
    if isinstance(cluster, LocalCluster):
        kubeconfig = cluster.kubeconfig_for(OPERATOR_USER, ("system:masters",))
    stage = Stage(settings, cluster, folder, teller, kubeconfig)
    try:
        teller.step("The cluster, the simulated provider and `tollkeeper up`")
        stage.run("kubectl", "version")
        stage.provider.start()
        await stage.provider.ready(stage.address("provider", "/v1/models"))
        await stage.start_up()
        teller.say(f"ready: gateway {stage.address('gateway')}, console {stage.address('console')}")
        await Story(stage).tell()
        teller.say(f"\nThe console: {stage.address('console')}/budgets/research/monthly")
        if not settings.once:
            environment = " ".join(f"{name}={value}" for name, value in cluster.environment().items() if name != "PATH")
            teller.say(
                "Everything stays up; Ctrl-C ends it. In another terminal:\n"
                f"export {environment} TOLLKEEPER_DATA_DIR={stage.data} PATH={cluster.kubectl.parent}:$PWD/.venv/bin:$PATH"
            )
            await asyncio.Event().wait()
    finally:
        stage.close()


if __name__ == "__main__":
    sys.exit(main())
