"""What is to be redacted: the rules as values, which a policy holds. `redaction` carries them out."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class BuiltIn(StrEnum):
    """A kind of personal data or secret that redaction knows by name."""

    EMAIL_ADDRESSES = "EmailAddresses"
    PHONE_NUMBERS = "PhoneNumbers"
    CARD_NUMBERS = "CardNumbers"
    BANK_ACCOUNTS = "BankAccounts"
    SOCIAL_SECURITY_NUMBERS = "SocialSecurityNumbers"
    SECRETS = "Secrets"
    IP_ADDRESSES = "IPAddresses"


UNLESS_STATED: Final = tuple(one for one in BuiltIn if one is not BuiltIn.IP_ADDRESSES)
"""What is redacted where a tenant says nothing: all but what stands in many texts that are about machines."""


@dataclass(frozen=True, slots=True)
class OwnPattern:
    """A tenant's own rule; `pattern` is one that `check_pattern` takes."""

    name: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Redaction:
    """The rules of one tenant."""

    built_in: tuple[BuiltIn, ...] = UNLESS_STATED
    patterns: tuple[OwnPattern, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.built_in or self.patterns)


def mask(rule: str) -> str:
    """What stands in place of what a rule found."""
    return f"[redacted:{rule}]"
