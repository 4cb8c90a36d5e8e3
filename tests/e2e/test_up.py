"""`tollkeeper up` as its user meets it: on a real API server, with kubectl and the official client."""

from pathlib import Path

import openai
import pytest
from tests.e2e.conftest import apply_policy, phase_of
from tests.e2e.programs import Up, wait_for

from tollkeeper_cluster import Kubectl, LocalCluster
from tollkeeper_demo.traffic import endless, send
from tollkeeper_provider import read_book, totals

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

GRANT = """
apiVersion: tollkeeper.dev/v1alpha1
kind: TokenGrant
metadata: {{name: top-up, namespace: {name}}}
spec: {{budgetRef: {{name: monthly}}, amount: "{amount}", reason: TopUp, reference: INV-1}}
"""
POD = ("run", "worker", "--image=worker", "--labels=tollkeeper.dev/metered=true", "--dry-run=server")


async def test_a_spent_budget_refuses_requests_and_pods_and_a_grant_releases_both(
    up: Up, own_kubectl: Kubectl, provider: tuple[str, Path]
) -> None:
    up.start()
    apply_policy(own_kubectl, "story", "0.05")
    key = up.new_key("story")
    url = f"{up.addresses['gateway']}/openai/v1"

    refused = 0

    def all_refused(result: object) -> bool:
        nonlocal refused
        refused = refused + 1 if getattr(result, "error", None) else 0
        return refused > 200

    summary = await send(endless(3), url, key, until=all_refused)
    assert summary.ok > 20
    assert set(summary.refused) <= {("RateLimitError", "insufficient_quota"), ("RateLimitError", "rate_limit_exceeded")}
    wait_for("the budget to be Insufficient", lambda: phase_of(own_kubectl, "story") == "Insufficient")
    said = wait_for("pods to be refused", lambda: _refusal(own_kubectl))
    assert "monthly" in said
    assert "0.05" not in said or "balance" in said.lower()

    up.stop()
    assert "monthly" in (_refusal(own_kubectl) or ""), "the policy in the API server stands without us"
    unmetered = own_kubectl("run", "plain", "--image=plain", "--dry-run=server", namespace="story", check=False)
    assert unmetered.returncode == 0

    up.start()
    own_kubectl("apply", "-f", "-", input=GRANT.format(name="story", amount="5.00"))
    wait_for("pods to be let in again", lambda: _refusal(own_kubectl) is None)
    async with openai.AsyncOpenAI(base_url=f"{up.addresses['gateway']}/openai/v1", api_key=key) as client:
        answer = await client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hi"}])
    assert answer.usage is not None
    assert up.stop() == 0

    usages = [row for line in up.exported() if line["kind"] == "usage" for row in line["usage"]]
    book = totals(read_book(provider[1]))
    assert sum(usage["cost"] for usage in usages) == book.cost_nanodollars
    assert len(usages) == book.answers


def _refusal(kubectl: Kubectl) -> str | None:
    outcome = kubectl(*POD, namespace="story", check=False)
    return outcome.stderr if outcome.returncode else None


async def test_a_revoked_key_is_refused_within_five_seconds(up: Up, own_kubectl: Kubectl) -> None:
    up.start()
    apply_policy(own_kubectl, "keys", "1.00")
    key = up.new_key("keys", "--user", "alice")
    url = f"{up.addresses['gateway']}/openai/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
        wait = wait_for("the key to work", lambda: up.tollkeeper("keys", "list").stdout)
        assert "alice" in wait
        await client.models.list()
        up.tollkeeper("keys", "revoke", key.split("_")[1])
        wait_for("the key to be refused", lambda: _is_refused(url, key), seconds=5)
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


def _is_refused(url: str, key: str) -> bool:
    try:
        openai.OpenAI(base_url=url, api_key=key, max_retries=0).models.list()
    except openai.AuthenticationError:
        return True
    return False


async def test_an_unpriced_model_is_refused_and_told_why(up: Up, own_kubectl: Kubectl) -> None:
    up.start()
    apply_policy(own_kubectl, "prices", "1.00")
    key = up.new_key("prices")
    async with openai.AsyncOpenAI(
        base_url=f"{up.addresses['gateway']}/openai/v1", api_key=key, max_retries=0
    ) as client:
        with pytest.raises(openai.PermissionDeniedError, match="PriceBook"):
            await client.chat.completions.create(model="nobody-knows-it", messages=[{"role": "user", "content": "hi"}])


def one_line_of(up: Up) -> str:
    """What a failed start says, which is one line without a traceback."""
    lines = [line for line in up.log.read_text().splitlines() if not line.startswith("{")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("Error: ")
    return lines[0]


def test_an_api_server_that_does_not_answer_is_one_clear_line(up: Up, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "nobody"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {token: t}}]\n"
    )
    up.launch("--kubeconfig", str(kubeconfig))
    assert up.wait() == 1
    assert "https://127.0.0.1:1" in one_line_of(up)


def test_a_user_who_may_not_is_named_with_what_is_missing(up: Up, own_cluster: LocalCluster) -> None:
    up.launch("--kubeconfig", str(own_cluster.kubeconfig_for("alice")))
    assert up.wait() == 1
    said = one_line_of(up)
    assert 'User "alice" cannot' in said
    assert said.endswith("ask for that permission, or use another context")


def test_a_data_folder_that_cannot_be_written_is_one_clear_line(up: Up) -> None:
    up.launch("--data-dir", "/proc/tollkeeper")
    assert up.wait() == 1
    assert one_line_of(up).startswith("Error: ledger /proc/tollkeeper/ledger.db: ")


def test_missing_crds_are_one_clear_line(tmp_path: Path, provider: tuple[str, Path]) -> None:
    with LocalCluster.start() as bare:
        up = Up(tmp_path, bare.environment(), provider[0])
        up.launch("--no-install")
        assert up.wait() == 1
        assert "tollkeeper crds | kubectl apply -f -" in one_line_of(up)


def test_an_up_with_other_books_is_refused_and_changes_nothing(
    up: Up, own_kubectl: Kubectl, own_cluster: LocalCluster, provider: tuple[str, Path], tmp_path: Path
) -> None:
    up.start()
    before = own_kubectl("get", "validatingwebhookconfigurations", "tollkeeper", "-o", "yaml").stdout
    (tmp_path / "other").mkdir()
    other = Up(tmp_path / "other", own_cluster.environment(), provider[0])
    other.launch()
    assert other.wait() == 1
    assert "another `tollkeeper up` runs for this cluster" in one_line_of(other)
    up.kill()
    other.log.unlink()
    wait_for("the claim to be older than a running one", lambda: _refused_for_books(other), 60)
    assert own_kubectl("get", "validatingwebhookconfigurations", "tollkeeper", "-o", "yaml").stdout == before
    assert up.start().stop() == 0
    assert not list((up.data / "temporary").glob("*"))


def _refused_for_books(other: Up) -> bool:
    other.log.unlink(missing_ok=True)
    other.launch()
    assert other.wait() == 1
    return "kubectl delete lease tollkeeper-ledger -n tollkeeper-system" in one_line_of(other)


def test_a_second_up_on_the_same_data_is_refused(up: Up) -> None:
    up.start()
    second = up.tollkeeper("up", "--config", str(up.config), check=False)
    assert second.returncode == 1
    assert "writes it" in second.stderr
    assert up.stop() == 0
