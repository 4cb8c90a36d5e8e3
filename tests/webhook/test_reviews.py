"""AdmissionReview on the wire."""

from dataclasses import replace

import pytest

from tollkeeper.errors import InvalidValue
from tollkeeper.problems import ObjectRef, Problem, Severity
from tollkeeper_webhook.reviews import ALLOWED, Answer, Review, answer_to, forbidden

MINE, THEIRS = ObjectRef("TokenBudget", "home", "mine"), ObjectRef("TokenGrant", "home", "gift")


def test_a_request_is_read() -> None:
    request = {"uid": "u", "operation": "CREATE", "kind": {"kind": "Pod"}, "namespace": "home", "object": {"a": 1}}
    assert Review.parse({"request": request}) == Review("u", "CREATE", "Pod", "home", "", {"a": 1}, None)


@pytest.mark.parametrize("raw", [None, [], "x", {}, {"request": None}, {"request": {}}, {"request": {"uid": 3}}])
def test_anything_else_is_refused(raw: object) -> None:
    with pytest.raises(InvalidValue, match="not an AdmissionReview"):
        Review.parse(raw)


def test_an_object_without_a_name_yet_is_read_as_if_the_server_had_named_it() -> None:
    nameless = Review(
        "u", "CREATE", "TokenGrant", "home", "", {"metadata": {"generateName": "gift-"}, "spec": {}}, None
    )
    assert nameless.named().object == {"metadata": {"generateName": "gift-", "name": "gift-00000"}, "spec": {}}
    for about in ({"name": "gift"}, {"name": "gift", "generateName": "other-"}, {}):
        known = replace(nameless, object={"metadata": about})
        assert known.named() is known


def test_what_is_allowed_says_no_more() -> None:
    assert ALLOWED.to_json("u")["response"] == {"uid": "u", "allowed": True}


def test_a_refusal_has_a_status_as_the_api_server_gives_it() -> None:
    assert forbidden("used up").to_json("u")["response"]["status"] == {
        "status": "Failure",
        "message": "used up",
        "reason": "Forbidden",
        "code": 403,
    }


def test_every_fault_is_named_and_warnings_say_whose_they_are() -> None:
    first = Problem(MINE, "spec.a", "A", "is wrong", "change it")
    second = Problem(MINE, "spec.b", "B", "is wrong too", "change that")
    warning = Problem(THEIRS, "spec.c", "C", "is left alone", "look", Severity.WARN)
    answer = answer_to((first, second, warning), MINE)
    assert answer.message == "spec.a: is wrong; change it | spec.b: is wrong too; change that"
    assert answer.warnings == ("TokenGrant home/gift: spec.c: is left alone; look",)
    assert answer_to((warning,), MINE).allowed


def test_warnings_are_kept_within_what_the_api_server_passes_on() -> None:
    answer = Answer(allowed=True, warnings=("x" * 1000,) * 100)
    warnings = answer.to_json("u")["response"]["warnings"]
    assert len(warnings) == 15
    assert all(len(warning) == 256 for warning in warnings)
