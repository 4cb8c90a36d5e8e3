"""Who calls: from a key and what the request names to a `Caller`, or a refusal with its reason (W1, W5, R55). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from tollkeeper.keys import PREFIX, ApiKey, fingerprint
from tollkeeper.policy import PolicySet, TenantNode
from tollkeeper.usage import LONGEST_NAME, Caller, is_name, known_caller
from tollkeeper_sidecar.errors import Denial, RequestRefused

_NAMED: Final = ("user", "feature", "assistant", "session", "investigation", "tool")


@dataclass(frozen=True, slots=True)
class Named:
    """What a request says about itself, by header first and by the API's own fields else."""

    user: str | None = None
    feature: str | None = None
    assistant: str | None = None
    session: str | None = None
    investigation: str | None = None
    tool: str | None = None


def authenticate(policy: PolicySet, secret: str | None) -> tuple[ApiKey, TenantNode]:
    """The key in force that a secret opens, and its tenant. Raises `RequestRefused`."""
    if secret is None:
        raise RequestRefused(
            Denial.KEY_INVALID,
            "You didn't provide an API key: send 'Authorization: Bearer tk_…' with a key of this gateway.",
        )
    key = policy.keys.get(fingerprint(secret))
    if key is None or key.revoked is not None:
        why = "it does not begin with tk_, as the keys of this gateway do"
        if secret.startswith(PREFIX):
            why = f"{'_'.join(secret.split('_')[:2])}_… is unknown here or was revoked"
        raise RequestRefused(Denial.KEY_INVALID, f"Incorrect API key provided: {why}. Ask for a new one.")
    tenant = policy.tenants.get(key.tenant)
    if tenant is None:
        raise RequestRefused(
            Denial.NOT_PERMITTED,
            f"Key {key.id} belongs to tenant {key.tenant!r}, which does not exist: apply the Tenant first.",
        )
    return key, tenant


def named_by(headers: Mapping[str, str], fields: Mapping[str, Any]) -> Named:
    """What headers and fields name; a header wins over a field (W1). Raises `RequestRefused` for names that are too long.

    Fields are `user`, `safety_identifier`, and in `metadata` the names of the headers in small letters.
    """
    metadata = fields.get("metadata")
    told = metadata if isinstance(metadata, dict) else {}
    found = {name: headers.get(f"Tollkeeper-{name}") or told.get(name) for name in _NAMED}
    found["user"] = (
        headers.get("Tollkeeper-User") or fields.get("user") or fields.get("safety_identifier") or told.get("user")
    )
    return Named(**{name: _checked(name, value) for name, value in found.items()})


def _checked(name: str, value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    if not is_name(value):
        raise RequestRefused(
            Denial.BAD_REQUEST,
            f"the {name} of this request is not a name: write at most {LONGEST_NAME} printable characters",
        )
    return value


def caller_of(key: ApiKey, tenant: TenantNode, named: Named, model: str) -> Caller:
    """The caller, permitted to use the model. Raises `RequestRefused` with the reason why not.

    The key's own user and assistants win; only a delegate key lets its caller name a user (W1). A key for one assistant
    speaks for that one; a key for several needs one of them to be named.
    """
    assistant = _assistant(key, tenant, named.assistant, model)
    if key.models and not _fits(model, key.models):
        raise _forbidden(
            f"key {key.id} does not permit model {model}: it permits {', '.join(key.models)}", "model_not_permitted"
        )
    return known_caller(
        tenant=tenant.name,
        user=key.user or (named.user if key.delegate else None),
        feature=named.feature,
        assistant=assistant,
        session=named.session,
        investigation=named.investigation,
        api_key=key.id,
    )


def _assistant(key: ApiKey, tenant: TenantNode, wanted: str | None, model: str) -> str | None:
    name = wanted or (key.assistants[0] if len(key.assistants) == 1 else None)
    if name is None and key.assistants:
        raise _forbidden(
            f"key {key.id} is for the assistants {', '.join(key.assistants)}: name one in Tollkeeper-Assistant"
        )
    if name is None:
        return None
    if key.assistants and name not in key.assistants:
        raise _forbidden(f"key {key.id} does not permit assistant {name}: it permits {', '.join(key.assistants)}")
    declared = next((assistant for assistant in tenant.assistants if assistant.name == name), None)
    if declared is None:
        raise _forbidden(f"tenant {tenant.name} declares no assistant {name}: add it to spec.assistants of the Tenant")
    if not declared.active:
        raise _forbidden(f"assistant {name} of tenant {tenant.name} is not active")
    if not _fits(model, declared.models):
        raise _forbidden(
            f"assistant {name} may not use model {model}: it may use {', '.join(declared.models) or 'none'}",
            "model_not_permitted",
        )
    return name


def _fits(model: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(model, glob) for glob in globs)


def _forbidden(message: str, code: str = "assistant_not_permitted") -> RequestRefused:
    return RequestRefused(Denial.NOT_PERMITTED, message, code=code)
