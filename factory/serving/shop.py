"""The operator's counter: offers, clients with their screening, keys, terms, calls, feedback.

Everything is a case or an event of the operator's registry; a key is shown once and kept as a digest.
Every call reads the state of client, key, product and signed status anew, so that a suspension counts
on the next call; with status that has expired nothing is delivered.
"""

import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from factory.lifecycle.machine import Refusal
from factory.lifecycle.serving import (
    ENUMERATION_MAX,
    CallFacts,
    Client,
    KeyFacts,
    Offer,
    Screening,
    call_refusal,
    endpoint_refusal,
    feedback_refusal,
    iteration_refusal,
    key_refusal,
    price_refusal,
    resale_refusal,
    standing_refusal,
)
from factory.registry.errors import CaseUnknownError
from factory.registry.store import Case, Registry
from factory.review.declared import below
from factory.services.actor import Actor
from factory.services.desk import Desk
from factory.serving.errors import AlteredError, CallRefusedError, UnauthenticatedError
from factory.serving.fingerprint import is_ordered_by, mark_of, marked, read_mark
from factory.trust import load_trust
from nodes.contract.alerting import Alert, Signal, alerts
from nodes.contract.signing import sha256_hex
from nodes.contract.statement import time_text
from nodes.contract.trust import Status

SALE, CLIENT, KEY, FEEDBACK, DELIVERY = "offer", "client", "client_key", "feedback", "delivery"


@dataclass(frozen=True, slots=True)
class Shop:
    """The operator's counter.

    Attributes:
        registry: the operator's.
        operator: organisation of the operator.
        controlled: organisations it owns or controls.
        gateways: addresses of the platform's gateways.
        files: folder with one folder of released files per product.
        trust_path: the operator's copy of the agency's trust data.
        mark_key: 32 bytes behind the fingerprints.
        clock: time.
    """

    registry: Registry
    operator: str
    controlled: frozenset[str]
    gateways: frozenset[str]
    files: Path
    trust_path: Path
    mark_key: bytes
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    # Offers

    def offer(self, offer: Offer, *, by: str) -> Case:
        """Put a released product on the gateway.

        Raises:
            CallRefusedError: another endpoint than the platform's, or a link of the product that does not hold.
            AlteredError: a file is not the released one.
        """
        refusal = endpoint_refusal(offer.endpoint, self.gateways)
        refusal = refusal or price_refusal(offer) or standing_refusal(offer, "operating", self._status(), self._now())
        if refusal is not None:
            self._event(by, "offer.refused", offer.product, SALE, reason=refusal.code)
            raise CallRefusedError(refusal)
        for name in offer.files:
            self._file(offer, name)
        return self._desk.enter(
            self._by(by), SALE, offer.product[:96], "offer.open", state="operating",
            document=offer.model_dump(mode="json"), reason=offer.registration_code,
        )  # fmt: skip

    def set_state(self, product: str, state: str, *, by: str, reason: str) -> Case:
        """Suspend a product on the gateway, put it back, or retire it; the next call meets it.

        Raises:
            CallRefusedError: it is retired; what is retired stays so, its records are kept.
        """
        case = self.registry.get(SALE, product[:96])
        if case.state == "retired":
            told = f"{product} is retired for good; a new version is released instead"
            raise CallRefusedError(Refusal("product.retired", told, ("REL-LIFE", "SD-29-1")))
        return self._desk.amend(self._by(by), case, f"offer.{state}", state=state, reason=reason)

    # Clients

    def admit(self, client: Client, screening: Screening, *, by: str) -> Case:
        """Note a body and what its screening found; it may get keys when every point has a finding."""
        document: dict[str, Any] = {
            "client": client.model_dump(mode="json"),
            "screening": screening.model_dump(mode="json"),
            "terms": {},
        }
        act, why = "client.screen", "; ".join(screening.findings.values())[:500]
        known = self._known(CLIENT, client.id)
        if known is None:
            return self._desk.enter(
                self._by(by), CLIENT, client.id, act, state="approved", document=document, reason=why
            )
        document["terms"] = known.document["terms"]
        return self._desk.amend(self._by(by), known, act, state="approved", document=document, reason=why)

    def give_key(
        self, client_id: str, product: str, *, scenario: str, use: str = "use", days: int = 365, by: str
    ) -> str:
        """Give a client a key to a product and return it; it is shown this once.

        Raises:
            CallRefusedError: not screened, abroad without clearance, barred, or another scenario.
            CaseUnknownError: no such client or product.
        """
        offer = Offer.model_validate(self.registry.get(SALE, product[:96]).document)
        case = self._known(CLIENT, client_id)
        client = self._client(case) if case else Client(
            id=client_id, organisation=client_id, title=client_id, client_type="unknown"
        )  # fmt: skip
        facts = KeyFacts(
            client=client,
            screening=Screening.model_validate(case.document["screening"]) if case else None,
            state=case.state if case else "unknown",
            offer=offer,
            scenario=scenario,
            use="redevelopment" if use == "redevelopment" else "use",
            operator=self.operator,
            controlled=self.controlled,
            now=self._now(),
        )
        refusal = key_refusal(facts)
        if refusal is not None or case is None:
            told = refusal or Refusal("client.unscreened", "expected a screened client")
            self._event(by, "key.refused", client_id, CLIENT, reason=told.code)
            raise CallRefusedError(told)
        prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        until = self._now() + timedelta(days=days)
        document = {
            "client": client_id, "product": product, "scenario": scenario, "use": use,
            "sha256": sha256_hex(secret.encode()), "not_after": time_text(until),
        }  # fmt: skip
        with self._desk.together():
            self._desk.enter(self._by(by), KEY, prefix, "key.give", state="active", document=document, reason=scenario)
            if case.state == "approved":
                self._desk.amend(self._by(by), case, "key.give", state="active", reason=scenario)
        return f"sf_{prefix}_{secret}"

    def suspend(self, client_id: str, *, by: str, reason: str, case_ref: str) -> Case:
        """Suspend a client that misuses, resells or leaks; its keys fail at the next call (SUSP-OP).

        Raises:
            CallRefusedError: no reason, or no case it is linked to.
        """
        if not reason.strip() or not case_ref.strip():
            raise CallRefusedError(
                Refusal("client.reason", "expected a reason and the case it belongs to", ("SUSP-OP",))
            )
        case = self.registry.get(CLIENT, client_id)
        document = {**case.document, "suspended_for": case_ref}
        evidence = {"case": sha256_hex(case_ref.encode())}
        return self._desk.amend(
            self._by(by), case, "client.suspend", state="suspended", document=document, reason=reason,
            evidence=evidence,
        )  # fmt: skip

    def revoke_key(self, key: str, *, by: str, reason: str) -> Case:
        """Revoke one key."""
        case = self._key(key)
        return self._desk.amend(self._by(by), case, "key.revoke", state="revoked", reason=reason)

    def accept_terms(self, key: str, version: str) -> Case:
        """Note that the client accepts the use conditions of the product of this key.

        Raises:
            CallRefusedError: another version than the one in force.
        """
        held = self._key(key)
        product, client_id = str(held.document["product"]), str(held.document["client"])
        offer = Offer.model_validate(self.registry.get(SALE, product[:96]).document)
        if version != offer.terms_version:
            told = Refusal("call.terms", f"expected the conditions in force, {offer.terms_version}", ("DOWN-LIMITS",))
            raise CallRefusedError(told)
        case = self.registry.get(CLIENT, client_id)
        terms = {**cast("dict[str, str]", case.document["terms"]), product: version}
        return self._desk.amend(
            _client(client_id), case, "terms.accept", document={**case.document, "terms": terms}, reason=version,
            evidence={"terms": offer.terms_sha256},
        )  # fmt: skip

    def set_terms(self, product: str, version: str, text: bytes, *, by: str) -> Case:
        """Put new use conditions in force; every client is asked again."""
        case = self.registry.get(SALE, product[:96])
        document = {**case.document, "terms_version": version, "terms_sha256": sha256_hex(text)}
        return self._desk.amend(self._by(by), case, "offer.terms", document=document, reason=version)

    # Calls

    def call(self, key: str, product: str, name: str, *, scenario: str) -> bytes:
        """Answer one call with the client's own copy of a file; the call is recorded before it is answered.

        Raises:
            UnauthenticatedError: no such key.
            CallRefusedError: a rule does not allow it; recorded.
            AlteredError: the stored file is not the released one; recorded.
        """
        held = self._key(key)
        client_case = self.registry.get(CLIENT, str(held.document["client"]))
        client, now = self._client(client_case), self._now()
        sale = self._known(SALE, product[:96])
        offer = Offer.model_validate(sale.document) if sale is not None else None
        calls = self._calls(held.id)
        facts = CallFacts(
            offer=offer if offer is not None and product == held.document["product"] else None,
            product_state=sale.state if sale else "unknown",
            client=client,
            client_state=client_case.state,
            key_scenario=str(held.document["scenario"]),
            key_until=datetime.fromisoformat(str(held.document["not_after"])),
            key_revoked=held.state != "active",
            scenario=scenario,
            accepted_terms=str(cast("dict[str, str]", client_case.document["terms"]).get(product, "")),
            in_minute=sum(now - at < timedelta(minutes=1) for at in calls),
            in_day=sum(now - at < timedelta(days=1) for at in calls),
            status=self._status(),
            now=now,
            is_resource="@" not in product and product.startswith("res."),
        )
        refusal = call_refusal(facts)
        if refusal is None and offer is not None and name not in offer.files:
            refusal = Refusal("call.unknown", f"{product} has no such file", ("DOWN-CONTROL",))
        if refusal is not None or offer is None:
            told = refusal or Refusal("call.unknown", "expected a product that is offered here")
            self._event(client.id, "call.refused", held.id, KEY, reason=told.code)
            if told.code == "call.unknown" and self._unknown(held.id) > ENUMERATION_MAX:
                self._event(client.id, "call.refused", held.id, KEY, reason="call.enumeration")
                self._desk.amend(self._by("gateway"), held, "key.suspend", state="suspended", reason="enumeration")
            raise CallRefusedError(told)
        content = self._file(offer, name)
        delivery = f"d-{secrets.token_hex(8)}"
        copy = marked(content, name, mark_of(self.mark_key, delivery))
        document = {
            "client": client.id, "key": held.id, "product": product, "file": name, "at": time_text(now),
            "sha256": sha256_hex(copy),
        }  # fmt: skip
        by, act = _client(client.id, client.organisation), "call.answered"
        evidence = {"file": offer.files[name]}
        with self._desk.together():
            self._desk.enter(
                by, DELIVERY, delivery, act, state="delivered", document=document, reason=scenario, evidence=evidence
            )
            self._desk.record(by, KEY, held.id, act, reason=scenario, evidence=evidence)
        return copy

    def scenario_of(self, key: str) -> str:
        """Return the scenario that a key is for.

        Raises:
            UnauthenticatedError: no such key.
        """
        return str(self._key(key).document["scenario"])

    def released(self, product: str, name: str) -> bytes:
        """Return a file of an offered product as it was released, for comparison; no client gets this copy.

        Raises:
            CaseUnknownError: no such product.
            AlteredError: the stored file is not the released one; recorded.
        """
        return self._file(Offer.model_validate(self.registry.get(SALE, product[:96]).document), name)

    def trace(self, content: bytes, name: str) -> dict[str, Any] | None:
        """Return the delivery that a copy found outside comes from, or None; a match raises an alert."""
        found = read_mark(content, name)
        for case in self.registry.cases(DELIVERY):
            mark = mark_of(self.mark_key, case.id)
            is_it = found is not None and hmac.compare_digest(found, mark)
            is_it = is_it or case.document["sha256"] == sha256_hex(content)
            if is_it or (str(case.document["file"]).endswith(".csv") and is_ordered_by(content, mark)):
                self._event(str(case.document["client"]), "leak.traced", case.id, DELIVERY, reason="leak.traced")
                return {"call": case.id, **case.document}
        return None

    def submit_derived(self, client_id: str, product: str, name: str, derived: bytes) -> str:
        """Take a derived product for a look before it is registered; refused if it is its input in other words.

        Raises:
            CallRefusedError: near-identical to its input; recorded.
        """
        offer = Offer.model_validate(self.registry.get(SALE, product[:96]).document)
        refusal = resale_refusal(derived, self._file(offer, name))
        if refusal is not None:
            self._event(client_id, "derived.refused", client_id, CLIENT, reason=refusal.code)
            raise CallRefusedError(refusal)
        self._event(client_id, "derived.accepted", client_id, CLIENT, reason=sha256_hex(derived))
        return sha256_hex(derived)

    # Feedback

    def feedback(self, key: str, said: Mapping[str, str]) -> Case:
        """Take a client's words on quality, use and effect of a product it used.

        Raises:
            CallRefusedError: it never used it, or a point is missing.
        """
        held = self._key(key)
        client_id = str(held.document["client"])
        refusal = feedback_refusal(len(self._calls(held.id)), said)
        if refusal is not None:
            raise CallRefusedError(refusal)
        document = {
            "client": client_id, "product": held.document["product"], "said": dict(said), "at": time_text(self._now()),
            "response": "", "ticket": "", "outcome": "",
        }  # fmt: skip
        name = f"f-{secrets.token_hex(6)}"
        return self._desk.enter(_client(client_id), FEEDBACK, name, "feedback.give", state="open", document=document)

    def answer_feedback(self, name: str, response: str, *, ticket: str = "", outcome: str = "", by: str) -> Case:
        """Answer feedback: in words, with the source department's ticket and, once decided, its outcome.

        Raises:
            CallRefusedError: no words.
        """
        if not response.strip():
            raise CallRefusedError(Refusal("feedback.response", "expected a response in words", ("FB-COLLECT",)))
        case = self.registry.get(FEEDBACK, name)
        document = {**case.document, "response": response, "ticket": ticket, "outcome": outcome}
        return self._desk.amend(
            self._by(by), case, "feedback.answer", state="answered", document=document, reason=response
        )

    def feedback_due(self, product: str, *, days: int) -> list[str]:
        """Return the clients that used a product and have not said anything since, past the period."""
        spoken = {str(case.document["client"]) for case in self._feedback(product)}
        first: dict[str, datetime] = {}
        for case in self.registry.cases(DELIVERY):
            if case.document["product"] == product:
                at = datetime.fromisoformat(str(case.document["at"]))
                who = str(case.document["client"])
                first[who] = min(at, first.get(who, at))
        late = timedelta(days=days)
        return sorted(who for who, at in first.items() if who not in spoken and self._now() - at > late)

    def iteration(self, product: str) -> list[dict[str, Any]]:
        """Return the feedback on a version, each with its response; what the next version starts from."""
        return [{"id": case.id, "state": case.state, **case.document} for case in self._feedback(product)]

    def close_iteration(self, product: str, following: str, *, by: str) -> None:
        """Note that the next version answers what was said of this one.

        Raises:
            CallRefusedError: something is unanswered.
        """
        refusal = iteration_refusal([case.id for case in self._feedback(product) if case.state != "answered"])
        if refusal is not None:
            raise CallRefusedError(refusal)
        self._event(by, "iteration.close", product[:96], SALE, reason=following)

    # Quality while it is served

    def measured(self, product: str, metrics: Mapping[str, int], *, by: str) -> tuple[str, ...]:
        """Take what was measured of a product that is served; below what it declares an alert opens (Q-PRODUCT).

        Returns:
            The metrics that are below, or were not measured.
        """
        offer = Offer.model_validate(self.registry.get(SALE, product[:96]).document)
        missed = below(metrics, offer.declared)
        for name in missed:
            self._event(by, "quality.below", product[:96], SALE, reason="quality.below")
            self._event(by, "quality.measured", product[:96], SALE, reason=f"{name}={metrics.get(name, 'none')}")
        return missed

    # Records

    def listed(self) -> list[dict[str, Any]]:
        """Return what the public list shows: products whose every link holds now (REL-PUBLISH)."""
        rows = []
        for case in self.registry.cases(SALE):
            offer = Offer.model_validate(case.document)
            if standing_refusal(offer, case.state, self._status(), self._now()) is None:
                rows.append(
                    {
                        "product": offer.product,
                        "description": offer.description,
                        "price": offer.price.model_dump(mode="json"),
                        "registration_code": offer.registration_code,
                        "valid_until": time_text(
                            min(offer.registration_until, offer.grant_until, offer.agreement_until)
                        ),
                        "scenarios": {name: list(types) for name, types in offer.scenarios.items()},
                        "purpose": offer.purpose,
                        "terms_version": offer.terms_version,
                        "terms_sha256": offer.terms_sha256,
                        "resources": list(offer.resources),
                    }
                )
        return rows

    def ask(self, client_id: str, product: str, *, scenario: str) -> None:
        """Note that a body asks for a product; screening, decision and key follow under its name (REL-SERVICE).

        Raises:
            CaseUnknownError: no such product.
        """
        self.registry.get(SALE, product[:96])
        self._desk.record(_client(client_id), CLIENT, client_id, "client.ask", reason=f"{product} {scenario}"[:500])

    def history(self, client_id: str) -> list[dict[str, str]]:
        """Return what was asked, decided and given to one body, in order (REL-SERVICE)."""
        keys = [case.id for case in self.registry.cases(KEY) if case.document["client"] == client_id]
        wanted = {(CLIENT, client_id), *((KEY, key) for key in keys)}
        return [
            {name: str(event.body[name]) for name in ("at", "act", "actor", "reason")}
            for event in self.registry.events()
            if (event.body["kind"], event.body["case"]) in wanted
        ]

    def usage(self) -> list[dict[str, Any]]:
        """Return calls by client, product and scenario: billable ones and refused ones, with bytes sent (SRV-METER)."""
        keys = {case.id: case.document for case in self.registry.cases(KEY)}
        totals: dict[tuple[str, str, str], dict[str, Any]] = {}
        for event in self.registry.events(kind=KEY):
            held, act = keys.get(str(event.body["case"])), event.body["act"]
            if held is None or act not in {"call.answered", "call.refused"}:
                continue
            name = (str(held["client"]), str(held["product"]), str(held["scenario"]))
            row = totals.setdefault(
                name, dict(zip(("client", "product", "scenario"), name, strict=True)) | {"billable": 0, "refused": 0}
            )
            row["billable" if act == "call.answered" else "refused"] += 1
        return [totals[name] for name in sorted(totals)]

    def destinations(self, resource: str) -> list[dict[str, Any]]:
        """Return where a resource went: products made from it, and every delivery of them (PROV-DEST)."""
        rows = []
        for case in self.registry.cases(SALE):
            offer = Offer.model_validate(case.document)
            if resource in offer.resources:
                deliveries = [
                    {"call": d.id, "client": d.document["client"], "at": d.document["at"], "file": d.document["file"]}
                    for d in self.registry.cases(DELIVERY)
                    if d.document["product"] == offer.product
                ]
                rows.append({"product": offer.product, "grant": offer.grant, "deliveries": deliveries})
        return rows

    # Alerts

    def alerts(self) -> list[Alert]:
        """Return what stands out among calls, keys and files, the gravest first."""
        signals = []
        handled: dict[str, str] = {}
        for event in self.registry.events():
            act, reason = str(event.body["act"]), str(event.body["reason"])
            at = datetime.fromisoformat(str(event.body["at"]))
            if act in {"call.refused", "leak.traced", "artefact.altered", "quality.below"}:
                signals.append(Signal(at, str(event.body["actor"]), reason or act, str(event.seq)))
            if act == "alert.handled":
                handled[str(event.body["case"])] = reason
        return alerts(signals, handled=handled, now=self._now())

    def handle_alert(self, name: str, *, outcome: str, by: str) -> None:
        """Note what was done about an alert.

        Raises:
            CaseUnknownError: no such alert, or nothing was done.
        """
        if name not in {alert.id for alert in self.alerts()} or not outcome.strip():
            raise CaseUnknownError(f"expected an alert and what was done about it, not {name[:80]}")
        self._event(by, "alert.handled", name[:96], "alert", reason=outcome)

    # Inside

    def _file(self, offer: Offer, name: str) -> bytes:
        path = self.files / offer.product.replace("@", "_") / name
        try:
            content = path.read_bytes()
        except OSError:
            content = b""
        if sha256_hex(content) != offer.files[name]:
            self._event("gateway", "artefact.altered", offer.product[:96], SALE, reason="artefact.altered")
            raise AlteredError(
                f"expected {name} of {offer.product} as it was released; it was altered and is not delivered"
            )
        return content

    def _key(self, key: str) -> Case:
        parts = key.split("_", 2)
        known = self._known(KEY, parts[1]) if len(parts) == 3 and parts[0] == "sf" else None
        digest = str(known.document["sha256"]) if known else "0" * 64
        secret = parts[2] if len(parts) == 3 else ""
        if known is None or not hmac.compare_digest(digest, sha256_hex(secret.encode())):
            self._event("unknown", "call.unauthenticated", "-", KEY)
            raise UnauthenticatedError("expected a key of this gateway in X-API-Key")
        return known

    def _known(self, kind: str, name: str) -> Case | None:
        try:
            return self.registry.get(kind, name)
        except CaseUnknownError:
            return None

    def _client(self, case: Case) -> Client:
        return Client.model_validate(case.document["client"])

    def _feedback(self, product: str) -> list[Case]:
        return [case for case in self.registry.cases(FEEDBACK) if case.document["product"] == product]

    def _calls(self, key: str) -> list[datetime]:
        events = self.registry.events(kind=KEY, case_id=key)
        return [datetime.fromisoformat(str(e.body["at"])) for e in events if e.body["act"] == "call.answered"]

    def _unknown(self, key: str) -> int:
        now = self._now()
        return sum(
            event.body["reason"] == "call.unknown"
            and now - datetime.fromisoformat(str(event.body["at"])) < timedelta(minutes=1)
            for event in self.registry.events(kind=KEY, case_id=key)
        )

    def _status(self) -> Status:
        return load_trust(self.trust_path, now=self._now()).status

    def _now(self) -> datetime:
        return self.clock().replace(microsecond=0)

    @property
    def _desk(self) -> Desk:
        return Desk(self.registry, self._now)

    def _by(self, person: str) -> Actor:
        return Actor(person, self.operator, frozenset({"operator"}), "home")

    def _event(self, by: str, name: str, case_id: str, kind: str, *, reason: str = "") -> None:
        self._desk.record(self._by(by), kind, case_id, name, role="gateway", reason=reason)


def _client(name: str, organisation: str = "") -> Actor:
    """Return an application unit that came with its key; it is no account of the platform."""
    return Actor(name, organisation or name, frozenset({"client"}), "api_key")
