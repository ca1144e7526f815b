"""National registrations at the agency: filings, the three clocks, publicity and objections.

A case of kind ``national`` per registration, under the id of its application. Its document says
when each clock began; deadlines are computed from there, in working days.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

from factory.agency.errors import RequestRefusedError, in_agency_words
from factory.agency.office import Office
from factory.lifecycle.machine import Refusal
from factory.lifecycle.national import (
    ACCEPT_DAYS,
    FILING,
    PUBLICITY_DAYS,
    REVIEW_DAYS,
    NationalFacts,
    deadline,
    today,
)
from factory.lifecycle.registration import Application
from factory.registry.errors import CaseUnknownError
from factory.registry.store import Case, Registry
from factory.services.actor import Actor
from factory.services.desk import Desk
from nodes.contract.statement import time_text

KIND = "national"
AGENCY_ACTS = ("accept", "return", "decline", "publish", "uphold", "dismiss", "code")
"""What an official may do to a filing."""


class NationalRegistrations:
    """The agency's register of national filings."""

    def __init__(self, office: Office, registry: Registry) -> None:
        """Work for ``office`` with ``registry``."""
        self._office = office
        self._registry = registry
        self._desk = Desk(registry, office.now)

    def file(self, application_id: str, *, sender: str = "", actor: Actor | None = None) -> Case:
        """Take the operator's filing of a registered product, or a filing that was returned.

        Args:
            application_id: of the registration.
            sender: actor id whose signature was verified.
            actor: who files for the operator, where somebody was authenticated.

        Raises:
            RequestRefusedError: not registered, another's product, or it has been filed already.
            CaseUnknownError: no such registration.
        """
        registered = self._registry.get("registration", application_id)
        application = Application.model_validate(registered.document["application"])
        registrant = application.registrant
        by = actor or Actor(sender, registrant.organisation, frozenset({"operator"}), "key")
        known, now = self._known(application_id), self._office.now()
        facts = self._facts(application_id, known)
        with in_agency_words():
            is_own = by.id == registrant.actor if by.means == "key" else by.organisation == registrant.organisation
            if not is_own:
                refusal = Refusal("national.registrant", "expected a filing in the sender's own name", FILING)
                raise self._desk.refuse(by, KIND, application_id, "file", refusal)
            if known is not None:
                document = {**known.document, "filed_at": time_text(now)}
                return self._desk.move(by, KIND, application_id, "file", facts=facts, document=document)
            document = {
                "agreement_id": application.lawful_source.agreement_id,
                "published": {
                    "registrant": registrant.name_zh,
                    "kind": application.kind,
                    "name": application.product.name_zh,
                    "summary": application.product.summary,
                },  # these four and no more: 26号 art. 12
                "filed_at": time_text(now),
                "returns": 0,
                "objections": [],
                "national_code": "",
            }
            return self._desk.open(by, KIND, application_id, "file", facts=facts, document=document)

    def act(
        self,
        application_id: str,
        act: str,
        *,
        official: str = "",
        reason: str = "",
        national_code: str = "",
        actor: Actor | None = None,
    ) -> Case:
        """Do an official's act: accept, return once, decline, publish, uphold, dismiss or code.

        Raises:
            RequestRefusedError: the state, a clock or a guard does not permit it; cites the clause.
        """
        if act not in AGENCY_ACTS:
            raise RequestRefusedError("national.act", f"expected one of {', '.join(AGENCY_ACTS)}")
        by = actor or Actor(official, self._office.identity.organisation, frozenset({"agency"}), "home")
        now = self._office.now()

        def document(case: Case) -> dict[str, Any]:
            found: dict[str, Any] = dict(case.document)
            match act:
                case "return":
                    found |= {"returns": found["returns"] + 1, "defects": reason}
                case "accept":
                    found["accepted_at"] = time_text(now)
                case "publish":
                    last, is_provisional = deadline(today(now), PUBLICITY_DAYS)
                    found |= {
                        "published_at": time_text(now),
                        "publicity_until": last.isoformat(),
                        "is_provisional": is_provisional,
                    }
                case "uphold" | "dismiss":
                    found["objections"] = _decided(found["objections"], act, by.id, reason)
                case "code":
                    found["national_code"] = national_code
            return found

        def facts(case: Case) -> NationalFacts:
            return self._facts(application_id, case, reason=reason, code=national_code)

        with in_agency_words():
            return self._desk.move(by, KIND, application_id, act, facts=facts, reason=reason, document=document)

    def object(
        self, application_id: str, *, objector: str, reason: str, evidence_sha256: str, actor: Actor | None = None
    ) -> Case:
        """Take an objection by name and with evidence, while the publicity lasts.

        Raises:
            RequestRefusedError: anonymous, without evidence, or too late.
        """
        who = actor or Actor("interested", "public", frozenset(), "home")
        by, now = replace(who, roles=frozenset({"interested"})), self._office.now()

        def facts(case: Case) -> NationalFacts:
            return self._facts(application_id, case, reason=reason, objector=objector, evidence_sha256=evidence_sha256)

        def document(case: Case) -> dict[str, Any]:
            objection = {
                "objector": objector, "reason": reason, "evidence_sha256": evidence_sha256, "at": time_text(now),
            }  # fmt: skip
            before: Any = case.document["objections"]
            return {**case.document, "objections": [*before, objection]}

        with in_agency_words():
            return self._desk.move(
                by, KIND, application_id, "object", facts=facts, reason=reason, document=document,
                evidence={"evidence": evidence_sha256},
            )  # fmt: skip

    def status(self, application_id: str) -> dict[str, Any]:
        """Return where a filing stands, its running clock, and whether that has run out.

        Raises:
            CaseUnknownError: nothing was filed.
        """
        case = self._registry.get(KIND, application_id)
        document, due = dict(case.document), ""
        clock = {"filed": ("filed_at", ACCEPT_DAYS), "accepted": ("accepted_at", REVIEW_DAYS)}.get(case.state)
        if clock is not None:
            last, _ = deadline(today(datetime.fromisoformat(str(document[clock[0]]))), clock[1])
            due = last.isoformat()
        elif case.state == "in_publicity":
            due = str(document["publicity_until"])
        return {
            "application_id": case.id,
            "state": case.state,
            "due": due,
            "is_overdue": bool(due) and case.state != "in_publicity" and today(self._office.now()).isoformat() > due,
            "defects": document.get("defects", ""),
            "published": document["published"],
            "open_objections": _open(case),
            "national_code": document["national_code"],
        }

    def _known(self, application_id: str) -> Case | None:
        try:
            return self._registry.get(KIND, application_id)
        except CaseUnknownError:
            return None

    def _facts(
        self,
        application_id: str,
        case: Case | None,
        *,
        reason: str = "",
        code: str = "",
        objector: str = "",
        evidence_sha256: str = "",
    ) -> NationalFacts:
        registered = self._registry.get("registration", application_id)
        end, now = str(registered.document["valid_until"]), self._office.now()
        until = case.document.get("publicity_until") if case is not None else None
        return NationalFacts(
            now=now,
            is_registered=bool(end) and registered.state not in ("cancelled", "refused") and end > time_text(now),
            returns=int(str(case.document["returns"])) if case is not None else 0,
            publicity_until=datetime.fromisoformat(str(until)).date() if until else None,
            open_objections=_open(case) if case is not None else 0,
            reason=reason,
            objector=objector,
            evidence_sha256=evidence_sha256,
            national_code=code,
        )


def _open(case: Case) -> int:
    objections: Any = case.document["objections"]
    return sum("decided" not in item for item in objections)


def _decided(objections: Any, act: str, official: str, reason: str) -> list[dict[str, str]]:
    """Return the objections with the oldest open one decided; to uphold one decides them all."""
    decided, is_done = [], False
    for item in objections:
        if "decided" not in item and not (is_done and act == "dismiss"):
            decided.append({**item, "decided": act, "by": official, "because": reason})
            is_done = True
        else:
            decided.append(item)
    return decided
