"""`tollkeeper keys` against a real API server, where something is missing, not permitted, or damaged: one clear line each."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.e2e.programs import PROGRAM

from tollkeeper_cluster import Kubectl, LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

Keys = Callable[..., subprocess.CompletedProcess[str]]
TENANT = (
    "apiVersion: tollkeeper.dev/v1alpha1\nkind: Tenant\nmetadata: {name: team}\nspec: {displayName: T, level: Team}\n"
)


@pytest.fixture
def keys(own_cluster: LocalCluster) -> Keys:
    """`tollkeeper keys …` as the administrator."""
    return keys_as(own_cluster.kubeconfig)


def keys_as(kubeconfig: Path) -> Keys:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, "keys", *arguments, "--kubeconfig", kubeconfig],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    return run


def failure(ended: subprocess.CompletedProcess[str]) -> str:
    """What a command said that failed: one line, and nothing on standard output."""
    assert (ended.returncode, ended.stdout) == (1, ""), ended
    (line,) = ended.stderr.splitlines()
    return line


@pytest.fixture
def tenant(own_kubectl: Kubectl) -> None:
    """Our kinds, the system namespace, and the tenant `team`."""
    own_kubectl("apply", "-f", "-", input=subprocess.check_output([PROGRAM, "crds"], text=True))
    own_kubectl("wait", "--for=condition=Established", "crd/tenants.tollkeeper.dev")
    own_kubectl("apply", "-f", "-", input=TENANT)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tollkeeper-system"}}
    own_kubectl("apply", "-f", "-", input=yaml.safe_dump(namespace))


def test_kinds_that_are_not_installed_are_named_with_the_way_to_install_them(own_cluster: LocalCluster) -> None:
    with LocalCluster.start() as bare:
        said = failure(keys_as(bare.kubeconfig)("create", "--tenant", "team"))
    assert "does not know the kind Tenant" in said
    assert "`tollkeeper crds | kubectl apply -f -`" in said


def test_a_cluster_in_which_up_never_ran_is_told(tenant: None, keys: Keys, own_kubectl: Kubectl) -> None:
    own_kubectl("delete", "namespace", "tollkeeper-system", "--wait")
    said = failure(keys("create", "--tenant", "team"))
    assert 'namespaces "tollkeeper-system" not found; `tollkeeper up` makes it at its start' in said


def test_a_tenant_that_does_not_exist_is_named(tenant: None, keys: Keys) -> None:
    assert failure(keys("create", "--tenant", "nobody")) == (
        "Error: --tenant: there is no tenant 'nobody'; `kubectl get tenants` lists them"
    )


def test_a_key_that_does_not_exist_is_named(tenant: None, keys: Keys) -> None:
    assert failure(keys("revoke", "0123456789ab")) == (
        "Error: there is no key '0123456789ab'; `tollkeeper keys list` shows their ids"
    )


def test_a_key_that_is_revoked_twice_stays_revoked_since_the_first_time(
    tenant: None, keys: Keys, own_kubectl: Kubectl
) -> None:
    key_id = keys("create", "--tenant", "team").stdout.split("_")[1]
    first, stored = keys("revoke", key_id), secret(own_kubectl, key_id)
    second = keys("revoke", key_id)
    assert (first.returncode, first.stderr) == (0, f"key {key_id} is revoked\n")
    assert second.returncode == 0
    assert second.stderr.startswith(f"key {key_id} is revoked since 20")
    assert secret(own_kubectl, key_id) == stored


def secret(kubectl: Kubectl, key_id: str) -> str:
    return kubectl("get", "secret", f"key-{key_id}", "-o", "jsonpath={.data}", namespace="tollkeeper-system").stdout


def test_a_damaged_key_is_named_and_hides_no_other(tenant: None, keys: Keys, own_kubectl: Kubectl) -> None:
    good = keys("create", "--tenant", "team").stdout.split("_")[1]
    for name, data in (("key-aaaaaaaaaaaa", {"key.json": "bm90IEpTT04="}), ("key-bbbbbbbbbbbb", {})):
        about = {"name": name, "labels": {"tollkeeper.dev/api-key": name[4:]}}
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": about, "data": data}
        own_kubectl("apply", "-f", "-", input=yaml.safe_dump(manifest), namespace="tollkeeper-system")
    listed = keys("list")
    assert listed.returncode == 1
    assert good in listed.stdout
    (line,) = listed.stderr.splitlines()
    for name in ("key-aaaaaaaaaaaa", "key-bbbbbbbbbbbb"):
        assert f"`kubectl delete secret {name} -n tollkeeper-system`" in line
    assert "`kubectl delete secret key-bbbbbbbbbbbb -n tollkeeper-system`" in failure(keys("revoke", "bbbbbbbbbbbb"))
    own_kubectl("delete", "secret", "key-aaaaaaaaaaaa", "key-bbbbbbbbbbbb", namespace="tollkeeper-system")


@pytest.mark.parametrize("arguments", [("list",), ("create", "--tenant", "team"), ("revoke", "0123456789ab")])
def test_what_is_not_permitted_is_told_with_user_and_resource(
    tenant: None, own_cluster: LocalCluster, arguments: tuple[str, ...]
) -> None:
    said = failure(keys_as(own_cluster.kubeconfig_for("alice"))(*arguments))
    assert 'User "alice" cannot' in said
    assert said.endswith("ask for that permission, or use another context")


def test_a_context_that_does_not_exist_is_named(keys: Keys) -> None:
    said = failure(keys("list", "--context", "nowhere"))
    assert said.startswith("Error: no connection from context 'nowhere' of ")


def test_a_key_that_cannot_be_shown_is_said_to_be_lost(tenant: None, own_cluster: LocalCluster, keys: Keys) -> None:
    script = f"{sys.executable} -m tollkeeper_cli keys create --tenant team --kubeconfig {own_cluster.kubeconfig} >&-"
    ended = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    said = failure(ended)
    key_id = said.split()[2]
    assert said.endswith(f"and is lost: `tollkeeper keys revoke {key_id}`, then create another")
    assert keys("revoke", key_id).returncode == 0
