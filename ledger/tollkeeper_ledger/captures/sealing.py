"""Bodies at rest: compressed, then encrypted by AES-256-GCM (NIST SP 800-38D), each under a random nonce of 96 bits.

A sealed body is a byte for the form, 8 for the key's id, 12 of nonce, and the ciphertext with its tag. What it belongs to is
authenticated with it, so that one that was moved to another request, tenant or side, or whose time or status was changed, does
not open. A key's id is made of the
key itself, so rotation needs no names: the first key seals, all open. A key is good for 2^32 bodies (the same, section 8.3).
"""

import base64
import binascii
import hashlib
import os
import zlib
from collections.abc import Sequence
from typing import Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tollkeeper.errors import InvalidValue
from tollkeeper_ledger.captures.errors import CaptureDamaged, KeyMissing

KEY_BYTES: Final = 32

_FORM: Final = b"\x01"
_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_HEAD_BYTES: Final = len(_FORM) + _ID_BYTES + _NONCE_BYTES
_LEVEL: Final = 1
_LINE: Final = "write 32 random bytes as base64, one key a line, such as `head -c 32 /dev/urandom | base64` prints"


class Keys:
    """Keys of 32 bytes, the one that seals first."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._ciphers = {_id_of(secret): AESGCM(secret) for secret in secrets}
        self._first = _id_of(secrets[0])

    def __repr__(self) -> str:
        return f"Keys({', '.join(key.hex() for key in self._ciphers)})"

    def seal(self, plain: bytes, about: Sequence[str], terms: Sequence[int | None] = ()) -> bytes:
        """What is stored of a body that belongs to `about`, on these terms: it opens with no others."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._first].encrypt(nonce, zlib.compress(plain, _LEVEL), _authenticated(about, terms))
        return b"".join((_FORM, self._first, nonce, sealed))

    def unseal(self, sealed: bytes, about: Sequence[str], terms: Sequence[int | None] = ()) -> bytes:
        """The body that was sealed for `about` on these terms. Raises `KeyMissing`, or `CaptureDamaged` for anything else."""
        what = ", ".join(about)
        if len(sealed) <= _HEAD_BYTES or sealed[:1] != _FORM:
            raise CaptureDamaged(f"{what}: it is damaged, or a newer release wrote it; restore a good copy")
        key, nonce = sealed[1 : 1 + _ID_BYTES], sealed[1 + _ID_BYTES : _HEAD_BYTES]
        cipher = self._ciphers.get(key)
        if cipher is None:
            raise KeyMissing(
                f"{what}: it was encrypted with the key {key.hex()}, which is not among those of capture.keys; add it there"
            )
        try:
            return zlib.decompress(cipher.decrypt(nonce, sealed[_HEAD_BYTES:], _authenticated(about, terms)))
        except InvalidTag as error:
            raise CaptureDamaged(
                f"{what}: it was changed, or moved here from elsewhere: what is stored is not what was encrypted for it; "
                "restore a good copy"
            ) from error


def _authenticated(about: Sequence[str], terms: Sequence[int | None]) -> bytes:
    return orjson.dumps((about, terms))


def parse_keys(text: str) -> Keys:
    """The keys of a text, one a line. Raises `InvalidValue` that names the line, and repeats nothing of it."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    secrets = [_secret_of(number, line) for number, line in lines if line and not line.startswith("#")]
    if not secrets:
        raise InvalidValue(f"it has no key; {_LINE}")
    if len(set(secrets)) < len(secrets):
        raise InvalidValue("a key comes twice; leave one of them out")
    return Keys(secrets)


def _secret_of(number: int, line: str) -> bytes:
    try:
        secret = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValue(f"line {number} is not base64; {_LINE}") from error
    if len(secret) != KEY_BYTES:
        raise InvalidValue(f"line {number} has {len(secret)} bytes and not {KEY_BYTES}; {_LINE}")
    return secret


def _id_of(secret: bytes) -> bytes:
    return hashlib.sha256(b"tollkeeper capture key\0" + secret).digest()[:_ID_BYTES]
