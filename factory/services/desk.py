"""The one way through which a case is opened or moved.

Actor, act and facts go to the machine; a permit becomes the change with its event in one
transaction, from which the outbox carries the event to the log. A refusal is recorded too,
after everything else of that act was undone. Who acts is checked here for every machine: the
role under the agreement, and that nobody decides what they wrote. Records that belong to no
machine (keys, deliveries, directories) are entered, amended and noted here too: nothing else
writes to a registry.

Privacy: reasons and digests; no value of a row is ever given to an act.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from factory.lifecycle.machine import Refusal, decide
from factory.lifecycle.roles import BODIES, DUTIES, SEES_ALL, body_of
from factory.registry.errors import CaseChangedError, CaseExistsError, CaseUnknownError, TransitionRefusedError
from factory.registry.store import Act, Case, Event, Registry
from factory.services.actor import Actor
from factory.services.machines import MACHINES, Machine

REASON_MAX = 2000
"""Longest reason of an event, in characters."""


@dataclass(frozen=True, slots=True)
class _Refused:
    actor: Actor
    role: str
    kind: str
    case_id: str
    state: str
    act: str
    refusal: Refusal


class Desk:
    """Carries out acts on the cases of a registry; may be used by several threads."""

    def __init__(self, registry: Registry, clock: Callable[[], datetime]) -> None:
        """Work on ``registry`` by ``clock``, which gives aware times to the second."""
        self.registry = registry
        self.clock = clock

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Do several acts in one transaction; a refusal undoes all of them and is recorded."""
        with self.registry.transaction():
            yield

    def open(
        self,
        actor: Actor,
        kind: str,
        case_id: str,
        act: str,
        *,
        facts: Any,
        document: Mapping[str, Any],
        reason: str = "",
        evidence: Mapping[str, str] | None = None,
        artefacts: Mapping[str, bytes] | None = None,
        agreement: str = "",
        state: str = "",
    ) -> Case:
        """Open a case by its first act.

        Args:
            actor: who acts.
            kind: of the case, a key of ``MACHINES``.
            case_id: its new name.
            act: arrow that leaves the machine's start.
            facts: what the guards look at, or a function that returns it.
            document: what the case says; ``agreement_id`` in it ties it to that agreement.
            reason: why.
            evidence: digests by name.
            artefacts: exact bytes to keep beside it.
            agreement: id of the agreement under which the actor's body has its role.
            state: where it stands before anything was written of it, if not at the machine's start.

        Raises:
            TransitionRefusedError: role, duties or a guard; recorded.
            CaseExistsError: the name is taken.
        """
        machine = MACHINES[kind]
        with self.together():
            with contextlib.suppress(CaseUnknownError):
                self.registry.get(kind, case_id)
                raise CaseExistsError(f"expected a new {kind}, {case_id} exists")
            role, target = self._decided(
                actor, machine, act, case_id=case_id, state=state or machine.start, facts=facts, agreement=agreement
            )
            return self.registry.create(
                kind,
                case_id,
                state=target,
                document=document,
                artefacts=artefacts,
                act=_act(actor, role, f"{kind}.{act}", reason, evidence),
                now=self.clock(),
            )

    def move(
        self,
        actor: Actor,
        kind: str,
        case_id: str,
        act: str,
        *,
        facts: Any,
        reason: str = "",
        evidence: Mapping[str, str] | None = None,
        document: Mapping[str, Any] | Callable[[Case], Mapping[str, Any]] | None = None,
        artefacts: Mapping[str, bytes] | None = None,
        revision: int | None = None,
        agreement: str = "",
    ) -> Case:
        """Move a case; see ``open``. A function for ``facts`` or ``document`` gets the case as it stands.

        Args:
            actor: who acts.
            kind: of the case.
            case_id: its name.
            act: arrow.
            facts: what the guards look at, or a function of the case.
            reason: why.
            evidence: digests by name.
            document: what the case says from now on.
            artefacts: exact bytes to keep beside it.
            revision: the one the actor has seen.
            agreement: as in ``open``; the case's own unless given.

        Raises:
            TransitionRefusedError: role, duties or a guard; recorded.
            CaseUnknownError: there is no such case.
            CaseChangedError: the case is no longer at ``revision``.
        """
        machine = MACHINES[kind]
        with self.together():
            case = self.registry.get(kind, case_id)
            if revision is not None and case.revision != revision:
                raise CaseChangedError(f"{kind} {case_id} changed meanwhile; read it again and repeat")
            value = facts(case) if callable(facts) else facts
            role, state = self._decided(
                actor,
                machine,
                act,
                case_id=case_id,
                state=case.state,
                facts=value,
                agreement=agreement or case.agreement,
            )
            return self.registry.change(
                case,
                state=state,
                document=document(case) if callable(document) else document,
                artefacts=artefacts,
                act=_act(actor, role, f"{kind}.{act}", reason, evidence),
                now=self.clock(),
            )

    def enter(
        self,
        actor: Actor,
        kind: str,
        case_id: str,
        act: str,
        *,
        state: str,
        document: Mapping[str, Any],
        role: str = "",
        reason: str = "",
        evidence: Mapping[str, str] | None = None,
        artefacts: Mapping[str, bytes] | None = None,
    ) -> Case:
        """Enter a record of a kind that has no machine; see ``open``. Here ``act`` is the full name of the event.

        Raises:
            ValueError: the kind has a machine; its guards are not gone around.
            CaseExistsError: the name is taken.
        """
        if kind in MACHINES:
            raise ValueError(f"expected a kind without a machine, {kind} is opened by its acts")
        record = _act(actor, role or _any_role(actor), act, reason, evidence)
        return self.registry.create(
            kind, case_id, state=state, document=document, artefacts=artefacts, act=record, now=self.clock()
        )

    def amend(
        self,
        actor: Actor,
        case: Case,
        act: str,
        *,
        state: str = "",
        document: Mapping[str, Any] | None = None,
        role: str = "",
        reason: str = "",
        evidence: Mapping[str, str] | None = None,
        artefacts: Mapping[str, bytes] | None = None,
    ) -> Case:
        """Write on in a case whose state does not change, or in a record of a kind that has no machine.

        Args:
            actor: who acts.
            case: as the actor has seen it.
            act: full name of the event.
            state: new state of a record without a machine.
            document: what it says from now on.
            role: as what the actor acts.
            reason: why.
            evidence: digests by name.
            artefacts: exact bytes to keep beside it.

        Raises:
            ValueError: another state for a kind that has a machine.
            CaseChangedError: somebody else changed it meanwhile.
        """
        if case.kind in MACHINES and state not in {"", case.state}:
            raise ValueError(f"expected a kind without a machine, {case.kind} is moved by its acts")
        record = _act(actor, role or _any_role(actor), act, reason, evidence)
        return self.registry.change(
            case, state=state or case.state, document=document, artefacts=artefacts, act=record, now=self.clock()
        )

    def note(
        self,
        actor: Actor,
        kind: str,
        case_id: str,
        act: str,
        *,
        role: str = "",
        reason: str = "",
        evidence: Mapping[str, str] | None = None,
    ) -> Event:
        """Record an act of the kind that moves no state."""
        return self.record(actor, kind, case_id, f"{kind}.{act}", role=role, reason=reason, evidence=evidence)

    def record(
        self,
        actor: Actor,
        kind: str,
        case_id: str,
        act: str,
        *,
        state: str = "",
        role: str = "",
        reason: str = "",
        evidence: Mapping[str, str] | None = None,
    ) -> Event:
        """Record something under the full name of its event, with the state in which the case was met."""
        record = _act(actor, role or _any_role(actor), act, reason, evidence)
        return self.registry.record(record, kind=kind, case_id=case_id[:96], state=state, now=self.clock())

    def refuse(self, actor: Actor, kind: str, case_id: str, act: str, refusal: Refusal) -> TransitionRefusedError:
        """Record a refusal that no machine gave, and return the error to raise."""
        self._record_refusal(_Refused(actor, _any_role(actor), kind, case_id, "", act, refusal))
        return TransitionRefusedError(refusal)

    def read(self, actor: Actor, kind: str, case_id: str) -> Case:
        """Return a case that the actor may see.

        Raises:
            CaseUnknownError: there is none, or none for this organisation.
        """
        case = self.registry.get(kind, case_id)
        within = self.sight(actor)
        if within is not None and case.organisation != within[0] and case.agreement not in within[1]:
            raise CaseUnknownError(f"expected a {kind} {case_id}, there is none; list them to see their names")
        return case

    def list(
        self, actor: Actor, kind: str, *, state: str | None = None, after: str = "", limit: int = 50
    ) -> list[Case]:
        """Return cases that the actor may see, by name."""
        return self.registry.cases(kind, state=state, after=after, limit=limit, within=self.sight(actor))

    def sight(self, actor: Actor) -> tuple[str, frozenset[str]] | None:
        """Return organisation and agreements whose cases the actor may see; None for all."""
        if actor.roles & SEES_ALL:
            return None
        agreements = {case.id for case in self.registry.cases("parties") if actor.organisation in _roles_of(case)}
        return actor.organisation, frozenset(agreements)

    def roles_under(self, agreement: str) -> dict[str, str] | None:
        """Return the role per organisation under an agreement; None when its parties were never formed."""
        try:
            return _roles_of(self.registry.get("parties", agreement))
        except CaseUnknownError:
            return None

    def _decided(
        self, actor: Actor, machine: Machine, act: str, *, case_id: str, state: str, facts: Any, agreement: str
    ) -> tuple[str, str]:
        value = facts() if callable(facts) else facts
        role, refusal = self._role(actor, machine, act, agreement)
        if refusal is None and act in machine.rulings:
            refusal = self._refuse_own(actor, machine, case_id)
        if refusal is None:
            answer = decide(machine.transitions, act, name=machine.kind, state=state, role=role, facts=value)
            if not isinstance(answer, Refusal):
                return role, answer.target
            refusal = answer
        self._record_refusal(_Refused(actor, role, machine.kind, case_id, state, act, refusal))
        raise TransitionRefusedError(refusal)

    def _role(self, actor: Actor, machine: Machine, act: str, agreement: str) -> tuple[str, Refusal | None]:
        fitting = sorted(actor.roles & machine.roles(act))
        if not fitting:
            return _any_role(actor), None  # the machine refuses it, after the state
        parties = self.roles_under(agreement) if agreement else None
        if parties is None:
            return fitting[0], None
        held = parties.get(actor.organisation)
        bound = [role for role in fitting if body_of(role) not in BODIES or body_of(role) == held]
        if bound:
            return bound[0], None
        return fitting[0], Refusal(
            "roles.agreement",
            f"{act} is done by the {body_of(fitting[0])} of agreement {agreement}; {actor.organisation} is "
            f"{'its ' + held if held else 'no party of it'}",
            DUTIES,
        )

    def _refuse_own(self, actor: Actor, machine: Machine, case_id: str) -> Refusal | None:
        drafts = {f"{machine.kind}.{act}" for act in machine.drafts}
        for event in self.registry.events(kind=machine.kind, case_id=case_id, actor=actor.id):
            if event.body.get("act") in drafts:
                return Refusal(
                    "duties.own_case", f"expected another person than {actor.id}, who wrote this {machine.kind}", DUTIES
                )
        return None

    def _record_refusal(self, refused: _Refused) -> None:
        """Record a refusal once everything else of its act was undone."""
        name = f"{refused.kind}.{refused.act}.refused"
        act = _act(refused.actor, refused.role, name, refused.refusal.code, None)
        self.registry.database.afterwards(
            lambda: self.registry.record(
                act, kind=refused.kind, case_id=refused.case_id[:96], state=refused.state, now=self.clock()
            )
        )


def _act(actor: Actor, role: str, name: str, reason: str, evidence: Mapping[str, str] | None) -> Act:
    return Act(actor.id, role, actor.organisation, name, reason[:REASON_MAX], evidence)


def _any_role(actor: Actor) -> str:
    return min(actor.roles, default="none")


def _roles_of(case: Case) -> dict[str, str]:
    roles = case.document.get("roles")
    return {str(body): str(role) for body, role in roles.items()} if isinstance(roles, dict) else {}
