"""National registration over HTTP: filing, the agency's acts, objections by name while the publicity lasts."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, StringConstraints

from factory.agency.national import AGENCY_ACTS, KIND
from factory.api.session import (
    EVERYBODY,
    Acting,
    After,
    CaseId,
    Here,
    Limit,
    OnceOnly,
    for_act,
    for_roles,
    listed,
    shown,
)
from nodes.contract.messages import Hex32, Name, Text

router = APIRouter(prefix="/v1/national")
Answer = dict[str, Any]
Long = Annotated[str, StringConstraints(max_length=2000)]


class Decided(BaseModel):
    """What the agency decided on a filing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Long = ""
    national_code: Annotated[str, StringConstraints(max_length=200)] = ""


class Objection(BaseModel):
    """An objection by name, with the digest of its evidence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    objector: Text
    reason: Text
    evidence_sha256: Hex32


@router.get("", **for_roles(*EVERYBODY))
def filings(here: Here, actor: Acting, state: Name | None = None, after: After = None, limit: Limit = 50) -> Answer:
    """国家登记列表 | Filings that the caller may see."""
    return listed(here.desk.list(actor, KIND, state=state, after=after or "", limit=limit + 1), limit)


@router.get("/{name}", **for_roles(*EVERYBODY))
def filing(here: Here, actor: Acting, name: CaseId) -> Answer:
    """国家登记 | One filing with its running clock."""
    case = here.desk.read(actor, KIND, name)
    return {**shown(case), **here.national.status(name)}


@router.post("/{name}/file", **for_act(KIND, "file"))
def file(here: Here, actor: Acting, once: OnceOnly, name: CaseId) -> Answer:
    """申报国家登记 | File a registered product, or a filing that was returned."""
    return once(lambda: shown(here.national.file(name, actor=actor)))


@router.post("/{name}/objections", status_code=201, **for_roles(*EVERYBODY, kind=KIND, act="object"))
def object_to(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: Objection) -> Answer:
    """实名异议 | Object by name and with evidence, while the publicity lasts."""

    def do() -> Answer:
        here.national.object(
            name,
            objector=body.objector,
            reason=body.reason,
            evidence_sha256=body.evidence_sha256,
            actor=actor,
        )
        return here.national.status(name)

    return once(do)


def _agency_act(act: str) -> None:
    def do(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: Decided) -> Answer:
        return once(
            lambda: shown(
                here.national.act(name, act, reason=body.reason, national_code=body.national_code, actor=actor)
            )
        )

    do.__doc__ = f"国家登记：{act} | The agency's act {act} on a filing."
    router.post(f"/{{name}}/{act}", name=f"national_{act}", **for_act(KIND, act))(do)


for _act in AGENCY_ACTS:
    _agency_act(_act)
