"""Whether a request is let in: by what its limits count by."""

from pathlib import Path

import orjson
import pytest
from multidict import CIMultiDict

from tests.sidecar.builders import MODEL, NOW, key, limit, policy
from tollkeeper.amounts import Unit
from tollkeeper.limits import LONGEST_ACCOUNT, Dimension
from tollkeeper.usage import LONGEST_NAME
from tollkeeper_sidecar.admission import Admission, Plan
from tollkeeper_sidecar.errors import Denial, RequestRefused
from tollkeeper_sidecar.openai_chat import parse_chat_request
from tollkeeper_sidecar.settings import GatewaySettings

NAMED = limit("named", unit=Unit.TOKENS, per=(Dimension.SESSION, Dimension.FEATURE))


def plan(name: str) -> Plan:
    chat = parse_chat_request(orjson.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}))
    in_force = policy(NAMED)
    headers = CIMultiDict({"Tollkeeper-Session": name, "Tollkeeper-Feature": name})
    return Admission(GatewaySettings(Path(), ())).plan(
        in_force, key(), in_force.tenants["research"], headers, "openai", chat, NOW
    )


def test_names_are_admitted_as_long_as_an_account_can_be_kept_for_them() -> None:
    ((account, _),) = plan("s" * LONGEST_NAME).accounts
    assert len(account) <= LONGEST_ACCOUNT


def test_names_that_are_too_long_together_are_the_callers_fault_and_the_limit_is_named() -> None:
    with pytest.raises(
        RequestRefused, match=r"research/quota limit named counts per Session and Feature.*shorter names"
    ) as refused:
        plan("\u4e00" * LONGEST_NAME)
    assert (refused.value.denial, refused.value.code) == (Denial.BAD_REQUEST, "names_too_long")
