"""Who did what, when and why; and whether anything was altered."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from factory.api.session import EVERYBODY, Acting, CaseId, CaseName, Here, Limit, for_roles, shown
from factory.registry.store import Event
from nodes.contract.messages import Hex32, Name

router = APIRouter(prefix="/v1")
Answer = dict[str, Any]


@router.get("/events", **for_roles(*EVERYBODY))
def events(
    *,
    here: Here,
    actor: Acting,
    kind: Name | None = None,
    case: Name | None = None,
    person: Name | None = None,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Limit = 100,
) -> Answer:
    """操作记录 | Events of a case or of a person, in order."""
    found = here.audit.events(actor, kind=kind, case_id=case, person=person, after=after, limit=limit + 1)
    page = found[:limit]
    return {"items": [_shown(event) for event in page], "next": page[-1].seq if len(found) > limit else None}


@router.get("/refusals", **for_roles("agency", "data_administration", "supervisor"))
def refusals(here: Here, after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0, limit: Limit = 100) -> Answer:
    """被拒绝的操作 | What was refused, to whom and why, in order."""
    found = here.audit.refusals(after=after, limit=limit + 1)
    page = found[:limit]
    return {"items": [_shown(event) for event in page], "next": page[-1].seq if len(found) > limit else None}


@router.get("/{kind}/{case}/life", **for_roles(*EVERYBODY))
def life(here: Here, actor: Acting, kind: CaseId, case: CaseName) -> Answer:
    """全过程记录 | Every step of a case and of what it rests on."""
    return {"items": [_shown(event) for event in here.audit.life(actor, kind, case)], "next": None}


@router.get("/audit", **for_roles("supervisor", "agency", "data_administration"))
def check(here: Here) -> Answer:
    """核对 | Recompute the chain of events and compare every case with it."""
    registry = here.desk.registry
    return {"events": registry.verify_chain(), "cases": registry.verify_cases()}


@router.post("/posture", **for_roles("administrator", "supervisor", "agency", "data_administration"))
def posture(here: Here, actor: Acting) -> Answer:
    """安全措施核查 | Check every protective measure and record the outcome; red holds new grants."""
    return shown(here.posture.check(actor))


@router.post("/posture/backups", status_code=201, **for_roles("administrator", "agency"))
def backup(here: Here, actor: Acting, sha256: Hex32) -> Answer:
    """登记备份 | Record that a backup was made, by the digest of its archive."""
    here.posture.record_backup(actor, sha256=sha256)
    return {}


def _shown(event: Event) -> Answer:
    return {"seq": event.seq, "sha256": event.sha256, **event.body}
