"""Agreements, scenarios, demands, requests, grants, registrations, products, incidents and standing."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from factory.api.session import (
    EVERYBODY,
    Acting,
    After,
    CaseId,
    CaseName,
    Here,
    Limit,
    OnceOnly,
    for_act,
    for_roles,
    listed,
    shown,
)
from factory.law.clocks import Due
from factory.lifecycle.registration import ASKED, Application
from factory.lifecycle.request import Cut, Ruling
from factory.lifecycle.roles import SEES_ALL
from factory.registry.request import Agreement, DataRequest
from factory.services.governed import MODELS, STATED
from factory.services.machines import MACHINES
from factory.services.products import NewProduct, ProductName, Step
from factory.services.scenarios import Finding, NewDemand, NewScenario
from nodes.contract import canonical
from nodes.contract.grant import Thresholds
from nodes.contract.messages import Name, Text
from nodes.contract.statement import time_text

router = APIRouter(prefix="/v1")
Answer = dict[str, Any]
Long = Annotated[str, StringConstraints(max_length=2000)]
ProductId = Annotated[ProductName, Path(description="产品@版本 | id@version")]


class Closed(BaseModel):
    """A body without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NewAgreement(Closed):
    """An agreement that was signed outside the platform, and the role of each body under it."""

    agreement: Agreement
    parties: Annotated[dict[Name, Name], Field(max_length=500)]


class Decision(Closed):
    """A decision with its reason."""

    approve: bool
    reason: Long


class CutOut(Closed):
    """A column to take out of the list."""

    resource: Name
    column: Text
    reason: Long


class NewRuling(Closed):
    """The ruling on one request: three findings, a reason, and what is cut."""

    approve: bool
    findings: Annotated[dict[Name, Long], Field(max_length=10)]
    reason: Long
    cuts: Annotated[list[CutOut], Field(max_length=2000)] = []
    thresholds: Thresholds | None = None
    uses_max: Annotated[int, Field(ge=1)] | None = None


class Asked(Closed):
    """What an operator asks about a registration."""

    kind: Name
    reason: Long = ""
    field: Long = ""
    value: Long = ""


class Reason(Closed):
    """Why."""

    reason: Text


def _reads(path: str, kind: str, title: str) -> None:
    """Add the list and the page of one kind of case."""

    def several(here: Here, actor: Acting, state: Name | None = None, after: After = None, limit: Limit = 50) -> Answer:
        return listed(here.desk.list(actor, kind, state=state, after=after or "", limit=limit + 1), limit)

    def one(here: Here, actor: Acting, name: CaseName) -> Answer:
        case = here.desk.read(actor, kind, name)
        artefacts = here.desk.registry.artefacts(kind, name)
        clocks = [_clock(end, here.desk.clock()) for end in here.clocks.of(case)]
        found = {**shown(case), "artefacts": sorted(artefacts), "clocks": clocks}
        return {**found, "stated": canonical.loads(artefacts[STATED])} if STATED in artefacts else found

    several.__doc__, one.__doc__ = f"{title}列表 | List of {path}.", f"{title} | One {kind}."
    router.get(f"/{path}", name=f"list_{path}", **for_roles(*EVERYBODY))(several)
    router.get(f"/{path}/{{name}}", name=f"read_{kind}", **for_roles(*EVERYBODY))(one)


for _path, _kind, _title in (
    ("agreements", "agreement", "授权协议"),
    ("scenarios", "scenario", "应用场景"),
    ("demands", "demand", "需求"),
    ("requests", "request", "用数申请"),
    ("grants", "grant", "授权"),
    ("resources", "resource", "数据资源"),
    ("registrations", "registration", "产品登记"),
    ("products", "product", "产品"),
    ("incidents", "incident", "安全事件"),
    ("standings", "standing", "运营资格"),
):
    _reads(_path, _kind, _title)


def _clock(end: Due, now: datetime) -> Answer:
    return {
        "clock": end.clock.name,
        "title_zh": end.clock.title_zh,
        "since": time_text(end.since),
        "last_day": end.last_day.isoformat(),
        "at": time_text(end.at),
        "has_passed": end.has_passed(now),
        "is_provisional": end.is_provisional,
        "clauses": list(end.clauses),
    }


@router.get("/clocks", **for_roles(*sorted(SEES_ALL)))
def clocks(here: Here) -> Answer:
    """时限提醒 | Clocks that are about to pass or have passed: whom to tell, the earliest end first."""
    now = here.desk.clock()
    items = [
        {"subject": n.subject, "stage": n.stage, "tell": list(n.tell), "holds": n.holds, **_clock(n.due, now)}
        for n in here.clocks.notices()
    ]
    return {"items": items, "next": None}


@router.post("/agreements", status_code=201, **for_act("agreement", "record"))
def file_agreement(here: Here, actor: Acting, once: OnceOnly, body: NewAgreement) -> Answer:
    """备案授权协议 | File an agreement, and give each body its one role under it."""

    def do() -> Answer:
        case = here.rulings.add_agreement(body.agreement, actor=actor)
        here.people.form_parties(actor, body.agreement.agreement_id, dict(body.parties))
        return shown(case)

    return once(do)


@router.post("/scenarios", status_code=201, **for_act("scenario", "screen"))
def screen(here: Here, actor: Acting, once: OnceOnly, body: NewScenario) -> Answer:
    """提出应用场景 | Open a scenario that the operator has screened."""
    return once(lambda: shown(here.scenarios.screen(actor, body)))


@router.post("/scenarios/{name}/argue", **for_act("scenario", "argue"))
def argue(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: Finding) -> Answer:
    """论证应用场景 | Find a scenario compliant and necessary."""
    return once(lambda: shown(here.scenarios.argue(actor, name, body)))


@router.post("/scenarios/{name}/decline", **for_act("scenario", "decline"))
def decline(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: Reason) -> Answer:
    """不予通过 | Decline a scenario."""
    return once(lambda: shown(here.scenarios.decline(actor, name, reason=body.reason)))


@router.post("/demands", status_code=201, **for_act("demand", "state"))
def demand(here: Here, actor: Acting, once: OnceOnly, body: NewDemand) -> Answer:
    """提出需求 | State the demand of an application unit."""
    return once(lambda: shown(here.scenarios.demand(actor, body)))


@router.post("/demands/{name}/withdraw", **for_act("demand", "withdraw"))
def withdraw(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: Reason) -> Answer:
    """撤回需求 | Withdraw a demand."""
    return once(lambda: shown(here.scenarios.withdraw(actor, name, reason=body.reason)))


@router.post("/requests", status_code=201, **for_act("request", "submit"))
def submit(here: Here, actor: Acting, once: OnceOnly, body: DataRequest) -> Answer:
    """提交用数申请 | Submit a data request: one scenario, its list, a reason per field."""
    return once(lambda: shown(here.rulings.submit(body.to_payload(), actor=actor)))


@router.post("/requests/proposals", status_code=201, **for_act("request", "propose"))
def propose(here: Here, actor: Acting, once: OnceOnly, body: DataRequest) -> Answer:
    """开发主体申请 | A developer's request, for the operator to check and submit."""
    return once(lambda: shown(here.rulings.propose(body.to_payload(), actor=actor)))


@router.post("/requests/{name}/ruling", **for_act("request", "endorse", "approve", "reject"))
def rule(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: NewRuling) -> Answer:
    """审定 | Rule on a request, as one of the bodies the profile names."""
    roles = MACHINES["request"].roles("approve")
    ruling = Ruling(
        official=actor.id,
        organisation=actor.organisation,
        approve=body.approve,
        findings=body.findings,
        reason=body.reason,
        cuts=tuple(Cut(cut.resource, cut.column, cut.reason) for cut in body.cuts),
        thresholds=body.thresholds,
        uses_max=body.uses_max,
        body=min(actor.roles & roles, default=""),
    )

    def do() -> Answer:
        grant = here.rulings.rule(name, ruling, actor=actor)
        return {**here.rulings.status(name), "laid": grant is not None}

    return once(do)


@router.get("/requests/{name}/desk", **for_act("request", "issue"))
def desk(here: Here, name: CaseId) -> Answer:
    """待签授权 | What a registrar checks before signing a grant."""
    return here.rulings.laid(name)


@router.post("/requests/{name}/signatures", **for_act("request", "issue"))
def sign_grant(
    here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: Annotated[dict[str, Any], Body()]
) -> Answer:
    """登记员签署授权 | One registrar's signature on a grant; the second one issues it."""

    def do() -> Answer:
        signers = here.rulings.lay_signature(name, canonical.dumps(body), actor=actor)
        if len(signers) >= 2:
            here.rulings.issue(name)
        return {**here.rulings.status(name), "signers": list(signers)}

    return once(do)


@router.post("/registrations", status_code=201, **for_act("registration", "apply"))
def apply(here: Here, actor: Acting, once: OnceOnly, body: Application) -> Answer:
    """申请登记 | Apply for registration with seven blocks."""
    return once(lambda: shown(here.registrations.apply(body.to_payload(), actor=actor)))


@router.post("/registrations/{name}/decision", **for_act("registration", "code", "refuse"))
def decide(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: Decision) -> Answer:
    """登记决定 | Give a code, or refuse with the reason."""
    return once(lambda: shown(here.registrations.decide(name, approve=body.approve, reason=body.reason, actor=actor)))


@router.post("/registrations/{name}/asks", **for_act("registration", *(f"ask_{kind}" for kind in ASKED)))
def ask(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: Asked) -> Answer:
    """申请续期、更正或注销 | Ask to renew, correct or cancel a registration."""

    def do() -> Answer:
        return shown(
            here.registrations.ask(name, body.kind, reason=body.reason, field=body.field, value=body.value, actor=actor)
        )

    return once(do)


@router.post("/registrations/{name}/settlement", **for_act("registration", *ASKED, "deny"))
def settle(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: Decision) -> Answer:
    """续期、更正或注销决定 | Decide what was asked; a cancellation also without being asked."""
    return once(lambda: shown(here.registrations.settle(name, approve=body.approve, reason=body.reason, actor=actor)))


@router.post("/products", status_code=201, **for_act("product", "start"))
def start_product(here: Here, actor: Acting, once: OnceOnly, body: NewProduct) -> Answer:
    """新建产品 | Open a product under a grant."""
    return once(lambda: shown(here.products.start(actor, body)))


RECEIVERS = ("agency", "data_administration", "authorising_unit", "source_department", "security_head")


@router.post("/products/{name}/receipts", **for_roles(*RECEIVERS))
def receive(here: Here, actor: Acting, once: OnceOnly, name: ProductId) -> Answer:
    """签收发布前报告 | Acknowledge the pre-release report; the head of security clears the release with it."""
    body = min(actor.roles & set(RECEIVERS))
    return once(lambda: shown(here.products.receive(actor, name, body=body)))


def _product_act(act: str) -> None:
    def do(here: Here, actor: Acting, once: OnceOnly, name: ProductId, body: Step) -> Answer:
        return once(lambda: shown(here.products.act(actor, name, act, body)))

    do.__doc__ = f"产品步骤 {act} | Step of a product: {act}, with its signed statements."
    router.post(f"/products/{{name}}/{act}", name=f"product_{act}", **for_act("product", act))(do)


for _act in sorted({arrow.act for arrow in MACHINES["product"].transitions} - {"start"}):
    _product_act(_act)


class Acted(Closed):
    """What an act states, why, and under which agreement a new case stands."""

    reason: Long = ""
    under: Name | None = None
    agreement: Agreement | None = None


def _governed_act(kind: str, path: str, act: str) -> None:
    stated = MODELS[kind]
    body_model = create_model(f"{kind.capitalize()}Act", __base__=Acted, stated=(stated, stated()))

    def do(here: Here, actor: Acting, once: OnceOnly, name: CaseId, body: Any) -> Answer:
        def act_once() -> Answer:
            case = here.governed.act(
                actor,
                kind,
                name,
                act,
                body.stated,
                reason=body.reason,
                agreement=body.agreement if kind == "agreement" else None,
                under=body.under or "",
            )
            return {**shown(case), "stated": here.governed.stated(case)}

        return once(act_once)

    do.__annotations__["body"] = body_model
    do.__doc__ = f"{kind}: {act} | The act {act} of the {kind} machine."
    router.post(f"/{path}/{{name}}/{act}", name=f"{kind}_{act}", **for_act(kind, act))(do)


for _kind, _path in (("agreement", "agreements"), ("incident", "incidents")):
    for _act in sorted({arrow.act for arrow in MACHINES[_kind].transitions} - {"record", "start"}):
        if MACHINES[_kind].roles(_act) != {"clock"}:
            _governed_act(_kind, _path, _act)
