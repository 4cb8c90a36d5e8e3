"""AdmissionReview, the wire of admission webhooks: read into a value, answered from a value. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tollkeeper.errors import InvalidValue
from tollkeeper.problems import Problem

Json = dict[str, Any]

_GENERATED_FROM = 58  # the API server cuts generateName to so many characters, and adds five
_WARNING_LIMIT = 256
_WARNINGS = 15  # the API server passes on 4 KiB of warnings and cuts longer ones


@dataclass(frozen=True, slots=True)
class Review:
    """What the API server asks: may this be done? `name` may be empty where the server will make one."""

    uid: str
    operation: str
    kind: str
    namespace: str
    name: str
    object: Json | None
    old_object: Json | None

    @classmethod
    def parse(cls, raw: Any) -> "Review":
        """The request of an AdmissionReview. Raises `InvalidValue`."""
        request = raw.get("request") if isinstance(raw, Mapping) else None
        if not isinstance(request, Mapping) or not isinstance(request.get("uid"), str):
            raise InvalidValue("the body is not an AdmissionReview of admission.k8s.io/v1 with a request")
        kind = request.get("kind") or {}
        return cls(
            uid=request["uid"],
            operation=str(request.get("operation", "")),
            kind=str(kind.get("kind", "")),
            namespace=str(request.get("namespace") or ""),
            name=str(request.get("name") or ""),
            object=request.get("object"),
            old_object=request.get("oldObject"),
        )

    def named(self) -> "Review":
        """The same, where the server has yet to make a name out of `generateName`, with one as it will make it."""
        about = (self.object or {}).get("metadata") or {}
        if about.get("name") or not isinstance(about.get("generateName"), str):
            return self
        name = f"{about['generateName'][:_GENERATED_FROM]}00000"
        return replace(self, object={**(self.object or {}), "metadata": {**about, "name": name}})


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a review. A refusal has the HTTP status `code` and its `reason` as Kubernetes names it."""

    allowed: bool
    message: str = ""
    code: int = 200
    reason: str = ""
    warnings: tuple[str, ...] = ()

    def to_json(self, uid: str) -> Json:
        """The AdmissionReview that carries it."""
        response: Json = {"uid": uid, "allowed": self.allowed}
        if not self.allowed:
            response["status"] = {
                "status": "Failure",
                "message": self.message,
                "reason": self.reason,
                "code": self.code,
            }
        if self.warnings:
            response["warnings"] = [_cut(warning) for warning in self.warnings[:_WARNINGS]]
        return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


ALLOWED = Answer(allowed=True)


def forbidden(message: str) -> Answer:
    """Refused by a rule, not for the object's form."""
    return Answer(allowed=False, message=message, code=403, reason="Forbidden")


def invalid(message: str, warnings: Sequence[str] = ()) -> Answer:
    """Refused for what the object says."""
    return Answer(allowed=False, message=message, code=422, reason="Invalid", warnings=tuple(warnings))


def unavailable(message: str) -> Answer:
    """Refused because it cannot be checked now."""
    return Answer(allowed=False, message=message, code=503, reason="ServiceUnavailable")


def answer_to(problems: Sequence[Problem], about: object) -> Answer:
    """Refused for the problems that refuse, all of them named; the others are warnings. `about` is the object."""
    warnings = tuple(
        problem.says if problem.ref == about else str(problem) for problem in problems if not problem.refuses
    )
    refusals = [problem.says for problem in problems if problem.refuses]
    return invalid(" | ".join(refusals), warnings) if refusals else Answer(allowed=True, warnings=warnings)


def _cut(warning: str) -> str:
    return warning if len(warning) <= _WARNING_LIMIT else warning[: _WARNING_LIMIT - 1] + "…"
