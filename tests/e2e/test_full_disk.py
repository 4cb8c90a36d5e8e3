"""`tollkeeper up` on a disk that fills up, as its users meet it: one clear line, nothing lost, and it goes on by itself."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from tests.e2e.conftest import apply_policy
from tests.e2e.programs import Up, wait_for
from tests.e2e.test_up import one_line_of

from tollkeeper_cluster import Kubectl
from tollkeeper_provider import read_book, totals

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="a small file system can be mounted by root alone"),
]


@pytest.fixture
def small_disk(up: Up) -> Iterator[Path]:
    """16 MiB under the data folder of `up`, given back afterwards."""
    up.data.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(up.data)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield up.data
    up.kill()
    subprocess.run(["umount", str(up.data)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


def ask(client: openai.OpenAI) -> openai.APIError | None:
    """One request: None when it was answered."""
    try:
        client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hello"}])
    except openai.APIError as error:
        return error
    return None


def test_a_full_disk_refuses_requests_and_space_that_comes_back_is_used(
    up: Up, small_disk: Path, own_kubectl: Kubectl, provider: tuple[str, Path]
) -> None:
    up.start()
    apply_policy(own_kubectl, "disk", "50.00")
    key = up.new_key("disk")
    with openai.OpenAI(base_url=f"{up.addresses['gateway']}/openai/v1", api_key=key, max_retries=0) as client:
        wait_for("a request to pass", lambda: ask(client) is None)
        filler = fill(small_disk)
        refused = wait_for("requests to be refused", lambda: ask(client), 30)
        assert isinstance(refused, openai.InternalServerError)
        assert refused.status_code == 503
        filler.unlink()
        wait_for("requests to pass again", lambda: ask(client) is None, 60)
    assert up.stop() == 0
    usages = [row for line in up.exported() if line["kind"] == "usage" for row in line["usage"]]
    book = totals(read_book(provider[1]))
    assert sum(usage["cost"] for usage in usages) == book.cost_nanodollars
    assert "Traceback" not in up.log.read_text()


def test_a_disk_that_is_full_at_the_start_is_one_clear_line(up: Up, small_disk: Path) -> None:
    fill(small_disk)
    up.launch()
    assert up.wait() == 1
    assert str(small_disk) in one_line_of(up)
