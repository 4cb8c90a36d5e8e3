"""Identities of transactions and requests: UUID version 7 (RFC 9562), which sort by the time they were made."""

import secrets
import time


def new_id() -> str:
    """A fresh UUIDv7."""
    value = (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62
    text = f"{value | secrets.randbits(62):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
