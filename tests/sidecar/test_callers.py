"""Who calls, and what they may."""

from datetime import UTC, datetime
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from tests.sidecar.builders import MODEL, SECRET, key, policy
from tollkeeper.usage import Caller
from tollkeeper_sidecar.callers import authenticate, caller_of, named_by
from tollkeeper_sidecar.errors import Denial, RequestRefused
from tollkeeper_sidecar.headers import request_headers, secret_of


def caller(
    headers: dict[str, str] | None = None, fields: dict[str, Any] | None = None, model: str = MODEL, **of_key: Any
) -> Caller:
    one = key(**of_key)
    in_force = policy(keys=[one])
    found, tenant = authenticate(in_force, SECRET)
    return caller_of(found, tenant, named_by(CIMultiDict(headers or {}), fields or {}), model)


def refused(**arguments: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as refusal:
        caller(**arguments)
    return refusal.value


def test_headers_name_the_caller_and_win_over_fields() -> None:
    named = caller(
        {"Tollkeeper-User": "alice", "tollkeeper-feature": "search", "Tollkeeper-Session": "s1"},
        {"user": "bob", "metadata": {"feature": "chat", "investigation": "i1"}},
        delegate=True,
    )
    assert (named.user, named.feature, named.session, named.investigation) == ("alice", "search", "s1", "i1")
    assert (named.tenant, named.api_key) == ("research", "0123456789ab")


@pytest.mark.parametrize(
    ("fields", "user"),
    [
        ({"user": "bob", "safety_identifier": "carol"}, "bob"),
        ({"safety_identifier": "carol", "metadata": {"user": "dave"}}, "carol"),
        ({"metadata": {"user": "dave"}}, "dave"),
        ({"user": 7, "metadata": "none"}, None),
    ],
)
def test_the_apis_own_fields_count_where_no_header_stands(fields: dict[str, Any], user: str | None) -> None:
    assert caller({}, fields, delegate=True).user == user


def test_a_keys_own_user_wins_and_only_delegates_may_name_one() -> None:
    headers = {"Tollkeeper-User": "mallory"}
    assert caller(headers, user="alice").user == "alice"
    assert caller(headers, user="alice", delegate=True).user == "alice"
    assert caller(headers).user is None
    assert caller(headers, delegate=True).user == "mallory"


def test_an_assistant_must_be_declared_active_and_permitted() -> None:
    def named(name: str, **of_key: Any) -> dict[str, Any]:
        return {"headers": {"Tollkeeper-Assistant": name}, **of_key}

    assert caller(**named("summariser")).assistant == "summariser"
    assert "declares no assistant" in refused(**named("unknown")).message
    assert "not active" in refused(**named("old")).message
    assert "may not use model" in refused(model="o3", **named("summariser")).message
    assert "does not permit assistant" in refused(**named("summariser", assistants=("translator",))).message


def test_a_key_for_one_assistant_speaks_for_it_and_one_for_several_must_name_one() -> None:
    assert caller(assistants=("summariser",)).assistant == "summariser"
    assert "name one in Tollkeeper-Assistant" in refused(assistants=("summariser", "old")).message


def test_a_key_may_be_bound_to_models() -> None:
    assert caller(models=("gpt-4*", "gpt-5"))
    assert refused(models=("gpt-4*",)).code == "model_not_permitted"


@pytest.mark.parametrize("name", ["x" * 257, "a\nb"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    assert refused(headers={"Tollkeeper-Session": name}).denial is Denial.BAD_REQUEST


def test_keys_that_are_wrong_revoked_or_of_no_tenant_are_refused() -> None:
    revoked = policy(keys=[key(revoked=datetime.now(UTC))])
    orphan = policy(keys=[key(tenant="gone")])
    for in_force, secret, denial in (
        (policy(), None, Denial.KEY_INVALID),
        (policy(), "sk-other", Denial.KEY_INVALID),
        (policy(), SECRET + "x", Denial.KEY_INVALID),
        (revoked, SECRET, Denial.KEY_INVALID),
        (orphan, SECRET, Denial.NOT_PERMITTED),
    ):
        with pytest.raises(RequestRefused) as refusal:
            authenticate(in_force, secret)
        assert refusal.value.denial is denial
        assert SECRET not in refusal.value.message


def test_another_providers_key_is_told_that_it_is_none_of_this_gateways_and_not_repeated() -> None:
    with pytest.raises(RequestRefused, match="it does not begin with tk_, as the keys of this gateway do") as refusal:
        authenticate(policy(), "sk-other")
    assert "sk-other" not in refusal.value.message


def test_the_providers_key_replaces_the_callers_and_our_headers_stay_here() -> None:
    sent = CIMultiDictProxy(
        CIMultiDict(
            {
                "Authorization": f"Bearer {SECRET}",
                "x-api-key": SECRET,
                "Tollkeeper-User": "alice",
                "Connection": "keep-alive, X-Hop",
                "X-Hop": "1",
                "TE": "trailers",
                "Host": "gateway",
                "Provider-Usage": "input=1",
                "traceparent": "00-1-2-01",
            }
        )
    )
    assert secret_of(sent) == SECRET
    assert dict(request_headers(sent, "sk-provider", readable=True)) == {
        "Provider-Usage": "input=1",
        "traceparent": "00-1-2-01",
        "Authorization": "Bearer sk-provider",
        "Accept-Encoding": "identity",
    }
