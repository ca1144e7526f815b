"""Orders that a node refuses, each a real order to a real node over Flower."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from factory.demo.acts import request_text
from factory.demo.governing import rule, sign_and_approve, submit
from factory.errors import FactoryError
from factory.federation.session import Reply, Session, read_answer
from factory.pipelines.build import uses_of
from factory.pipelines.model import NAME, parameters_of
from factory.pipelines.recipe import Recipe, read_recipe
from factory.site.layout import Site
from factory.site.operator import OperatorDesk
from nodes.contract import wire
from nodes.contract.grant import Grant
from nodes.contract.messages import Order, Refusal, ResourceUse, decode, encode
from nodes.contract.signing import Envelope

PROBE_S = (25, 60, 240)
"""How long the grant lives that is shown used up and then expired, in seconds; a slow machine gets the next one."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One refusal as it was shown.

    Attributes:
        title_zh, title_en: what was tried.
        node: who refused.
        code: its refusal code.
    """

    title_zh: str
    title_en: str
    node: str
    code: str


class NotRefusedError(FactoryError):
    """A node accepted what it must refuse; the main job ends here."""

    code = "demo.not_refused"


def show_held(desk: OperatorDesk, grant: Grant, digest: str, node: str, recipe: Recipe) -> Shown:
    """Send an order for a table that is held."""
    return _ask(desk, grant, digest, node, uses_of(recipe)[node], recipe=recipe, zh="暂停的表", en="held table")


@dataclass(frozen=True, slots=True)
class Probe:
    """A grant of its own that allows one use and lives for seconds.

    Attributes:
        grant, digest: the grant.
        recipe: what its orders ask for.
        ends: when it expires.
    """

    grant: Grant
    digest: str
    recipe: Recipe
    ends: datetime


def refused_orders(
    site: Site, desk: OperatorDesk, recipe_path: Path, lives_s: Sequence[int] = PROBE_S
) -> tuple[list[Shown], Probe]:
    """Send an order for an ungranted column and one too many; return the grant that will have expired soon.

    Args:
        site: the deployment.
        desk: the operator's.
        recipe_path: of the model.
        lives_s: how long the grant lives; when it ends before both are shown, another is granted for longer.

    Raises:
        NotRefusedError: a node accepted what it must refuse, or every grant ended too soon.
    """
    recipe = read_recipe(recipe_path)
    for number, life_s in enumerate(lives_s):
        ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=life_s)
        try:
            probe = _probe(site, desk, recipe, number=number, ends=ends)
            shown = _shown_while_it_lives(desk, probe)
        except FactoryError:  # an ended grant is signed by nobody and opens no session
            if datetime.now(UTC) < ends:
                raise
            continue
        if datetime.now(UTC) < ends:
            return shown, probe
    raise NotRefusedError(f"expected two orders to be answered within {lives_s[-1]} s of the request for their grant")


def _probe(site: Site, desk: OperatorDesk, recipe: Recipe, *, number: int, ends: datetime) -> Probe:
    name = f"probe-{number}" if number else "probe"
    asking = recipe.model_copy(update={"scenario": recipe.scenario.model_copy(update={"id": name})})
    reasons = dict.fromkeys(sorted({c for p in recipe.parties for c in p.columns}), "演示 demonstration")
    text = request_text(asking, reasons).replace("uses_max = 4", "uses_max = 1")
    start = datetime.now(UTC) - timedelta(seconds=60)
    text = text.replace(
        "days = 90", f'not_before = "{start:%Y-%m-%dT%H:%M:%SZ}"\nnot_after = "{ends:%Y-%m-%dT%H:%M:%SZ}"'
    )
    request_id = submit(desk, text)
    grant, digest, _ = sign_and_approve(site, desk, request_id, str(rule(site, request_id)["folder"]))
    return Probe(grant, digest, recipe, ends)


def _shown_while_it_lives(desk: OperatorDesk, probe: Probe) -> list[Shown]:
    """Ask for a column more, use the grant up, and ask once more."""
    recipe, grant, digest = probe.recipe, probe.grant, probe.digest
    node = recipe.nodes[0]
    uses = uses_of(recipe)[node]
    wider = [uses[0].model_copy(update={"columns": (*uses[0].columns, "patient_no")})]
    shown = [_ask(desk, grant, digest, node, wider, recipe=recipe, zh="越权字段", en="ungranted column")]
    session = desk.session(grant, digest)
    first = session.open(NAME, parameters_of(recipe).model_dump(mode="json"), uses_of(recipe))
    if not all(isinstance(answer, Reply) for answer in first.values()):
        refused = {node: answer.code.value for node, answer in first.items() if isinstance(answer, Refusal)}
        raise NotRefusedError(f"expected the first use to be accepted, got {refused}")
    session.close()
    shown.append(_ask(desk, grant, digest, node, uses, recipe=recipe, zh="超次使用", en="over-used grant"))
    return shown


def show_expired(desk: OperatorDesk, probe: Probe) -> Shown:
    """Send an order under a grant whose time is over."""
    time.sleep(max(0.0, (probe.ends - datetime.now(UTC)).total_seconds() + 1))
    node = probe.recipe.nodes[0]
    uses = uses_of(probe.recipe)[node]
    return _ask(desk, probe.grant, probe.digest, node, uses, recipe=probe.recipe, zh="过期授权", en="expired grant")


def show_altered(desk: OperatorDesk, grant: Grant, digest: str) -> Shown:
    """Send an order that somebody between altered: one column more, under the old signature."""
    session = desk.session(grant, digest)
    party = grant.parties[0]
    order = _order(session, party.node, party.resources)
    envelope, _ = wire.unpack(encode(order, session.key))
    other = envelope.payload.replace(b'"purpose":"', b'"purpose":"x')
    parcel = wire.pack(Envelope(envelope.payload_type, other, envelope.keyid, envelope.signature))
    reply = desk.flower.ask(party.node, parcel, timeout_s=60.0)
    answer, _ = wire.unpack(reply)
    refusal = decode(Refusal, answer, (), session.keys[party.node])
    return Shown("途中篡改", "altered in transit", party.node, refusal.code.value)


def _ask(
    desk: OperatorDesk,
    grant: Grant,
    digest: str,
    node: str,
    uses: list[ResourceUse],
    *,
    recipe: Recipe,
    zh: str,
    en: str,
) -> Shown:
    session = desk.session(grant, digest)
    order = _order(session, node, tuple(uses), recipe)
    parcel = desk.flower.ask(node, encode(order, session.key), timeout_s=60.0)
    answer = read_answer(parcel, order, sender=node, key=session.keys[node])
    if not isinstance(answer, Refusal):
        raise NotRefusedError(f"expected {node} to refuse: {en}")
    return Shown(zh, en, node, answer.code.value)


def _order(session: Session, node: str, uses: tuple[ResourceUse, ...], recipe: Recipe | None = None) -> Order:
    now = datetime.now(UTC).replace(microsecond=0)
    grant = session.grant
    return Order(
        order_id=f"o-{secrets.token_hex(8)}",
        session_id=session.session_id,
        grant_id=grant.grant_id,
        grant_sha256=session.grant_sha256,
        task=grant.tasks[0],
        scenario=grant.scenario,
        purpose=grant.purpose,
        operator=session.operator,
        node=node,
        parties=tuple(party.node for party in grant.parties),
        clients=grant.clients,
        resources=uses,
        parameters=parameters_of(recipe).model_dump(mode="json") if recipe is not None else {},
        issued_at=now,
        expires_at=now + timedelta(minutes=10),
    )
