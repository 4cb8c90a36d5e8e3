"""Identities of requests, transactions and holders: UUIDv7 (RFC 9562, section 5.7), which sort by when they were made."""

import os
import time
from uuid import UUID


def new_id() -> str:
    """A fresh UUIDv7 in its usual text form."""
    return uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def uuid7(milliseconds: int, random: bytes) -> str:
    """The UUIDv7 of a Unix time and ten random bytes, of which 74 bits are used."""
    noise = int.from_bytes(random[:10], "big")
    value = (milliseconds & (2**48 - 1)) << 80
    value |= 0x7 << 76 | (noise >> 64 & 0xFFF) << 64
    value |= 0b10 << 62 | noise & (2**62 - 1)
    return str(UUID(int=value))
