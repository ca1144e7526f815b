"""What every route needs: the platform, who calls, which roles may, and one answer per repeated command.

The roles of an act come from its machine, so the document says what the desk enforces. A
caller without the role is refused before the body is looked at, and the refusal is recorded.
"""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import StringConstraints

from factory.accounts.errors import UnauthenticatedError
from factory.errors import FactoryError
from factory.lifecycle.machine import Refusal
from factory.lifecycle.roles import DUTIES, ROLES
from factory.registry.schema import table
from factory.registry.store import Case
from factory.services.actor import Actor
from factory.services.machines import MACHINES
from factory.services.platform import Platform
from nodes.contract import canonical
from nodes.contract.messages import Name
from nodes.contract.statement import time_text

EVERYBODY = tuple(ROLES)
"""Every role: whoever is signed in."""

_bearer = HTTPBearer(auto_error=False, description="会话令牌或 API 密钥 | session token or API key")

Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{8,200}$")]
CaseId = Annotated[Name, Path(description="事项编号 | name of the case")]
CaseName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._:@+-]{0,95}$", description="事项编号 | name of the case")]
After = Annotated[Name | None, Query(description="从此编号之后 | go on after this name")]
Limit = Annotated[int, Query(ge=1, le=200)]


class IdempotencyError(FactoryError):
    """The key of a repeated command came with another command."""

    code = "api.idempotency"


def platform(request: Request) -> Platform:
    """Return the platform that the application serves."""
    found: Platform = request.app.state.platform
    return found


Here = Annotated[Platform, Depends(platform)]


def acting(here: Here, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Actor:
    """Return who calls.

    Raises:
        UnauthenticatedError: no token, or none that counts now.
    """
    if bearer is None:
        raise UnauthenticatedError
    return here.authentication.actor(bearer.credentials)


Acting = Annotated[Actor, Depends(acting)]


def for_roles(*roles: str, kind: str = "api", act: str = "call") -> dict[str, Any]:
    """Return the arguments of a route that only these roles may call; without roles it needs no identity."""
    if not roles:
        return {"openapi_extra": {"x-roles": []}}

    def allowed(here: Here, actor: Acting, request: Request) -> None:
        if not actor.roles & set(roles):
            refusal = Refusal(
                f"{kind}.role", f"{act} is done by {', '.join(sorted(roles))}, not by {_listed(actor)}", DUTIES
            )
            raise here.desk.refuse(actor, kind, request.url.path.rpartition("/v1/")[2], act, refusal)

    return {"dependencies": [Depends(allowed)], "openapi_extra": {"x-roles": sorted(roles)}}


def for_act(kind: str, *acts: str) -> dict[str, Any]:
    """Return the arguments of a route by which these acts of a machine are done."""
    roles = {role for act in acts for role in MACHINES[kind].roles(act)} - {"clock"}
    return for_roles(*roles, kind=kind, act="/".join(acts))


class Once:
    """Runs a command once per idempotency key, in one transaction with its answer."""

    def __init__(self, here: Platform, actor: Actor, key: str, command_sha256: str) -> None:
        """Belong to one call."""
        self._here = here
        self._actor = actor
        self._key = key
        self._command = command_sha256

    def __call__(self, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what ``do`` returns, or what it returned when this key came before.

        Raises:
            IdempotencyError: the key came before with another command.
        """
        if not self._key:
            with self._here.desk.together():
                return do()
        answers, registry = table("answers"), self._here.desk.registry
        with self._here.desk.together(), registry.transaction() as connection:
            query = answers.select().where(answers.c.actor == self._actor.id, answers.c.key == self._key)
            kept = connection.execute(query).first()
            if kept is not None:
                if kept.command_sha256 != self._command:
                    raise IdempotencyError("expected a new Idempotency-Key for another command")
                return dict(canonical.loads(kept.body))
            body = do()
            connection.execute(
                answers.insert().values(
                    actor=self._actor.id,
                    key=self._key,
                    command_sha256=self._command,
                    status=200,
                    body=canonical.dumps(body),
                    at=time_text(self._here.desk.clock()),
                )
            )
            return body


async def once(
    request: Request,
    here: Here,
    actor: Acting,
    idempotency_key: Annotated[Key | None, Header(description="重试时保持不变 | the same for every retry")] = None,
) -> Once:
    """Return what runs the command of this call."""
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + await request.body()).hexdigest()
    return Once(here, actor, idempotency_key or "", digest)


OnceOnly = Annotated[Once, Depends(once)]


def shown(case: Case) -> dict[str, Any]:
    """Return a case as the API shows it."""
    return {
        "kind": case.kind,
        "id": case.id,
        "state": case.state,
        "revision": case.revision,
        "organisation": case.organisation,
        "agreement": case.agreement,
        "sha256": case.sha256,
        "document": {name: value for name, value in case.document.items() if name != "identity_hmac"},
    }


def listed(cases: list[Case], limit: int) -> dict[str, Any]:
    """Return one page of cases, asked for with one more than ``limit``."""
    page = cases[:limit]
    return {"items": [shown(case) for case in page], "next": page[-1].id if len(cases) > limit else None}


def _listed(actor: Actor) -> str:
    return ", ".join(sorted(actor.roles)) or "nobody"
