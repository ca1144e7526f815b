"""Who gets a key to a product, and which call is answered. Pure.

A product is offered with its scenarios, client types, terms and limits. A body is screened before it
gets a key; every call is checked again: key, purpose, terms, rate, and everything the product rests
on (agreement, grant, registration, review, sources), so that the end of one link stops it at once and
the refusal says which.

Source:
    regulations/LIFECYCLE.md section 5 (released → operating); DOWN-*, USE-SCENARIO, XBORDER, SUP-CHANNEL.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import Field

from factory.lifecycle.machine import Refusal
from nodes.contract.messages import Hex32, Name, Part, Text, Time
from nodes.contract.trust import Status

SCREEN = ("DOWN-SCREEN", "SD-20-1")
CONTROL = ("DOWN-CONTROL", "SD-20-2", "SZ-11.4-3")
LIMITS = ("DOWN-LIMITS", "SZ-11.3-4")
BAR = ("DOWN-BAR", "JL-运营实施-10", "GD-25-7", "NO-06-1")
RESELL = ("DOWN-NORESELL", "SZ-11.4-2")
SCENARIO = ("USE-SCENARIO", "SD-26-7", "JL-运营管理-26")
BORDER = ("XBORDER", "GD-26-7")
PUBLISH = ("REL-PUBLISH", "JN-06-4", "SZ-06.3-11", "GD-25-3")
CHANNEL = ("SUP-CHANNEL", "JN-06-2")
DELIVER = ("RAW-NODELIVER", "JN-15-3", "SZ-11.3-2")
SUSPEND = ("SUSP-OP", "JL-运营管理-16")
CLOSE = ("SUSP-CLOSE", "SD-38-1", "JN-24-1")
FEEDBACK = ("FB-APP", "JN-16-1")
ITERATE = ("FB-COLLECT", "SZ-06.3-12", "SZ-09-4")
ALTERED = ("SEC-NOABUSE", "SD-26-1")

POINTS = ("identity", "credit", "purpose", "security")
"""What a screening looks at; each has a finding in words."""
HOME_COUNTRY = "CN"
NEAR_IDENTICAL_X100 = 90
"""Share of a derived product's lines, in hundredths, from which it counts as its input in other words. Own choice."""
ENUMERATION_MAX = 10
"""Most unknown names that a client may ask for within a minute."""


class Screening(Part):
    """What was found of a body before it gets a key.

    Attributes:
        findings: text per point of ``POINTS``; an empty one is a point not met.
        by: who screened.
        not_after: until when it counts.
    """

    findings: dict[str, str]
    by: Text
    not_after: Time


class Client(Part):
    """A body that may use products.

    Attributes:
        id: name.
        organisation: body.
        client_type: kind of application unit, e.g. ``bank``; what scenarios allow.
        kind: who uses, or who redevelops.
        country: ISO 3166 code of where it will use products; empty if unknown.
        clearance: reference of the cross-border clearance, if there is one.
        owners: organisations that own or control it, by its own declaration.
        declared_on: day of that declaration; empty if there is none.
    """

    id: Name
    organisation: Name
    title: Text
    client_type: Name
    kind: Literal["application_unit", "developer"] = "application_unit"
    country: Annotated[str, Field(pattern=r"^([A-Z]{2})?$")] = ""
    clearance: str = ""
    owners: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    declared_on: Annotated[str, Field(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] = ""


class Price(Part):
    """What a product costs.

    Attributes:
        kind: ``free`` for public good and public administration, ``guided`` for industry.
        fee_fen: fee in hundredths of a yuan.
        per: what is paid for, e.g. one call, a month.
    """

    kind: Literal["free", "guided"]
    fee_fen: Annotated[int, Field(ge=0)]
    per: Text


class Offer(Part):
    """A released product on the gateway, with what it rests on.

    Attributes:
        product: ``id@version``.
        description: what it is and for whom, for the public list.
        price: what it costs; nothing is offered without one.
        scenarios: approved scenarios, each with the client types it is for.
        purpose: purpose code.
        terms_version, terms_sha256: use conditions every client accepts first.
        per_minute, per_day: most calls of one key.
        endpoint: address at which it is delivered.
        files: digest per file.
        agreement_until, grant_until, registration_until: ends of what it rests on.
        registration_code: code.
        grant: name of the grant.
        resources: catalogue ids of its sources.
        declared: least value per metric that is measured while it is served.
    """

    product: Text
    description: Text
    price: Price
    scenarios: dict[str, Annotated[tuple[Name, ...], Field(strict=False)]]
    purpose: Name
    terms_version: Name
    terms_sha256: Hex32
    per_minute: Annotated[int, Field(ge=1)]
    per_day: Annotated[int, Field(ge=1)]
    endpoint: Text
    files: dict[str, Hex32]
    agreement: Name
    agreement_until: Time
    grant: Name
    grant_until: Time
    registration_code: Text
    registration_until: Time
    resources: Annotated[tuple[Name, ...], Field(strict=False)]
    declared: dict[Name, int] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What is known when a key is asked for.

    Attributes:
        client, screening: who, and what was found of it.
        state: of the client's case.
        offer: the product.
        scenario, use: what it is for; ``redevelopment`` makes other products from it.
        operator: the operator's organisation.
        controlled: organisations that the operator owns or controls, with all that those control.
        now: clock.
    """

    client: Client
    screening: Screening | None
    state: str
    offer: Offer
    scenario: str
    use: Literal["use", "redevelopment"]
    operator: str
    controlled: frozenset[str]
    now: datetime


def key_refusal(facts: KeyFacts) -> Refusal | None:
    """Say why a key is not given, or None."""
    client, screening = facts.client, facts.screening
    if facts.state not in {"approved", "active"} or screening is None:
        return Refusal("client.unscreened", f"expected {client.id} screened and approved, it is {facts.state}", SCREEN)
    missing = [point for point in POINTS if not screening.findings.get(point, "").strip()]
    if missing or screening.not_after <= facts.now:
        told = f"expected findings on {', '.join(missing)}" if missing else "the screening has expired; screen again"
        return Refusal("client.unscreened", told, SCREEN)
    return border_refusal(client) or bar_refusal(facts) or scenario_refusal(facts.offer, facts.scenario, client)


def border_refusal(client: Client) -> Refusal | None:
    """Refuse a client abroad without clearance, or one nobody knows where it is."""
    if not client.country:
        return Refusal("client.location", "expected where the client will use it; its location is unknown", BORDER)
    if client.country != HOME_COUNTRY and not client.clearance.strip():
        told = f"data would leave the country to {client.country}; expected the reference of a clearance"
        return Refusal("client.cross_border", told, BORDER)
    return None


def bar_refusal(facts: KeyFacts) -> Refusal | None:
    """Refuse redevelopment by the operator or a body it controls; others declare their owners with a date."""
    client = facts.client
    if facts.use != "redevelopment":
        return None
    if client.kind != "developer" or not client.declared_on:
        return Refusal("client.declaration", "expected a developer with a dated declaration of its owners", BAR)
    if date.fromisoformat(client.declared_on) > facts.now.date():
        return Refusal("client.declaration", "expected a declaration that is not dated ahead", BAR)
    linked = {client.organisation, *client.owners} & {facts.operator, *facts.controlled}
    if linked:
        told = f"the operator and bodies it controls do not redevelop what it delivered; linked by {min(linked)}"
        return Refusal("client.redevelopment", told, BAR)
    return None


def scenario_refusal(offer: Offer, scenario: str, client: Client) -> Refusal | None:
    """Refuse any other scenario than the approved ones, and a client of a kind the scenario is not for."""
    types = offer.scenarios.get(scenario)
    if types is None:
        return Refusal("call.purpose", f"{offer.product} is approved for {', '.join(offer.scenarios)} alone", SCENARIO)
    if client.client_type not in types:
        told = f"scenario {scenario} is for {', '.join(types)}; {client.id} is {client.client_type}"
        return Refusal("call.client_type", told, SCENARIO)
    return None


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What is known when a call comes in.

    Attributes:
        offer: the product, or None if the gateway offers none of this name.
        product_state: of its case.
        client, client_state: who calls.
        key_scenario, key_until, key_revoked: what its key says.
        scenario: declared with the call.
        accepted_terms: version that the client accepted, or an empty text.
        in_minute, in_day: calls of this key before.
        status: the agency's signed status.
        now: clock.
        is_resource: what was named is a resource of the catalogue.
    """

    offer: Offer | None
    product_state: str
    client: Client
    client_state: str
    key_scenario: str
    key_until: datetime
    key_revoked: bool
    scenario: str
    accepted_terms: str
    in_minute: int
    in_day: int
    status: Status
    now: datetime
    is_resource: bool = False


def call_refusal(facts: CallFacts) -> Refusal | None:
    """Say why a call is not answered, or None; whatever stops the product is told before what stops the call."""
    for rule in (_a_product, _key_holds, _product_stands, _use_agreed, _within_limits):
        refusal = rule(facts)
        if refusal is not None:
            return refusal
    return None


def _a_product(facts: CallFacts) -> Refusal | None:
    if facts.is_resource:
        told = "products are delivered here, never a resource of the catalogue; name a product with its version"
        return Refusal("call.raw_resource", told, DELIVER)
    if facts.offer is None:
        return Refusal("call.unknown", "expected a product that is offered here, with its version", CONTROL)
    return None


def _key_holds(facts: CallFacts) -> Refusal | None:
    if facts.key_revoked or facts.key_until <= facts.now:
        return Refusal("call.key", "the key is revoked or has expired; ask the operator for another", CONTROL)
    if facts.client_state != "active":
        return Refusal("call.client", f"the client is {facts.client_state}; ask the operator", SUSPEND)
    return None


def _product_stands(facts: CallFacts) -> Refusal | None:
    return standing_refusal(facts.offer, facts.product_state, facts.status, facts.now) if facts.offer else None


def _use_agreed(facts: CallFacts) -> Refusal | None:
    if facts.offer is None or facts.scenario != facts.key_scenario:
        return Refusal("call.purpose", f"this key is for scenario {facts.key_scenario} alone", SCENARIO)
    if facts.accepted_terms != facts.offer.terms_version:
        told = f"expected the use conditions {facts.offer.terms_version} to be accepted first"
        return Refusal("call.terms", told, LIMITS)
    return scenario_refusal(facts.offer, facts.scenario, facts.client) or border_refusal(facts.client)


def _within_limits(facts: CallFacts) -> Refusal | None:
    if facts.offer is not None and facts.in_minute >= facts.offer.per_minute:
        return Refusal("call.rate", f"at most {facts.offer.per_minute} calls in a minute", CONTROL)
    if facts.offer is not None and facts.in_day >= facts.offer.per_day:
        return Refusal("call.quota", f"at most {facts.offer.per_day} calls in a day", CONTROL)
    return None


def standing_refusal(offer: Offer, state: str, status: Status, now: datetime) -> Refusal | None:
    """Say which link of a product no longer holds, or None: agreement, grant, registration, sources, its own state."""
    if state != "operating":
        return Refusal("product.state", f"{offer.product} is {state}; ask the operator", CLOSE)
    ends = {"agreement": offer.agreement_until, "grant": offer.grant_until, "registration": offer.registration_until}
    for name, end in ends.items():
        if end <= now:
            return Refusal(f"product.{name}_expired", f"the {name} of {offer.product} ended; it stops", CLOSE)
    subjects = [
        ("product", offer.product),
        ("grant", offer.grant),
        *(("resource", name) for name in offer.resources),
    ]
    for kind, subject in subjects:
        item = status.state_of(kind, subject)
        if item is not None:
            return Refusal("product.struck", f"{kind} {subject} is {item.state}: {item.reason}", CLOSE)
    return None


def endpoint_refusal(endpoint: str, gateways: frozenset[str]) -> Refusal | None:
    """Refuse to release a product that would be delivered anywhere but at the platform's gateway."""
    if not any(endpoint == gateway or endpoint.startswith(gateway.rstrip("/") + "/") for gateway in gateways):
        return Refusal("product.channel", "expected delivery at the platform's gateway and nowhere else", CHANNEL)
    return None


def price_refusal(offer: Offer) -> Refusal | None:
    """Refuse a product without a description, one that is free and has a fee, or one that is guided and has none."""
    if not offer.description.strip() or not offer.price.per.strip():
        return Refusal("product.description", "expected a description, and what the price is for", PUBLISH)
    if (offer.price.kind == "free") != (offer.price.fee_fen == 0):
        return Refusal("product.price", "expected no fee for what is free, and a fee for what is guided", PUBLISH)
    return None


def resale_refusal(derived: bytes, source: bytes) -> Refusal | None:
    """Refuse a derived product that is its input in other words.

    Compares lines of text, or pieces of 64 bytes, without order and blanks: a copy that was sorted anew, cut or
    given a few lines more still is one.
    """
    mine, theirs = _pieces(derived), _pieces(source)
    if not mine:
        return Refusal("product.resale", "expected a derived product that holds something", RESELL)
    same = 100 * len(mine & theirs)
    if same >= NEAR_IDENTICAL_X100 * len(mine) or same >= NEAR_IDENTICAL_X100 * max(1, len(theirs)):
        return Refusal("product.resale", "the derived product is its input product in other words", RESELL)
    return None


def _pieces(content: bytes) -> frozenset[bytes]:
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return frozenset(content[at : at + 64] for at in range(0, len(content), 64))
    return frozenset("".join(line.split()).encode() for line in lines if line.strip())


def feedback_refusal(calls: int, said: Mapping[str, str]) -> Refusal | None:
    """Refuse feedback on a product its sender never used, or that leaves a point out."""
    if calls == 0:
        return Refusal("feedback.unused", "expected feedback on a product that this client has used", FEEDBACK)
    missing = [name for name in ("quality", "use", "effect") if not said.get(name, "").strip()]
    if missing:
        return Refusal("feedback.incomplete", f"expected words on {', '.join(missing)}", FEEDBACK)
    return None


def iteration_refusal(unanswered: list[str]) -> Refusal | None:
    """Refuse to close an iteration while feedback on the version before has no response."""
    if unanswered:
        return Refusal("iteration.open", f"expected a response to {', '.join(sorted(unanswered)[:8])}", ITERATE)
    return None
