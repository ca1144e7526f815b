"""One parcel in, one signed parcel out: verify, decide, record, act, record, answer.

This is the only place where errors of this side become refusals. Order of things: the signature
over the received bytes, then the parse, then who asks and whether it is for us, then the books'
kept answer to the very same request, then the policy. Whatever is refused is in the ledger.

Privacy: what leaves is a ``Result`` with a task's outcome, a ``Refusal`` with a code and a sentence
of this package, or a statement. A task's exception is told by a reference number; its text, which
may quote a row, goes nowhere, not to the log either.
"""

import logging
import re
import secrets
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from nodes.agent.parties import HalfRun, Journal, Post
from nodes.agent.queries import answer_query
from nodes.agent.refusing import RefusedError, require
from nodes.agent.resources import all_facts, catalogue_of
from nodes.agent.sessions import OpenSession, Sessions, SessionSecrets
from nodes.books import ZERO_SHA256, Acceptance, Books, GrantRecord, LedgerEntry, PartySessionRecord, RunRecord
from nodes.contract import canonical, messages, wire
from nodes.contract.errors import (
    BadSignatureError,
    ContractError,
    MalformedError,
    TooLargeError,
    UnsupportedVersionError,
)
from nodes.contract.grant import Grant
from nodes.contract.messages import Order, Query, QueryKind, Refusal, RefusalCode, ResourceUse, Result, Step
from nodes.contract.parameters import CLOCK_SKEW_S_MAX, LIMITS
from nodes.contract.parties import FRAME, PartyFrame
from nodes.contract.signing import Envelope, VerifyKey, sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE
from nodes.contract.trust import Actor, Role
from nodes.errors import (
    BooksError,
    BudgetExhaustedError,
    CatalogueError,
    GrantError,
    OrderReplayedError,
    SelectionTakenError,
    StorageError,
    TableError,
    TrustError,
    UsesExhaustedError,
)
from nodes.grants import check_record
from nodes.keys import NodeKeys
from nodes.policy import (
    Denial,
    NodeFacts,
    Permit,
    ResourceFacts,
    actor_denial,
    clock_denial,
    decide,
    decide_rows,
    decide_step,
)
from nodes.privacy_ledger import PrivacyLedger
from nodes.registers import subject_digest
from nodes.settings import NodeSettings
from nodes.statements import RunAccount, UsedResource, extend_transcript, run_statement
from nodes.tables import GrantedTable
from nodes.tasks.spec import Outcome, TaskContext, TaskRefusedError, TaskSession, TaskSpec
from nodes.trust_store import TrustData, TrustStore
from nodes.use_rules import Basis, basis_for, personal_columns

CLOSE = "session.close"
REPLY_AGE = timedelta(days=2)
"""How long answers to orders and closes are kept; orders are refused as expired long before."""

_STEP_LATE_S_MAX = LIMITS.frame_age_s_max + CLOCK_SKEW_S_MAX
_ANY_VERSION = re.compile(r"application/vnd\.shufang\.(order|step|query|party-frame)\.v\d+\+json")
_MODELS: dict[str, type[Order] | type[Step] | type[Query] | type[PartyFrame]] = {
    model.payload_type: model for model in (Order, Step, Query, PartyFrame)
}
_log = logging.getLogger("shufang.node")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A verified request: who asks what, in which bytes."""

    message: Order | Step | Query | PartyFrame
    digest: str
    sender: str
    session: str
    attachments: tuple[bytes, ...]
    envelope: Envelope


class Agent:
    """A node's agent. ``handle`` is safe to call from several threads and never raises."""

    def __init__(
        self,
        settings: NodeSettings,
        keys: NodeKeys,
        books: Books,
        trust: TrustStore,
        tasks: Mapping[str, TaskSpec],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Start with no open session.

        Args:
            settings: of the node.
            keys: its keys.
            books: its books.
            trust: its trust data.
            tasks: installed tasks by name.
            now: the node's clock.
        """
        self.settings = settings
        self.keys = keys
        self.books = books
        self.trust = trust
        self.tasks = {name: spec for name, spec in tasks.items() if not settings.tasks or name in settings.tasks}
        self.now = now
        self.sessions = Sessions(
            settings.state, settings.session_idle_s, keep=[record.session for record in books.party_sessions()]
        )
        self._post: Post | None = None
        self._skew_lock = threading.Lock()
        self._skew: dict[str, int] = {}
        books.forget_replies(now() - REPLY_AGE)

    def handle(self, parcel: bytes) -> bytes:
        """Answer one parcel with one signed parcel."""
        asked: _Asked | None = None
        digest = sha256_hex(parcel)
        try:
            envelope, attachments = _unpacked(parcel)
            digest = envelope.payload_sha256
            asked = self._identify(envelope, attachments, self._trust())
            self._expire_sessions()
            return self._dispatch(asked)
        except RefusedError as refused:
            return self._refuse(digest, asked, refused.refusal, refused.message)
        except StorageError:
            _log.error("the books refused a write; free disk space")
            return self._refuse(digest, asked, RefusalCode.STORAGE, "the node could not write its books; repeat later")
        except Exception as error:  # noqa: BLE001  the outermost loop: record, refuse, go on
            return self._refuse(digest, asked, RefusalCode.TASK_FAILED, self._incident(error))

    def attach(self, post: Post) -> None:
        """Give the agent its way to other nodes, and take up the sessions that a restart interrupted.

        Args:
            post: carries a parcel to another node of a session.
        """
        self._post = post
        for record in self.books.party_sessions():
            try:
                self._resume(record)
            except Exception as error:  # noqa: BLE001  one session that cannot go on stops no other
                reason = error.refusal.value if isinstance(error, RefusedError) else self._incident(error)
                _log.warning("session %s is not taken up again: %s", record.session, reason)
                with self.books.transaction():
                    self.books.record("session.failed", session=record.session, request=record.order_sha256)
                    self.books.settle_order(record.order_sha256, "closed")
                    self.books.close_party_session(record.session)
                self.sessions.remove(record.session)

    def foreign_bundle(self, digest_hex: str, reason: str) -> None:
        """Write into the ledger that a plane was sent code, or another kind of message, and refused it."""
        self.books.record(
            "bundle.foreign",
            facts={"code": RefusalCode.BUNDLE_FOREIGN.value, "sha256": digest_hex, "reason": reason[:200]},
        )

    # Who asks

    def _trust(self) -> TrustData:
        try:
            return self.trust.current()
        except TrustError as error:
            raise RefusedError(
                RefusalCode.TRUST_INVALID, "this node has no valid trust data; its officer runs `shufang-node doctor`"
            ) from error

    def _identify(self, envelope: Envelope, attachments: tuple[bytes, ...], trust: TrustData) -> _Asked:
        actors = trust.by_keyid.get(envelope.keyid, ())
        if not actors:
            raise RefusedError(
                RefusalCode.ACTOR_UNKNOWN, "expected a key of the trust data, got an unknown one; update it"
            )
        message = _verified(envelope, attachments, actors[0].verify_key)
        match message:
            case Order():
                sender, recipient, session = message.operator, message.node, message.session_id
                roles: tuple[Role, ...] = ("operator",)
            case Step():
                sender, recipient, session = message.sender, message.recipient, message.session_id
                roles = ("operator", "application_unit")
            case Query():
                sender, recipient, session = message.sender, message.recipient, ""
                roles = ("operator", "agency", "registrar")
                if message.kind == QueryKind.SESSION_POSITION:
                    roles = ("operator", "application_unit")
            case PartyFrame():
                sender, recipient, session = message.sender, message.recipient, message.session_id
                roles = ("node",)
        mine = [actor for actor in actors if actor.id == sender]
        if not mine:
            raise RefusedError(RefusalCode.SIGNATURE, "expected the signature of the sender that the message names")
        self._require_role(trust, mine, roles)
        if recipient != self.settings.id:
            raise RefusedError(RefusalCode.RECIPIENT, f"expected a message for {self.settings.id}, got one for another")
        return _Asked(message, envelope.payload_sha256, sender, session, attachments, envelope)

    def _require_role(self, trust: TrustData, entries: list[Actor], roles: tuple[Role, ...]) -> None:
        now, actor = self.now(), entries[0]
        held = [role for role in roles if any(role in entry.roles for entry in entries)]
        if not held:
            raise RefusedError(RefusalCode.SENDER_ROLE, f"expected a sender in the role {' or '.join(roles)}")
        require(actor_denial(trust.actors, trust.status, actor.id, held[0], now))
        # After a rotation an actor may have two keys in force; the one struck may be the one that signed.
        if trust.status.state_of("key", actor.verify_key.keyid) is not None:
            raise RefusedError(RefusalCode.ACTOR_REVOKED, f"the agency has struck the key of {actor.id} that signed")
        if not any(entry.is_valid_at(now) for entry in entries):
            raise RefusedError(
                RefusalCode.ACTOR_REVOKED, f"expected the key of {actor.id} in force, got an earlier one"
            )

    def _dispatch(self, asked: _Asked) -> bytes:
        match asked.message:
            case Order() as order:
                with self.sessions.opening_lock(order.session_id):
                    return self._order(asked, order)
            case Step() as step:
                return self._step(asked, step)
            case PartyFrame() as frame:
                return self._frame(asked, frame)
            case Query() as query:
                require(clock_denial(query.issued_at, query.expires_at, now=self.now(), late_s_max=_STEP_LATE_S_MAX))
                self._note_skew(asked.sender, query.issued_at)
                body, attachments = answer_query(self, query, asked.attachments)
                result = self._result(asked, query.kind, body, attachments, None)
                return messages.encode(result, self.keys.statement, attachments)

    # Orders

    def _order(self, asked: _Asked, order: Order) -> bytes:
        if (kept := self.books.reply_to(asked.digest)) is not None:
            return kept
        state = self.books.order_state(asked.digest)
        if state not in {None, "accepted"} or (state is None and self.books.is_taken(order.order_id, order.session_id)):
            raise RefusedError(RefusalCode.REPLAYED, "expected a new order id and session id, these were seen before")
        trust = self._trust()
        record, grant = self._grant_of(order, trust)
        permit, used = self._permit(order, record, grant, trust, resent=state == "accepted")
        self._note_skew(asked.sender, order.issued_at)
        spec = self.tasks[order.task]
        parameters = _parameters_of(order, spec)
        views = self._views(order, permit, used)
        prepared = self._prepared(spec, views, parameters)
        budget_before = self.books.spent(record.sha256) - self.books.spent_in(order.session_id)
        selection = (order.task, spec.selection_sha256(order, parameters))
        accepted = self._accept(asked, order, record, permit, selection)
        context = self._context(order, record, grant, trust, parameters=parameters, views=views, prepared=prepared)
        try:
            task, outcome = self._started(spec, context)
        except RefusedError:
            self.books.settle_order(asked.digest, "refused")
            self.sessions.remove(order.session_id)
            raise
        opened = OpenSession(
            order=order,
            order_sha256=asked.digest,
            grant=grant,
            spec=spec,
            task=task,
            resources=tuple(used.values()),
            started_at=self.now(),
            used_at=self.now(),
            first_seq=accepted.entry.seq,
            use_number=accepted.use_number,
            budget_before=budget_before,
            run=cast("HalfRun | None", context.run),
        )
        with self.books.transaction():
            reply, answer_sha256 = self._answer(asked, "order.accepted", outcome, keep=True)
            self.books.settle_order(asked.digest, "answered")
            opened.transcript = extend_transcript(opened.transcript, asked.digest, answer_sha256)
            if opened.run is not None:
                self.books.open_party_session(
                    PartySessionRecord(
                        session=order.session_id,
                        order_sha256=asked.digest,
                        envelope=asked.envelope.to_bytes(),
                        started_at=opened.started_at,
                        budget_before=budget_before,
                        epoch=0,
                        sequence=0,
                        transcript=opened.transcript.hex(),
                    )
                )
        self._join(opened)
        return reply

    def _context(
        self,
        order: Order,
        record: GrantRecord,
        grant: Grant,
        trust: TrustData,
        *,
        parameters: BaseModel,
        views: Mapping[str, GrantedTable],
        prepared: object = None,
    ) -> TaskContext:
        actors = self._actors_for(order, trust)
        node_secrets = SessionSecrets(
            self.settings.id, order.session_id, self.trust, self.keys.statement, self.keys.sealing, self.now
        )
        folder = self.sessions.state_dir(order.session_id)
        run = None
        if self.tasks[order.task].party and self._post is not None:
            run = HalfRun(
                order,
                node=self.settings.id,
                journal=Journal(self.books, order.session_id, folder),
                secrets=node_secrets,
                key=self.keys.statement,
                peer_keys={party: actors[party].verify_key for party in order.parties},
                post=self._post,
                now=self.now,
                exchanged=lambda request, answer: self._exchanged(order.session_id, request, answer),
                incident=self._incident,
            )
        return TaskContext(
            node=self.settings.id,
            order=order,
            grant=grant,
            parameters=parameters,
            tables=views,
            actors=actors,
            secrets=node_secrets,
            now=self.now,
            state_dir=str(folder),
            charge=self._charger(order, record, grant),
            parts_dir=str(self.settings.parts),
            run=run,
            prepared=prepared,
            lose=self._loser(order, record, grant),
        )

    def _join(self, opened: OpenSession) -> None:
        """Make a session known; its half, if it has one, begins before others can reach it."""
        if opened.run is not None:
            opened.run.begin()
        self.sessions.add(opened)

    def _resume(self, record: PartySessionRecord) -> None:
        """Take up a session of a party task that was open when this node ended."""
        trust = self._trust()
        envelope = Envelope.from_bytes(record.envelope)
        order = messages.parse(Order, envelope.payload)
        if sha256_hex(envelope.payload) != record.order_sha256:
            raise RefusedError(RefusalCode.MALFORMED, "expected the order of the books")
        grant_record, grant = self._grant_of(order, trust)
        permit, used = self._permit(order, grant_record, grant, trust, resent=True)
        spec = self.tasks[order.task]
        parameters = _parameters_of(order, spec)
        views = self._views(order, permit, used)
        context = self._context(order, grant_record, grant, trust, parameters=parameters, views=views)
        accepted = self.books.acceptance(record.order_sha256)
        task, _ = self._started(spec, context)
        self._join(
            OpenSession(
                order=order,
                order_sha256=record.order_sha256,
                grant=grant,
                spec=spec,
                task=task,
                resources=tuple(used.values()),
                started_at=record.started_at,
                used_at=self.now(),
                first_seq=accepted.entry.seq,
                use_number=accepted.use_number,
                budget_before=record.budget_before,
                sequence={order.operator: record.sequence},
                transcript=bytes.fromhex(record.transcript),
                run=cast("HalfRun | None", context.run),
            )
        )

    def _grant_of(self, order: Order, trust: TrustData) -> tuple[GrantRecord, Grant]:
        record = self.books.grant(order.grant_sha256)
        if record is None:
            if self.books.grant_named(order.grant_id) is not None:
                raise RefusedError(
                    RefusalCode.GRANT_INVALID, f"expected the digest of grant {order.grant_id} as offered"
                )
            raise RefusedError(
                RefusalCode.GRANT_UNKNOWN, f"expected a grant that was offered to this node; offer {order.grant_id}"
            )
        try:
            return record, check_record(record, own_keys=self.own_keys(trust), trust=trust)
        except GrantError as error:
            raise RefusedError(RefusalCode.GRANT_INVALID, str(error)) from error

    def own_keys(self, trust: TrustData) -> list[VerifyKey]:
        """Return the statement keys this node has or had, by trust data and key file."""
        keys = {self.keys.statement.public.keyid: self.keys.statement.public}
        keys |= {a.verify_key.keyid: a.verify_key for a in trust.actors.actors if a.id == self.settings.id}
        return list(keys.values())

    def _permit(
        self, order: Order, record: GrantRecord, grant: Grant, trust: TrustData, *, resent: bool
    ) -> tuple[Permit, dict[str, UsedResource]]:
        now = self.now()
        try:
            catalogue = catalogue_of(self.settings)
        except CatalogueError as error:
            _log.error("the catalogue cannot be read: %s", error)
            raise RefusedError(
                RefusalCode.RESOURCE_MISSING, "the node's catalogue cannot be read; ask its officer"
            ) from error
        resources, commitments = all_facts(
            catalogue,
            self.books,
            names={use.resource for use in order.resources},
            settings=self.settings,
            commitment_key=self.keys.commitment,
            trust=trust,
        )
        facts = NodeFacts(
            node=self.settings.id,
            tasks=frozenset(self.tasks),
            rows_min=self.settings.rows_min,
            quality_required=self.settings.quality_required,
            resources=resources,
            grant_state=record.state,
            grant_sha256=record.sha256,
            uses=self.books.uses(record.sha256) - int(resent),
            spent=self.books.spent(record.sha256) - self.books.spent_in(order.session_id),
            actors=trust.actors,
            status=trust.status,
            trust_expires_at=trust.expires_at,
        )
        permit = decide(order, grant, facts=facts, now=now)
        if isinstance(permit, Denial):
            raise RefusedError(permit.code, permit.message)
        used = {
            use.resource: UsedResource(
                entry=catalogue[use.resource],
                columns=use.columns,
                row_filter=[condition.model_dump(mode="json") for condition in use.row_filter],
                commitment=commitments[use.resource],
                record=self.books.resource(use.resource),
                basis=self._basis(use, order, resources[use.resource], now),
            )
            for use in order.resources
        }
        return permit, used

    def _views(self, order: Order, permit: Permit, used: Mapping[str, UsedResource]) -> dict[str, GrantedTable]:
        views = {}
        for use in order.resources:
            basis = used[use.resource].basis
            view = GrantedTable(used[use.resource].entry, self.settings.home, use)
            if basis is not None and basis.kind == "consent":
                view = replace(view, subject=basis.subject, consents=self._consents(basis))
            try:
                rows = view.row_count()
            except TableError as error:
                _log.error("table of %s: %s", use.resource, error.code)
                raise RefusedError(
                    RefusalCode.RESOURCE_MISSING,
                    f"the table of {use.resource} cannot be read with this row filter; see `shufang-node doctor` there",
                ) from None
            require(decide_rows(permit, use.resource, rows))
            views[use.resource] = view
        return views

    def _basis(self, use: ResourceUse, order: Order, facts: ResourceFacts, now: datetime) -> Basis | None:
        if facts.use is None or not personal_columns(use, facts.use.entry):
            return None
        return basis_for(use, facts.use, purpose=order.purpose, now=now)

    def _consents(self, basis: Basis) -> Callable[[str], bool]:
        given, key = self.books.subjects(basis.id), self.keys.commitment
        return lambda subject: subject_digest(key, basis, subject) in given

    def _accept(
        self, asked: _Asked, order: Order, record: GrantRecord, permit: Permit, selection: tuple[str, str]
    ) -> Acceptance:
        try:
            return self.books.accept_order(
                order_sha256=asked.digest,
                order_id=order.order_id,
                session=order.session_id,
                operator=order.operator,
                grant_sha256=record.sha256,
                uses_max=permit.grant.uses_max,
                budget_total=permit.grant.budget.total,
                charge=permit.charge,
                selection=selection,
                facts={
                    "order_id": order.order_id,
                    "grant_sha256": record.sha256,
                    "task": order.task,
                    "resources": [use.resource for use in order.resources],
                    "skew_s": permit.skew_s,
                },
            )
        except OrderReplayedError as error:
            raise RefusedError(RefusalCode.REPLAYED, str(error)) from error
        except (SelectionTakenError, UsesExhaustedError) as error:
            raise RefusedError(RefusalCode.GRANT_EXHAUSTED, str(error)) from error
        except BudgetExhaustedError as error:
            raise RefusedError(RefusalCode.GRANT_BUDGET, str(error)) from error

    def _prepared(self, spec: TaskSpec, views: Mapping[str, GrantedTable], parameters: BaseModel) -> object:
        """Let the task make what takes long; the grant's use is taken only when it is there."""
        if spec.prepare is None:
            return None
        try:
            return spec.prepare(views, parameters, self.settings.home)
        except TaskRefusedError as error:
            raise RefusedError(RefusalCode(error.code), str(error)) from error
        except Exception as error:  # noqa: BLE001  a task's text may quote a row: only a reference leaves
            raise RefusedError(RefusalCode.TASK_FAILED, self._incident(error)) from None

    def _started(self, spec: TaskSpec, context: TaskContext) -> tuple[TaskSession, Outcome]:
        try:
            return spec.start(context)
        except TaskRefusedError as error:
            raise RefusedError(RefusalCode(error.code), str(error)) from error
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001  a task's text may quote a row: only a reference leaves
            raise RefusedError(RefusalCode.TASK_FAILED, self._incident(error)) from None

    def _actors_for(self, order: Order, trust: TrustData) -> dict[str, Actor]:
        now = self.now()
        named = {*order.parties, *order.clients, order.operator}
        return {
            actor.id: actor
            for actor in trust.actors.actors
            if actor.is_valid_at(now) and (actor.id in named or "agency" in actor.roles)
        }

    def _charger(self, order: Order, record: GrantRecord, grant: Grant) -> Callable[[int], None]:
        def charge(units: int) -> None:
            try:
                self.books.charge(record.sha256, order.session_id, units, total=grant.budget.total)
            except BudgetExhaustedError as error:
                raise TaskRefusedError(RefusalCode.GRANT_BUDGET.value, str(error)) from error

        return charge

    def _loser(self, order: Order, record: GrantRecord, grant: Grant) -> Callable[[int], None]:
        def lose(epsilon_micro: int) -> None:
            ledger = PrivacyLedger(self.books, self.settings.privacy_anchor, self.settings.epsilon_micro_max)
            try:
                if grant.budget.unit == "epsilon_micro" and self.books.spent_in(order.session_id) < epsilon_micro:
                    self.books.charge(record.sha256, order.session_id, epsilon_micro, total=grant.budget.total)
                for use in order.resources:
                    ledger.spend(
                        use.resource,
                        session=order.session_id,
                        grant_sha256=record.sha256,
                        epsilon_micro=epsilon_micro,
                    )
            except BooksError as error:
                raise TaskRefusedError(RefusalCode.GRANT_BUDGET.value, str(error)) from error

        return lose

    # Steps

    def _step(self, asked: _Asked, step: Step) -> bytes:
        opened = self.sessions.get(step.session_id)
        if opened is None:
            kept = self.books.reply_to(asked.digest)
            if kept is not None:
                return kept
            state = self.books.order_state(step.order_sha256)
            if state == "closed" or self.books.run(step.session_id) is not None:
                raise RefusedError(RefusalCode.SESSION_CLOSED, "this session is closed at this node; open a new one")
            raise RefusedError(
                RefusalCode.SESSION_UNKNOWN,
                "expected an open session (a node's restart or an idle hour ends it); open a new one",
            )
        with opened.lock:
            if (again := opened.replies.get(asked.digest)) is not None:
                return again[1]
            if opened.run is not None and (kept := self.books.reply_to(asked.digest)) is not None:
                return kept
            self._require_turn(opened, step)
            opened.sequence[step.sender] = step.sequence
            opened.used_at = self.now()
            try:
                reply, answer_sha256 = self._do_step(asked, step, opened)
            except RefusedError as refused:
                reply = self._refuse(asked.digest, asked, refused.refusal, refused.message)
                answer_sha256 = wire.unpack(reply)[0].payload_sha256
            self._extend(opened, asked.digest, answer_sha256, sequence=step.sequence)
            opened.keep_reply(step.sender, asked.digest, reply)
            opened.used_at = self.now()
            return reply

    def _require_turn(self, opened: OpenSession, step: Step) -> None:
        if opened.is_closed:
            raise RefusedError(RefusalCode.SESSION_CLOSED, "this session is closed at this node; open a new one")
        if step.order_sha256 != opened.order_sha256:
            raise RefusedError(RefusalCode.SESSION_UNKNOWN, "expected the digest of the order that opened this session")
        if step.sender != opened.order.operator and step.sender not in opened.order.clients:
            raise RefusedError(RefusalCode.SENDER_ROLE, "expected the operator or a client of this session")
        expected = opened.sequence.get(step.sender, 0) + 1
        if step.sequence < expected:
            raise RefusedError(
                RefusalCode.REPLAYED, f"expected step {expected}, step {step.sequence} was already taken"
            )
        if step.sequence > expected:
            raise RefusedError(RefusalCode.SESSION_SEQUENCE, f"expected step {expected}, got step {step.sequence}")

    def _do_step(self, asked: _Asked, step: Step, opened: OpenSession) -> tuple[bytes, str]:
        now, trust = self.now(), self._trust()
        require(clock_denial(step.issued_at, None, now=now, late_s_max=_STEP_LATE_S_MAX))
        self._note_skew(step.sender, step.issued_at)
        if step.sender != opened.order.operator and (step.kind == CLOSE or step.kind not in opened.spec.clients_may):
            raise RefusedError(RefusalCode.NOT_ALLOWED, "expected a step that an application unit may send")
        if step.kind == CLOSE:
            return self._close(asked, opened)
        record = self.books.grant(opened.order.grant_sha256)
        require(
            decide_step(
                opened.grant,
                grant_sha256=opened.order.grant_sha256,
                status=trust.status,
                trust_expires_at=trust.expires_at,
                grant_state=record.state if record else "revoked",
                now=now,
            )
        )
        self.books.record(
            "step.received",
            actor=step.sender,
            session=step.session_id,
            request=asked.digest,
            facts={"kind": step.kind, "sequence": step.sequence},
        )
        try:
            outcome = opened.task.step(step.sender, step.kind, step.body, asked.attachments)
        except TaskRefusedError as error:
            raise RefusedError(RefusalCode(error.code), str(error)) from error
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001  a task's text may quote a row: only a reference leaves
            # What state the task is in is unknown: the session ends here.
            self._abandon(opened, "session.failed")
            raise RefusedError(RefusalCode.TASK_FAILED, self._incident(error)) from None
        return self._answer(asked, step.kind, outcome, keep=opened.run is not None)

    def _extend(
        self, opened: OpenSession, request_sha256: str, answer_sha256: str, *, sequence: int | None = None
    ) -> None:
        """Extend the transcript; that of a session which outlives the process is kept in the books."""
        with opened.trail:
            opened.transcript = extend_transcript(opened.transcript, request_sha256, answer_sha256)
            if opened.run is not None and not opened.is_closed:
                self.books.keep_trail(opened.order.session_id, transcript=opened.transcript.hex(), sequence=sequence)

    # Frames of other nodes

    def _frame(self, asked: _Asked, frame: PartyFrame) -> bytes:
        opened = self.sessions.get(frame.session_id)
        if opened is None or opened.run is None:
            if self.books.run(frame.session_id) is not None or self.books.has_ended(frame.session_id):
                raise RefusedError(RefusalCode.SESSION_CLOSED, "this session is closed at this node")
            raise RefusedError(RefusalCode.SESSION_UNKNOWN, "expected an open session; repeat the frame later")
        require(clock_denial(frame.issued_at, None, now=self.now(), late_s_max=_STEP_LATE_S_MAX))
        record = self.books.grant(opened.order.grant_sha256)
        denial = decide_step(
            opened.grant,
            grant_sha256=opened.order.grant_sha256,
            status=self._trust().status,
            trust_expires_at=self._trust().expires_at,
            grant_state=record.state if record else "revoked",
            now=self.now(),
        )
        if denial is not None:
            opened.run.fail(denial.code, denial.message)
            require(denial)
        run = opened.run
        with run.lock_of(frame.sender):
            content = run.admit(frame, asked.digest, asked.attachments)
            if content is None:
                return run.last_reply(frame.sender)
            reply, answer_sha256 = self._answer(asked, FRAME, Outcome({"sequence": frame.sequence}), keep=False)
            self._extend(opened, asked.digest, answer_sha256)
            opened.used_at = self.now()
            run.deliver(frame, asked.digest, content, reply)
        return reply

    def _exchanged(self, session_id: str, request_sha256: str, answer_sha256: str) -> None:
        """Note a frame that this node sent and that the peer acknowledged."""
        opened = self.sessions.get(session_id)
        if opened is not None:
            opened.used_at = self.now()
            self._extend(opened, request_sha256, answer_sha256)

    def _close(self, asked: _Asked, opened: OpenSession) -> tuple[bytes, str]:
        try:
            facts = opened.task.finish()
        except TaskRefusedError as error:
            raise RefusedError(RefusalCode(error.code), str(error)) from error
        except Exception as error:  # noqa: BLE001  a task's text may quote a row: only a reference leaves
            self._abandon(opened, "session.failed")
            raise RefusedError(RefusalCode.TASK_FAILED, self._incident(error)) from None
        order = opened.order
        with self.books.transaction():
            entry = self.books.record(
                "session.closed", actor=asked.sender, session=order.session_id, request=asked.digest
            )
            budget_after = opened.budget_before + self.books.spent_in(order.session_id)
            account = RunAccount(
                uses_before=opened.use_number - 1,
                uses_after=opened.use_number,
                budget_before=opened.budget_before,
                budget_after=budget_after,
                first_seq=opened.first_seq,
                last_seq=entry.seq,
                last_sha256=entry.sha256,
                transcript_sha256=opened.transcript.hex(),
                started_at=opened.started_at,
                finished_at=self.now(),
            )
            payload = run_statement(
                order, opened.order_sha256, opened.grant, resources=opened.resources, account=account, facts=facts
            )
            envelope = sign(self.keys.statement, PAYLOAD_TYPE, payload)
            names = tuple(used.entry.id for used in opened.resources)
            self.books.keep_run(
                RunRecord(
                    order.session_id,
                    order.grant_sha256,
                    envelope.payload_sha256,
                    envelope.to_bytes(),
                    opened.budget_before,
                    budget_after,
                    names,
                )
            )
            self.books.settle_order(opened.order_sha256, "closed")
            self.books.close_party_session(order.session_id)
            body = {"statement_sha256": envelope.payload_sha256, "contributors": int(facts.get("contributors", 0))}
            answered = self._answer(asked, CLOSE, Outcome(body, (envelope.to_bytes(),)), keep=True)
        opened.is_closed = True
        self.sessions.remove(order.session_id)
        return answered

    def _abandon(self, opened: OpenSession, kind: str) -> None:
        opened.is_closed = True
        if opened.run is not None:
            opened.run.fail(RefusalCode.SESSION_CLOSED, "the session ended at this node before it was complete")
        self.sessions.remove(opened.order.session_id)
        self.books.close_party_session(opened.order.session_id)
        self.books.record(kind, session=opened.order.session_id, request=opened.order_sha256)
        self.books.settle_order(opened.order_sha256, "closed")

    def _expire_sessions(self) -> None:
        for opened in self.sessions.idle(self.now()):
            if opened.lock.acquire(blocking=False):
                try:
                    self._abandon(opened, "session.expired")
                    opened.task.finish()
                except Exception as error:  # noqa: BLE001  its secrets go with the object; the request goes on
                    self._incident(error)
                finally:
                    opened.lock.release()

    # Answers

    def _result(
        self,
        asked: _Asked,
        kind: str,
        body: Mapping[str, Any],
        attachments: tuple[bytes, ...],
        entry: LedgerEntry | None,
    ) -> Result:
        return Result(
            request_sha256=asked.digest,
            kind=kind,
            sender=self.settings.id,
            body=dict(body),
            attachments_sha256=wire.digests(attachments),
            ledger_seq=entry.seq if entry else 0,
            ledger_sha256=entry.sha256 if entry else ZERO_SHA256,
            answered_at=self.now(),
        )

    def _answer(self, asked: _Asked, kind: str, outcome: Outcome, *, keep: bool) -> tuple[bytes, str]:
        digests = wire.digests(outcome.attachments)
        payload_sha256 = ""

        def build(entry: LedgerEntry) -> bytes:
            nonlocal payload_sha256
            result = self._result(asked, kind, outcome.body, outcome.attachments, entry)
            payload_sha256 = sha256_hex(result.to_payload())
            return messages.encode(result, self.keys.statement, outcome.attachments)

        reply = self.books.answer(
            "answered",
            actor=asked.sender,
            session=asked.session,
            request=asked.digest,
            facts={
                "kind": kind,
                "body_sha256": sha256_hex(canonical.dumps(outcome.body)),
                "attachments": len(digests),
                "attachments_sha256": sha256_hex("".join(digests).encode("ascii")),
            },
            build=build,
            keep=keep,
        )
        return reply, payload_sha256

    def _refuse(self, digest: str, asked: _Asked | None, code: RefusalCode, message: str) -> bytes:
        entry: LedgerEntry | None = None
        try:
            entry = self.books.record(
                "refused",
                actor=asked.sender if asked else "",
                session=asked.session if asked else "",
                request=digest,
                facts={"code": code.value},
            )
        except StorageError:
            code, message = RefusalCode.STORAGE, "the node could not write its books; repeat later"
        refusal = Refusal(
            request_sha256=digest,
            code=code,
            message=message[:2000],
            sender=self.settings.id,
            ledger_seq=entry.seq if entry else 0,
            ledger_sha256=entry.sha256 if entry else ZERO_SHA256,
            refused_at=self.now(),
        )
        _log.info("refused %s: %s", digest[:12], code.value)
        return messages.encode(refusal, self.keys.statement)

    def _incident(self, error: BaseException) -> str:
        reference = secrets.token_hex(4)
        frames = traceback.extract_tb(error.__traceback__)[-6:]
        places = " < ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in reversed(frames))
        # Only kind and place: the error's own text may quote a row.
        _log.error("incident %s: %s at %s", reference, type(error).__name__, places)
        return f"the node could not do this; its officer finds the reason in the log under reference {reference}"

    def _note_skew(self, sender: str, issued_at: datetime) -> None:
        skew_s = round((issued_at - self.now()).total_seconds())
        with self._skew_lock:
            if abs(self._skew.get(sender, 0) - skew_s) < 5:
                return
            self._skew[sender] = skew_s
        self.books.note(f"skew.{sender}", str(skew_s))


def _unpacked(parcel: bytes) -> tuple[Envelope, tuple[bytes, ...]]:
    try:
        return wire.unpack(parcel)
    except TooLargeError as error:
        raise RefusedError(RefusalCode.TOO_LARGE, str(error)) from error
    except ContractError as error:
        raise RefusedError(RefusalCode.MALFORMED, str(error)) from error


def _parameters_of(order: Order, spec: TaskSpec) -> BaseModel:
    try:
        return spec.parameters.model_validate_json(canonical.dumps(order.parameters))
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, item["loc"])) or "parameters" for item in error.errors()})[:5])
        raise RefusedError(
            RefusalCode.TASK_PARAMETERS, f"expected parameters of {order.task}; wrong, missing or unknown: {where}"
        ) from None


def _verified(envelope: Envelope, attachments: tuple[bytes, ...], key: VerifyKey) -> Order | Step | Query | PartyFrame:
    try:
        envelope.open(key, envelope.payload_type)
        model = _MODELS.get(envelope.payload_type)
        if model is None:
            if _ANY_VERSION.fullmatch(envelope.payload_type):
                raise RefusedError(RefusalCode.VERSION, "expected version 1 of the message; the versions must be equal")
            raise RefusedError(RefusalCode.KIND_UNKNOWN, "expected an order, a step, a query or a frame")
        return messages.decode(model, envelope, attachments, key)
    except BadSignatureError as error:
        raise RefusedError(RefusalCode.SIGNATURE, str(error)) from error
    except UnsupportedVersionError as error:
        raise RefusedError(RefusalCode.VERSION, str(error)) from error
    except MalformedError as error:
        raise RefusedError(RefusalCode.MALFORMED, str(error)) from error
    except TooLargeError as error:
        raise RefusedError(RefusalCode.TOO_LARGE, str(error)) from error
