"""A certificate authority for one run of the local cluster, and the certificates it issues."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = timedelta(days=30)
# A certificate that begins in the past is valid for a peer whose clock is a little behind.
_BACKDATED = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The pair that service-account tokens are signed and checked with, both PEM."""

    private: bytes
    public: bytes


class Authority:
    """Signs server and client certificates. Its own certificate is what both sides trust."""

    def __init__(self, now: datetime) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tollkeeper-local")])
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), False),
        ]
        self._certificate = self._signed(self._name, self._key.public_key(), extensions, now)

    @property
    def pair(self) -> KeyPair:
        """The authority's own certificate and key."""
        return KeyPair(_pem(self._certificate), _private_pem(self._key))

    def server(self, names: list[str], addresses: list[str], now: datetime) -> KeyPair:
        """A certificate for a server reached under these DNS names and IP addresses."""
        subjects: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        subjects += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        return self._issued(subject, ExtendedKeyUsageOID.SERVER_AUTH, now, x509.SubjectAlternativeName(subjects))

    def client(self, user: str, groups: tuple[str, ...], now: datetime) -> KeyPair:
        """A certificate that Kubernetes reads as `user` (common name) in `groups` (organizations)."""
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
        return self._issued(x509.Name(attributes), ExtendedKeyUsageOID.CLIENT_AUTH, now)

    def _issued(
        self, subject: x509.Name, usage: x509.ObjectIdentifier, now: datetime, *more: x509.ExtensionType
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.ExtendedKeyUsage([usage]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
            *((extension, False) for extension in more),
        ]
        return KeyPair(_pem(self._signed(subject, key.public_key(), extensions, now)), _private_pem(key))

    def _signed(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        extensions: list[tuple[x509.ExtensionType, bool]],
        now: datetime,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now.astimezone(UTC) - _BACKDATED)
            .not_valid_after(now.astimezone(UTC) + _LIFETIME)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._key, hashes.SHA256())


def service_account_keys() -> SigningKeys:
    """A fresh pair for service-account tokens (ES256, which needs no slow prime search)."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return SigningKeys(_private_pem(key), public)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # Kubernetes' key readers expect "EC PRIVATE KEY" for service-account keys.
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
