"""`make demo`: build or find a cluster, start everything, tell the story; then stay up, or end with `ONCE=1`."""

import asyncio
import contextlib
import sys
from pathlib import Path

from tollkeeper_cluster import Cluster, ClusterError, LocalCluster, find_cluster
from tollkeeper_cluster.progress import shown_on
from tollkeeper_cluster.run import Run
from tollkeeper_demo.ending import end_as_at_ctrl_c, end_with_make
from tollkeeper_demo.ports import require_free_ports
from tollkeeper_demo.settings import DemoSettings, from_environment
from tollkeeper_demo.stage import Stage
from tollkeeper_demo.story import Story
from tollkeeper_demo.telling import StoryError, Teller
from tollkeeper_demo.trace import TraceError

OPERATOR_USER = "tollkeeper-operator"
"""Who `tollkeeper up` is on a local cluster: not the administrator, so that the guard of the gates has somebody to refuse."""


def main() -> int:
    """Exit code 0 when every step held, 1 otherwise."""
    end_as_at_ctrl_c()
    end_with_make()
    try:
        settings = from_environment()
        require_free_ports(settings)
    except (StoryError, TraceError) as error:
        return _failed(str(error))
    try:
        with find_cluster(settings.context, progress=shown_on()) as cluster, Run() as run:
            asyncio.run(_play(settings, cluster, run, Teller()))
    except KeyboardInterrupt:
        if settings.once:
            return _failed("stopped before all was checked")
        _tell("everything has ended")
    except (StoryError, ClusterError, TraceError, OSError) as error:
        return _failed(str(error))
    return 0


def _failed(why: str) -> int:
    _tell(why)
    return 1


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(f"demo: {' '.join(line.split())}", file=sys.stderr, flush=True)


async def _play(settings: DemoSettings, cluster: Cluster, run: Run, teller: Teller) -> None:
    kubeconfig = cluster.kubeconfig
    if isinstance(cluster, LocalCluster):
        kubeconfig = cluster.kubeconfig_for(OPERATOR_USER, ("system:masters",))
    stage = Stage(settings, cluster, run, teller, kubeconfig)
    try:
        teller.step("The cluster, the simulated provider and `tollkeeper up`")
        await stage.run("kubectl", "version")
        stage.provider.start()
        await stage.provider.ready(stage.address("provider", "/v1/models"))
        await stage.start_up()
        teller.say(f"ready: gateway {stage.address('gateway')}, console {stage.address('console')}")
        await Story(stage).tell()
        if not settings.once:
            teller.say(f"\nThe console: {stage.address('console')}/budgets/research/monthly")
            environment = " ".join(f"{name}={value}" for name, value in cluster.environment().items() if name != "PATH")
            programs = f"{cluster.kubectl.parent}:{Path(sys.executable).parent}"
            teller.say(
                "Everything stays up; Ctrl-C ends it. In another terminal:\n"
                f"export {environment} TOLLKEEPER_CONFIG={stage.config} TOLLKEEPER_DATA_DIR={stage.data} PATH={programs}:$PATH"
            )
            await stage.stays_up()
    finally:
        stage.close()


if __name__ == "__main__":
    sys.exit(main())
