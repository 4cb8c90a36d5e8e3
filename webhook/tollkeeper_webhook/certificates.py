"""TLS of the webhook: a CA of its own and a serving certificate, kept in a Secret and renewed before they end.

- The Secret is the one truth: whoever starts first creates it, all others read it; a lost race is settled by reading
  again. So replicas serve by one CA, and a restart changes nothing.
- A serving certificate is renewed when two thirds of its life are over or its hosts changed, by the same CA. A CA is
  renewed a year before its end; the bundle then holds both, so that clients trust either while configurations follow.
"""

import ipaddress
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tollkeeper_kube import (
    SYSTEM_NAMESPACE,
    AlreadyExists,
    Conflict,
    Kube,
    Object,
    ensure_system_namespace,
)
from tollkeeper_kube.kinds import PART_OF, SECRET
from tollkeeper_webhook.configurations import base64_of

SECRET_NAME = "tollkeeper-webhook-tls"  # noqa: S105 - the name of a Secret, not one
CA_LIFE = timedelta(days=3650)
CA_RENEWED_BEFORE = timedelta(days=365)
SERVING_LIFE = timedelta(days=90)

_CLOCKS_DIFFER = timedelta(minutes=5)
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM texts. `ca_pem` is the bundle to trust, the signing CA first; `ca_key_pem` signs the next certificate."""

    ca_pem: str
    ca_key_pem: str
    certificate_pem: str
    key_pem: str

    def renew_at(self) -> datetime:
        """When the serving certificate should be replaced: after two thirds of its life."""
        serving = x509.load_pem_x509_certificate(self.certificate_pem.encode())
        begin, end = serving.not_valid_before_utc, serving.not_valid_after_utc
        return begin + (end - begin) * 2 / 3

    def serves(self, hosts: Iterable[str], now: datetime) -> bool:
        """Whether it can go on serving these hosts: nothing is due for renewal, and the CA signed the certificate."""
        serving = x509.load_pem_x509_certificate(self.certificate_pem.encode())
        authority = x509.load_pem_x509_certificates(self.ca_pem.encode())[0]
        if now >= self.renew_at() or now >= authority.not_valid_after_utc - CA_RENEWED_BEFORE:
            return False
        return set(hosts) <= _hosts_of(serving) and serving.issuer == authority.subject


async def ensure_certificates(kube: Kube, hosts: Iterable[str], now: datetime | None = None) -> Certificates:
    """The certificates of the Secret, created or renewed as needed. Raises `KubeError`s."""
    wanted = tuple(hosts)
    instant = now or datetime.now(UTC)
    for _ in range(_ATTEMPTS):
        stored = await kube.find(SECRET, SECRET_NAME, SYSTEM_NAMESPACE)
        held = _read(stored) if stored else None
        if held is not None and held.serves(wanted, instant):
            return held
        fresh = renewed(held, wanted, instant)
        try:
            await _store(kube, fresh, stored)
        except Conflict:
            continue  # Another replica was first: its certificates are as good as ours.
        return fresh
    raise Conflict(f"Secret {SYSTEM_NAMESPACE}/{SECRET_NAME} changed {_ATTEMPTS} times while it was read; try again")


def renewed(held: Certificates | None, hosts: Iterable[str], now: datetime) -> Certificates:
    """A new serving certificate, by the CA that is held unless it is missing or near its end."""
    bundle = x509.load_pem_x509_certificates(held.ca_pem.encode()) if held else []
    living = [authority for authority in bundle if authority.not_valid_after_utc > now]
    if held and living and living[0] == bundle[0] and now < living[0].not_valid_after_utc - CA_RENEWED_BEFORE:
        signer, signing_key = living[0], _load_key(held.ca_key_pem)
    else:
        signing_key = ec.generate_private_key(ec.SECP256R1())
        signer = _authority(signing_key, now)
        living = [signer, *living]
    key = ec.generate_private_key(ec.SECP256R1())
    serving = _serving(key, tuple(hosts), signer, signing_key, now)
    return Certificates("".join(_pem(one) for one in living), _key_pem(signing_key), _pem(serving), _key_pem(key))


async def _store(kube: Kube, fresh: Certificates, stored: Object | None) -> None:
    about = {"name": SECRET_NAME, "namespace": SYSTEM_NAMESPACE, "labels": PART_OF}
    texts = {
        "ca.crt": fresh.ca_pem,
        "ca.key": fresh.ca_key_pem,
        "tls.crt": fresh.certificate_pem,
        "tls.key": fresh.key_pem,
    }
    secret: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": about,
        "type": "kubernetes.io/tls",
        "data": {name: base64_of(text) for name, text in texts.items()},
    }
    if stored is not None:
        secret["metadata"] = {**about, "resourceVersion": stored["metadata"]["resourceVersion"]}
        secret["type"] = stored.get("type", secret["type"])
        await kube.replace(secret)
        return
    await ensure_system_namespace(kube)
    try:
        await kube.create(secret)
    except AlreadyExists as first:
        raise Conflict(str(first)) from first


def _read(secret: Object) -> Certificates | None:
    """What the Secret holds; `None` where it is damaged, so that it is made anew."""
    data = secret.get("data") or {}
    try:
        texts = [b64decode(data[name]).decode() for name in ("ca.crt", "ca.key", "tls.crt", "tls.key")]
        held = Certificates(*texts)
        _load_key(held.ca_key_pem)
        _load_key(held.key_pem)
        held.renew_at()
        x509.load_pem_x509_certificates(held.ca_pem.encode())
    except (KeyError, ValueError, TypeError):
        return None
    return held


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    # The name carries the time: two CAs in one bundle must not share it.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Tollkeeper CA {now:%Y-%m-%dT%H:%M:%SZ}")])
    usage = _key_usage(signs_certificates=True)
    return (
        _builder(name, name, key.public_key(), now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _serving(
    key: ec.EllipticCurvePrivateKey,
    hosts: tuple[str, ...],
    signer: x509.Certificate,
    signing_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tollkeeper-webhook")])
    return (
        _builder(name, signer.subject, key.public_key(), now, SERVING_LIFE)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
        .sign(signing_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _hosts_of(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


def _load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not a key of an elliptic curve")
    return key


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
