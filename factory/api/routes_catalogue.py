"""The level's catalogue over HTTP: signed files of departments, confirmation, withdrawal, what depends on an entry."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from factory.api.session import EVERYBODY, Acting, CaseId, Here, OnceOnly, for_act, for_roles, shown
from factory.lifecycle.resource import Standard
from nodes.contract import canonical, wire
from nodes.contract.messages import Name, Text
from nodes.contract.signing import Envelope

router = APIRouter(prefix="/v1/catalogue")
Answer = dict[str, Any]
Signed = Annotated[dict[str, Any], Body(description="DSSE 信封 | a DSSE envelope")]
Long = Annotated[str, StringConstraints(max_length=2000)]
HANDS_IN = ("source_department", "data_administration")
READERS = ("agency", "data_administration", "sector_authority", "supervisor", "authorising_unit", "registrar")


class Entry(BaseModel):
    """A department's signed entry with the signed review of its own office."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry: dict[str, Any]
    review: dict[str, Any] | None = None


class Confirmation(BaseModel):
    """Why an entry is confirmed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Long = ""


class Withdrawal(BaseModel):
    """Why an entry is withdrawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Annotated[Text, Field()]


@router.post("/standards", status_code=201, **for_roles("data_administration", kind="standard", act="set"))
def set_standard(here: Here, actor: Acting, once: OnceOnly, body: Standard) -> Answer:
    """发布编制规范 | Put a version of the compilation standard in force."""
    return once(lambda: shown(here.catalogue.set_standard(body, actor=actor)))


@router.get("/standards/current", **for_roles(*EVERYBODY))
def standard(here: Here) -> Answer:
    """现行编制规范 | The compilation standard in force."""
    return here.catalogue.standard.model_dump(mode="json")


@router.post("/entries", status_code=201, **for_roles(*HANDS_IN, kind="resource", act="submit"))
def submit(here: Here, actor: Acting, once: OnceOnly, body: Entry) -> Answer:
    """提交目录条目 | Hand in an entry and its review, both signed by the department's node."""
    review = (canonical.dumps(body.review),) if body.review is not None else ()
    parcel = wire.pack(Envelope.from_bytes(canonical.dumps(body.entry)), review)
    return once(lambda: shown(here.catalogue.take(parcel, actor=actor)))


@router.post("/entries/{name}/confirm", **for_act("resource", "confirm", "include", "exclude"))
def confirm(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: Confirmation) -> Answer:
    """校核确认 | Confirm an entry and put it in scope, or out of it where its owner excluded it."""
    return once(lambda: shown(here.catalogue.confirm(name, reason=body.reason, actor=actor)))


@router.post("/entries/{name}/withdraw", **for_act("resource", "withdraw"))
def withdraw(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: Withdrawal) -> Answer:
    """撤出目录 | Take an entry out of the catalogue; what depends on it is flagged and returned.

    Nodes and gateway stop once both registrars have signed the status that this proposes.
    """
    return once(lambda: {"resource": name, "flagged": here.catalogue.withdraw(name, reason=body.reason, actor=actor)})


@router.post("/bindings", status_code=201, **for_roles(*HANDS_IN, kind="resource", act="bind"))
def bind(here: Here, actor: Acting, once: OnceOnly, body: Signed) -> Answer:
    """登记绑定证明 | Hand in a node's signed statement that a live dataset is bound."""
    return once(lambda: shown(here.catalogue.bind(canonical.dumps(body), actor=actor)))


@router.post("/consents", status_code=201, **for_roles(*HANDS_IN, kind="resource", act="consent"))
def consent(here: Here, actor: Acting, once: OnceOnly, body: Signed) -> Answer:
    """登记原提供部门的同意或撤回 | Hand in a provider's signed consent to the use of shared data, or its revocation."""
    return once(lambda: shown(here.catalogue.take_consent(canonical.dumps(body), actor=actor)))


@router.get("/entries", **for_roles(*READERS))
def level(here: Here, level: Name | None = None) -> Answer:
    """本级目录 | The level's catalogue: every submitted entry once."""
    return {"items": here.catalogue.level(level), "next": None}


@router.get("/public", **for_roles(*EVERYBODY))
def public(here: Here) -> Answer:
    """授权运营目录 | The authorised-operation catalogue: entries in scope, no sample, no address."""
    return {"items": here.catalogue.public(), "next": None}


@router.get("/supply", **for_roles(*READERS))
def supply(here: Here) -> Answer:
    """供给情况 | Entries in scope that no node has bound, with their age in days."""
    return {"items": [asdict(item) for item in here.catalogue.supply()], "next": None}


@router.get("/entries/{name}/dependants", **for_roles(*READERS))
def dependants(here: Here, name: CaseId) -> Answer:
    """依赖此条目的事项 | Agreements, grants and registrations that depend on an entry, with their flags."""
    found = here.catalogue.dependants(name)
    return {"items": [{**row, "flags": here.catalogue.flags(row["kind"], row["id"])} for row in found], "next": None}
