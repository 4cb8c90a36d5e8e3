"""The webhook's certificates: who signs them, how long they live, and that all replicas serve by one CA."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given
from hypothesis import strategies as st

import tollkeeper_kube as edge
from tollkeeper_cluster import Kubectl
from tollkeeper_kube import Kube
from tollkeeper_kube.kinds import SECRET
from tollkeeper_webhook.certificates import (
    CA_LIFE,
    SECRET_NAME,
    SERVING_LIFE,
    Certificates,
    ensure_certificates,
    renewed,
)
from tollkeeper_webhook.server import Webhook
from tollkeeper_webhook.settings import WebhookSettings

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOSTS = ("127.0.0.1", "webhook.example.test")


def verify(certificates: Certificates, at: datetime, host: str) -> None:
    """As a strict client does, trusting the bundle."""
    trusted = Store(x509.load_pem_x509_certificates(certificates.ca_pem.encode()))
    try:
        subject: x509.GeneralName = x509.IPAddress(ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    verifier = PolicyBuilder().store(trusted).time(at).build_server_verifier(subject)  # type: ignore[arg-type]
    verifier.verify(x509.load_pem_x509_certificate(certificates.certificate_pem.encode()), [])


@pytest.mark.parametrize("host", HOSTS)
def test_a_client_that_trusts_the_ca_takes_the_certificate(host: str) -> None:
    verify(renewed(None, HOSTS, NOW), NOW, host)


def test_it_is_renewed_after_two_thirds_of_its_life_by_the_same_ca() -> None:
    first = renewed(None, HOSTS, NOW)
    assert first.serves(HOSTS, NOW + SERVING_LIFE * 0.6)
    assert not first.serves(HOSTS, NOW + SERVING_LIFE * 0.7)
    second = renewed(first, HOSTS, NOW + SERVING_LIFE * 0.7)
    assert second.ca_pem == first.ca_pem
    assert second.certificate_pem != first.certificate_pem
    verify(second, NOW + SERVING_LIFE, "127.0.0.1")


def test_another_host_needs_another_certificate() -> None:
    assert not renewed(None, HOSTS, NOW).serves(("tollkeeper-webhook.tollkeeper-system.svc",), NOW)


def test_a_ca_near_its_end_is_followed_by_one_that_is_trusted_beside_it() -> None:
    first = renewed(None, HOSTS, NOW)
    late = NOW + CA_LIFE - timedelta(days=300)
    second = renewed(first, HOSTS, late)
    assert second.ca_pem.endswith(first.ca_pem)
    assert second.serves(HOSTS, late)
    verify(second, late, "127.0.0.1")
    assert renewed(second, HOSTS, late + timedelta(days=61)).ca_pem == second.ca_pem
    after = renewed(second, HOSTS, NOW + CA_LIFE + timedelta(days=1))
    assert first.ca_pem not in after.ca_pem, "a CA that ended is trusted no longer"


@given(st.lists(st.integers(1, 400), max_size=6))
def test_whenever_it_is_renewed_it_serves_and_is_trusted(days: list[int]) -> None:
    held, now = None, NOW
    for step in days:
        now += timedelta(days=step)
        held = renewed(held, HOSTS, now)
        assert held.serves(HOSTS, now)
        verify(held, now, "127.0.0.1")


@pytest.fixture
def _no_secret(kubectl: Kubectl, installed: object) -> None:
    kubectl("delete", "secret", SECRET_NAME, "--ignore-not-found", namespace=edge.SYSTEM_NAMESPACE)


@pytest.mark.cluster
@pytest.mark.usefixtures("_no_secret")
async def test_replicas_that_start_together_serve_by_one_ca(operator: Kube) -> None:
    every = await asyncio.gather(*(ensure_certificates(operator, HOSTS) for _ in range(5)))
    assert len(set(every)) == 1
    assert await ensure_certificates(operator, HOSTS) == every[0]


@pytest.mark.cluster
@pytest.mark.usefixtures("_no_secret")
async def test_a_certificate_that_is_due_is_replaced_in_the_secret(operator: Kube) -> None:
    first = await ensure_certificates(operator, HOSTS, datetime.now(UTC) - SERVING_LIFE * 0.8)
    second = await ensure_certificates(operator, HOSTS)
    assert (second.ca_pem, second == first) == (first.ca_pem, False)
    assert await ensure_certificates(operator, HOSTS) == second


@pytest.mark.cluster
@pytest.mark.usefixtures("_no_secret")
async def test_a_damaged_secret_is_made_anew(operator: Kube) -> None:
    await ensure_certificates(operator, HOSTS)
    damage = {"data": {"ca.key": "bm9uc2Vuc2U=", "ca.crt": "bm9uc2Vuc2U="}}
    await operator.patch(SECRET, SECRET_NAME, damage, edge.SYSTEM_NAMESPACE)
    fresh = await ensure_certificates(operator, HOSTS)
    verify(fresh, datetime.now(UTC), "127.0.0.1")


@pytest.mark.cluster
@pytest.mark.usefixtures("_no_secret")
async def test_the_server_serves_by_it(operator: Kube) -> None:
    webhook = Webhook(WebhookSettings(port=0, health_port=0), operator, lambda _: None)
    await webhook.start()
    trusting = ssl.create_default_context(cadata=webhook.certificates.ca_pem)
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    _, writer = await asyncio.open_connection("127.0.0.1", webhook.port, ssl=trusting)
    writer.close()
    await writer.wait_closed()
    await webhook.stop()
