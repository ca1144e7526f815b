"""Closing and opening the access of operators, and opening incidents: what stops with them stops at once."""

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from factory.agency.standing import Order
from factory.api.session import Acting, CaseId, Here, OnceOnly, for_act, for_roles, shown
from factory.registry.store import Case
from factory.services.actor import Actor
from factory.services.machines import MACHINES
from factory.services.platform import Platform
from nodes.contract import canonical
from nodes.contract.messages import Hex32, Name, Text

router = APIRouter(prefix="/v1")
Answer = dict[str, Any]
Long = Annotated[str, StringConstraints(max_length=2000)]
RESPONDERS = ("agency", "data_administration", "operator", "security_head")
ACCEPTORS = ("agency", "data_administration", "sector_authority", "authorising_unit")


class Ordered(BaseModel):
    """An order about the access of an operator.

    Attributes:
        ground: what is held against the operator.
        items: what has to be put right, by ``deadline``.
        is_prohibited: the finding is a prohibited act.
        reason: of the decision.
        agreement_until: end of the agreement, for a restoration.
        services_settled: services were handed over or retired, for the end of an exit.
        reported_to: bodies that were told of the exit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ground: Long = ""
    items: Annotated[list[Text], Field(max_length=200)] = []
    deadline: date | None = None
    is_prohibited: bool = False
    reason: Long = ""
    agreement_until: AwareDatetime | None = None
    services_settled: bool = False
    reported_to: Annotated[list[Name], Field(max_length=20)] = []


class Accepted(BaseModel):
    """The finding that a rectification is accepted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    finding: Text


class Deleted(BaseModel):
    """Signed deletion records, and the digests of every file that a scan of the operator's home found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    records: Annotated[list[dict[str, Any]], Field(max_length=5000)]
    found: Annotated[list[Hex32], Field(max_length=50_000)] = []


class Measure(BaseModel):
    """A measure against an incident."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: Name


class Proof(BaseModel):
    """That a measure worked: a node's signed refusal, or another document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: Name
    proof: dict[str, Any]


class NewIncident(BaseModel):
    """An incident with the grants it affects and the plan that is followed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: Text
    grants: Annotated[list[Name], Field(max_length=500)] = []
    plan: Long


Do = Callable[[Platform, str, Order, Ordered], Case]

_ACTS: dict[str, Do] = {
    "close": lambda here, name, order, _: here.standings.close(name, order),
    "restore": lambda here, name, order, body: here.standings.restore(
        name, order, reason=body.reason, agreement_until=body.agreement_until or here.desk.clock()
    ),
    "revoke": lambda here, name, order, body: here.standings.revoke(name, order, reason=body.reason),
    "exit": lambda here, name, order, body: here.standings.exit(name, order, reason=body.reason),
    "finish": lambda here, name, order, body: here.standings.finish(
        name, order, services_settled=body.services_settled, reported_to=frozenset(body.reported_to)
    ),
}


def _order(actor: Actor, act: str, body: Ordered) -> Order:
    role = min(actor.roles & MACHINES["standing"].roles(act))
    return Order(
        ground=body.ground,
        items=tuple(body.items),
        deadline=body.deadline,
        body=role,
        official=actor.id,
        organisation=actor.organisation,
        is_prohibited=body.is_prohibited,
    )


def _standing_act(act: str, do: Do) -> None:
    def carry_out(here: Here, actor: Acting, once: OnceOnly, operator: CaseId, body: Ordered) -> Answer:
        return once(lambda: shown(do(here, operator, _order(actor, act, body), body)))

    carry_out.__doc__ = f"运营资格：{act} | The act {act} on an operator's access."
    router.post(f"/standings/{{operator}}/{act}", name=f"standing_{act}", **for_act("standing", act))(carry_out)


for _act, _do in _ACTS.items():
    _standing_act(_act, _do)


@router.post("/standings/{operator}/accept", **for_roles(*ACCEPTORS, kind="standing", act="accept"))
def accept(here: Here, actor: Acting, once: OnceOnly, operator: CaseId, body: Accepted) -> Answer:
    """整改验收 | Record that a rectification was checked and accepted; access stays closed until it is restored."""
    return once(lambda: shown(here.standings.accept(operator, finding=body.finding, actor=actor)))


@router.post("/standings/{operator}/deletion", **for_roles("agency", kind="standing", act="verify_deletion"))
def verify_deletion(here: Here, actor: Acting, once: OnceOnly, operator: CaseId, body: Deleted) -> Answer:
    """核验删除 | Verify an exiting operator's signed deletion records against what a scan of its home found."""
    records = [canonical.dumps(value) for value in body.records]
    found = frozenset(body.found)
    return once(lambda: shown(here.standings.settle_deletion(operator, records, found, by=actor)))


@router.post("/incidents/{name}/measures", status_code=201, **for_roles(*RESPONDERS, kind="incident", act="measure"))
def measure(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: Measure) -> Answer:
    """记录处置措施 | Note a measure; it stays open until its effect is verified."""
    here.desk.read(actor, "incident", name)
    return once(lambda: shown(here.standings.measure(name, body.measure, actor=actor)))


@router.post("/incidents/{name}/proofs", status_code=201, **for_roles(*RESPONDERS, kind="incident", act="verify"))
def verify(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: Proof) -> Answer:
    """核验处置效果 | Verify a measure by a node's signed refusal, or another proof of its effect."""
    here.desk.read(actor, "incident", name)
    proof = canonical.dumps(body.proof)
    return once(lambda: shown(here.standings.verify_measure(name, body.measure, proof, actor=actor)))


@router.post("/incidents/{name}/start", status_code=201, **for_act("incident", "start"))
def start(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: NewIncident) -> Answer:
    """启动应急响应 | Open an incident: stop the affected grants, freeze the evidence."""
    return once(
        lambda: shown(
            here.standings.start_incident(
                name, what=body.what, grants=body.grants, plan=body.plan.encode(), actor=actor
            )
        )
    )
