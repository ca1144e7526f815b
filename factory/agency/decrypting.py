"""The agency's key service: it opens sums that enough departments vouch for, and nothing else.

A sum is opened once, if its grant carries the signatures of two registrars and of every
contributing department and is in force, and if at least three contributors of three
organisations have signed that exactly this ciphertext is the sum of their contributions
under exactly these parameters. One grant opens one table definition over one set of
contributors and rows: a second definition or a smaller set would reveal differences.
What is opened is protected (``factory.federation.disclosure``) before it leaves.

Every session has a key pair of its own, made when the operator asks for it and destroyed when
its sum has been opened, refused, or not asked for in time: ciphertexts of one session are
noise in another, and what was not opened cannot be opened later.

Noise far above that of decryption is added before rounding to whole numbers, so that
results are a function of the plaintexts alone and carry nothing of the key.

Privacy:
    The agency sees exact sums over at least three departments; the operator sees protected
    tables. The agency could open a single department's ciphertext if the operator or a node
    handed it over outside this service while the session's key exists: that collusion is
    excluded by organisation, not by mathematics, and every product made this way says so.
    Whether a plaintext is whole and in range becomes known by the refusal: one bit about what
    the contributors have signed, once per session and counted against the grant's uses. No
    figure is logged; the record of openings holds digests and the protected reply.

Source:
    Li and Micciancio, "On the Security of Homomorphic Encryption on Approximate Numbers",
    EUROCRYPT 2021; Li, Micciancio, Schultz, Sorrell, "Securing Approximate Homomorphic
    Encryption Using Differential Privacy", CRYPTO 2022 (noise flooding).
"""

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from factory.agency import index, register
from factory.agency.service import ServiceRefusedError
from factory.agency.tables import protected_tables
from factory.agency.tops import NotASetError
from factory.errors import FactoryError
from nodes.contract import canonical
from nodes.contract.canonical import JsonObject, JsonValue
from nodes.contract.ckks import Scheme, dump
from nodes.contract.errors import BadCiphertextError, ContractError, MalformedError, UnknownActorError
from nodes.contract.grant import Grant
from nodes.contract.messages import Name, Query, RefusalCode, parse
from nodes.contract.parameters import CKKS_SUMS, CLOCK_SKEW_S_MAX
from nodes.contract.signing import Envelope, SigningKey, sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, parse_grant
from nodes.contract.tasks.index import IndexParameters
from nodes.contract.tasks.sums import (
    CONTRIBUTORS_MIN,
    SLOTS,
    VALUE_MAX,
    HePublicKey,
    SumAttestation,
    SumsParameters,
    ciphertexts,
    from_limbs,
)
from nodes.contract.trust import Actor, Actors, Role, Status

PUBLIC_KEY = "he.public_key"
DECRYPT = "he.decrypt"
REGISTRARS_MIN = 2
CERTIFICATE_DAYS = 2
SECRET_DAYS = CERTIFICATE_DAYS + 1
"""Longest life of a session's secret key: its certificate's, and that of an attestation on top."""
ATTESTATION_AGE_S_MAX = 24 * 3600
FRACTION_MAX = 0.25
"""Farthest that a noisy value may lie from a whole number; honest ones stay within 16 standard deviations of it, but
with probability below 2**-180 per number."""

_SIGNED = frozenset({"sum", "moment"})
"""Parts that may be below zero."""

_SESSION: TypeAdapter[str] = TypeAdapter(Name)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS openings (
    session_id TEXT PRIMARY KEY, query_sha256 TEXT NOT NULL, grant_sha256 TEXT NOT NULL, terms_sha256 TEXT NOT NULL,
    opened_at TEXT NOT NULL, body BLOB, tables BLOB
) STRICT;
CREATE TABLE IF NOT EXISTS keys (
    session_id TEXT PRIMARY KEY, key_sha256 TEXT NOT NULL, made_at TEXT NOT NULL, destroyed INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS releases (session_id TEXT PRIMARY KEY, grant_id TEXT NOT NULL, numbers BLOB NOT NULL) STRICT;
"""


class DecryptionKeyError(FactoryError):
    """A session's key is missing on disk, readable by others, or not one of the named set."""

    code: ClassVar[str] = "agency.decryption_key"


class DecryptionRefusedError(ServiceRefusedError):
    """The key service will not open this sum; ``refusal_code`` is the reason for the signed refusal."""

    code: ClassVar[str] = "agency.decryption_refused"


@dataclass(frozen=True, slots=True)
class _Request:
    """A request to open a sum, read but not yet believed."""

    grant_sha256: str
    grants: tuple[Envelope, ...]
    session_id: str
    parameters: SumsParameters | IndexParameters
    contributors: tuple[str, ...]
    attestations: tuple[Envelope, ...]
    sums: tuple[bytes, ...]


@dataclass(slots=True, repr=False)
class DecryptionService:
    """Answers the two queries of the key service; see the module text.

    Attributes:
        home: the agency's home; sessions' keys lie in ``keys/``, openings and what became of keys in ``openings.db``.
        agency: actor id of the service.
        key: its signing key.
        actors: agency-signed list of actors, as of now.
        status: what is suspended or revoked, as of now.
        now: clock.
    """

    home: Path
    agency: str
    key: SigningKey
    actors: Callable[[], Actors]
    status: Callable[[], Status]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __repr__(self) -> str:
        return f"DecryptionService({self.agency})"

    def handle_public_key(
        self, query: Query, attachments: Sequence[bytes] = ()
    ) -> tuple[JsonObject, tuple[bytes, ...]]:
        """Answer ``he.public_key``: the session's signed certificate and key as attachments; the key is made if new.

        Args:
            query: verified query of an operator; its body holds ``session_id``.
            attachments: none.

        Raises:
            DecryptionRefusedError: another body, or a session whose key was destroyed.
            DecryptionKeyError: the key was made, but is not there.
        """
        try:
            session_id = _SESSION.validate_python(query.body.get("session_id"), strict=True)
        except ValidationError:
            session_id = ""
        if not session_id or set(query.body) != {"session_id"} or attachments:
            raise DecryptionRefusedError(RefusalCode.MALFORMED, "expected a query with the session the key is for")
        moment = self.now()
        self.destroy_old()
        public, made_at = self._public_key(session_id, moment)
        certificate = HePublicKey(
            agency=self.agency,
            session_id=session_id,
            parameter_set="ckks-8192-sums-v1",
            key_sha256=sha256_hex(public),
            not_before=made_at - timedelta(seconds=CLOCK_SKEW_S_MAX),
            not_after=made_at + timedelta(days=CERTIFICATE_DAYS),
        )
        envelope = sign(self.key, HePublicKey.payload_type, certificate.to_payload())
        body: JsonObject = {
            "parameter_set": CKKS_SUMS.name,
            "key_sha256": sha256_hex(public),
            "session_id": session_id,
        }
        return body, (envelope.to_bytes(), public)

    def handle_decrypt(self, query: Query, attachments: Sequence[bytes]) -> tuple[JsonObject, tuple[bytes, ...]]:
        """Answer ``he.decrypt``: check everything, open the sum once, return protected tables.

        Args:
            query: verified query of an operator; its body holds ``session_id``, ``parameters``, ``contributors``
                and ``grants``, the number of grant envelopes.
            attachments: grant envelopes, one attestation per contributor, the sum's ciphertexts.

        Returns:
            Facts (session, digests, thresholds, number of suppressed cells), and the tables as canonical JSON. The
            same query again gets the same answer.

        Raises:
            DecryptionRefusedError: with the reason; the sum stays closed.
            DecryptionKeyError: the session's key was made, but is not there.
        """
        try:
            request, actors = _read(query, attachments), self.actors()
            grant = self._checked_grant(request, query.sender, actors)
            terms = self._checked_attestations(request, grant, actors)
        except ContractError as error:
            raise DecryptionRefusedError(
                RefusalCode.MALFORMED, f"the request to decrypt does not hold: {error}"
            ) from None
        self.destroy_old()
        query_sha256 = sha256_hex(query.to_payload())
        stored = self._claim(request, query_sha256, terms, grant.uses_max)
        if stored is not None:
            return stored
        try:
            body, tables = self._protect(request, grant, self._open(request))
        except NotASetError as error:
            self._destroy(request.session_id)
            raise DecryptionRefusedError(RefusalCode.TASK_PROTOCOL, str(error)) from None
        except DecryptionRefusedError:
            self._destroy(request.session_id)
            raise
        self._destroy(request.session_id)
        return body, (tables,)

    def _protect(self, request: _Request, grant: Grant, values: Sequence[int]) -> tuple[JsonObject, bytes]:
        """Protect opened sums against what was released before, and enter them into the register in one step."""
        parameters = request.parameters
        parties = [party for node in request.contributors if (party := grant.party(node)) is not None]
        with self._books() as books:
            books.execute("BEGIN IMMEDIATE")
            earlier = [
                register.Release.from_json(grant_id, canonical.loads(numbers, size_max=len(numbers)))
                for grant_id, numbers in books.execute("SELECT grant_id, numbers FROM releases ORDER BY rowid")
            ]
            if isinstance(parameters, IndexParameters):
                rows = {
                    name: conditions
                    for party in parties
                    for name, conditions in register.rows_of([party], parameters.columns_of(party.node)).items()
                }
                same = [item.index_sha256 for item in earlier if item.index_sha256 and rows.keys() & item.rows.keys()]
                if index.releases_left(parameters, same) < 1:
                    raise DecryptionRefusedError(
                        RefusalCode.GRANT_EXHAUSTED,
                        "expected an index over these domains with the parameters of an earlier one: one more with"
                        " others would be enough equations for a domain's scores",
                    )
                document = index.composite(parameters, values, request.contributors)
                released = register.Release(grant.grant_id, rows, (), parameters.sha256)
                body = _answer(request, document, grant)
            else:
                rows = register.rows_of(parties, parameters.columns)
                protected = protected_tables(parameters, values, grant.thresholds, rows=rows, earlier=earlier)
                document = protected.document
                released = register.Release(grant.grant_id, rows, protected.numbers)
                body = _answer(request, document | {"suppressed": protected.suppressed}, grant)
            tables = canonical.dumps(document)
            books.execute(
                "UPDATE openings SET body = ?, tables = ? WHERE session_id = ?",
                (canonical.dumps(body), tables, request.session_id),
            )
            books.execute(
                "INSERT INTO releases VALUES (?, ?, ?)",
                (request.session_id, grant.grant_id, canonical.dumps(released.as_json())),
            )
        return body, tables

    def _checked_grant(self, request: _Request, sender: str, actors: Actors) -> Grant:
        """Verify every signature on the grant, and that it is in force for this operator and these contributors."""
        moment = self.now()
        payloads = {envelope.payload for envelope in request.grants}
        if len(payloads) != 1:
            raise DecryptionRefusedError(RefusalCode.GRANT_INVALID, "expected envelopes over one grant")
        grant = parse_grant(payloads.pop())
        registrars = {
            name for name in grant.registrars if self._has_signed(request, (name, "registrar"), grant, actors)
        }
        if len(registrars) < REGISTRARS_MIN:
            raise DecryptionRefusedError(
                RefusalCode.GRANT_INVALID, f"expected signatures of {REGISTRARS_MIN} registrars, got {len(registrars)}"
            )
        for node in request.contributors:
            if grant.party(node) is None:
                raise DecryptionRefusedError(
                    RefusalCode.GRANT_PARTIES, f"expected contributors of the grant, not {node}"
                )
            if not self._has_signed(request, (node, "node"), grant, actors):
                raise DecryptionRefusedError(RefusalCode.GRANT_NOT_APPROVED, f"expected the signature of {node}")
        self._check_window(grant, sender)
        if request.parameters.task not in grant.tasks:
            raise DecryptionRefusedError(RefusalCode.GRANT_TASK, f"expected a grant for {request.parameters.task}")
        self._check_status(grant, request.grant_sha256, request.contributors)
        self._check_columns(grant, request)
        fewest = max(CONTRIBUTORS_MIN, grant.thresholds.contributors_min)
        try:
            bodies = {actors.find(node, role="node", moment=moment).organisation for node in request.contributors}
        except UnknownActorError as error:
            raise DecryptionRefusedError(RefusalCode.ACTOR_UNKNOWN, str(error)) from None
        if len(request.contributors) < fewest or len(bodies) < fewest:
            raise DecryptionRefusedError(
                RefusalCode.GRANT_THRESHOLD,
                f"expected contributors of at least {fewest} organisations, got {len(bodies)}",
            )
        return grant

    def _check_window(self, grant: Grant, sender: str) -> None:
        moment = self.now()
        if sender != grant.operator:
            raise DecryptionRefusedError(RefusalCode.SENDER_ROLE, f"expected the grant's operator, {grant.operator}")
        if moment < grant.not_before:
            raise DecryptionRefusedError(RefusalCode.GRANT_NOT_YET, "expected a grant whose window has begun")
        if moment >= grant.not_after:
            raise DecryptionRefusedError(RefusalCode.GRANT_EXPIRED, "expected a grant whose window has not ended")

    def _has_signed(self, request: _Request, actor: tuple[str, Role], grant: Grant, actors: Actors) -> bool:
        """Whether one envelope verifies with a key that this actor held when the grant was issued, or holds now."""
        moments = (grant.issued_at, self.now())
        status = self.status()
        keys = {
            entry.verify_key.keyid: entry.verify_key
            for entry in actors.actors
            if entry.id == actor[0]
            and actor[1] in entry.roles
            and any(entry.is_valid_at(m) for m in moments)
            and not (actor[1] == "registrar" and _is_struck(status, entry))
        }
        for envelope in request.grants:
            if envelope.keyid in keys:
                try:
                    envelope.open(keys[envelope.keyid], PAYLOAD_TYPE)
                except ContractError as error:
                    raise DecryptionRefusedError(RefusalCode.GRANT_INVALID, str(error)) from None
                return True
        return False

    def _check_status(self, grant: Grant, grant_sha256: str, contributors: Sequence[str]) -> None:
        status = self.status()
        subjects = [("grant", grant.grant_id), ("actor", grant.operator), *(("actor", node) for node in contributors)]
        subjects.append(("grant", grant_sha256))
        for node in contributors:
            party = grant.party(node)
            subjects += [("resource", use.resource) for use in (party.resources if party else ())]
        for kind, name in subjects:
            item = status.state_of(kind, name)
            if item is not None:
                code = RefusalCode.ACTOR_REVOKED if kind == "actor" else RefusalCode.GRANT_REVOKED
                raise DecryptionRefusedError(code, f"expected {kind} {name} in force, it is {item.state}")

    def _check_columns(self, grant: Grant, request: _Request) -> None:
        parameters = request.parameters
        if isinstance(parameters, IndexParameters) and {d.node for d in parameters.domains} != set(
            request.contributors
        ):
            raise DecryptionRefusedError(
                RefusalCode.GRANT_THRESHOLD, "expected every domain of the index in the sum: without one it is another"
            )
        for node in request.contributors:
            party = grant.party(node)
            granted = [set(use.columns) for use in (party.resources if party else ())]
            if not any(set(request.parameters.columns_of(node)) <= columns for columns in granted):
                raise DecryptionRefusedError(
                    RefusalCode.GRANT_COLUMN, f"expected the tables' columns within one granted resource of {node}"
                )

    def _checked_attestations(self, request: _Request, grant: Grant, actors: Actors) -> str:
        """Check every contributor's word, and return the digest of what this grant opens once and for all."""
        moment = self.now()
        expected = {
            "contributors": request.contributors,
            "grant_id": grant.grant_id,
            "grant_sha256": request.grant_sha256,
            "key_sha256": self._key_sha256(request.session_id),
            "parameters_sha256": request.parameters.sha256,
            "session_id": request.session_id,
            "sum_sha256": tuple(sha256_hex(part) for part in request.sums),
        }
        resources: dict[str, JsonValue] = {}
        status = self.status()
        for node, envelope in zip(request.contributors, request.attestations, strict=True):
            try:
                key = actors.find(node, role="node", moment=moment).verify_key
                if status.state_of("key", key.keyid) is not None:
                    raise DecryptionRefusedError(RefusalCode.ACTOR_REVOKED, f"expected a key of {node} in force")
                payload = envelope.open(key, SumAttestation.payload_type)
            except ContractError as error:
                raise DecryptionRefusedError(RefusalCode.SIGNATURE, f"attestation of {node}: {error}") from None
            stated = parse(SumAttestation, payload)
            wrong = [name for name, value in expected.items() if getattr(stated, name) != value]
            if stated.node != node or wrong:
                raise DecryptionRefusedError(
                    RefusalCode.TASK_PROTOCOL, f"expected {node} to attest this very sum; other: {', '.join(wrong)}"
                )
            age_s = (moment - stated.attested_at).total_seconds()
            if not -CLOCK_SKEW_S_MAX - 1 <= age_s <= ATTESTATION_AGE_S_MAX:
                raise DecryptionRefusedError(RefusalCode.EXPIRED, f"expected a fresh attestation of {node}")
            resources[node] = stated.resources_sha256
        return sha256_hex(canonical.dumps({"parameters": request.parameters.sha256, "resources": resources}))

    def _claim(
        self, request: _Request, query_sha256: str, terms_sha256: str, uses_max: int
    ) -> tuple[JsonObject, tuple[bytes, ...]] | None:
        """Record the opening before it happens; return the stored reply if this very query was answered already."""
        with self._books() as books:
            books.execute("BEGIN IMMEDIATE")
            rows = books.execute(
                "SELECT session_id, query_sha256, terms_sha256, body, tables FROM openings WHERE grant_sha256 = ?"
                " OR session_id = ?",
                (request.grant_sha256, request.session_id),
            ).fetchall()
            for session_id, stored_query, terms, body, tables in rows:
                if session_id == request.session_id:
                    if stored_query != query_sha256:
                        raise DecryptionRefusedError(RefusalCode.REPLAYED, "expected a sum that was not opened before")
                    return (canonical.loads(body), (tables,)) if body is not None else None
                if terms != terms_sha256:
                    raise DecryptionRefusedError(
                        RefusalCode.GRANT_EXHAUSTED,
                        "expected the tables, rows and contributors this grant opened first: a second choice would"
                        " reveal differences; ask for a grant of its own",
                    )
            if len(rows) >= uses_max:
                raise DecryptionRefusedError(RefusalCode.GRANT_EXHAUSTED, f"expected at most {uses_max} openings")
            books.execute(
                "INSERT INTO openings (session_id, query_sha256, grant_sha256, terms_sha256, opened_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (request.session_id, query_sha256, request.grant_sha256, terms_sha256, self.now().isoformat()),
            )
        return None

    def _open(self, request: _Request) -> list[int]:
        """Decrypt, flood, round, and check that the plaintexts are what honest nodes add up to.

        Raises:
            DecryptionRefusedError: values that are not whole, counts below zero, or figures out of range. The session
                stays spent: a second try would tell about the first.
        """
        import tenseal.sealapi as seal

        scheme = Scheme(CKKS_SUMS.name)
        decryptor = seal.Decryptor(scheme.context, self._secret_key(scheme, request.session_id))
        encoder, noise = seal.CKKSEncoder(scheme.context), secrets.SystemRandom()
        blocks = []
        for part in request.sums:
            plaintext = seal.Plaintext()
            try:
                decryptor.decrypt(scheme.ciphertext(part), plaintext)
            except BadCiphertextError as error:
                raise DecryptionRefusedError(RefusalCode.TASK_PROTOCOL, str(error)) from None
            flooded = [
                value + noise.gauss(0.0, 2.0**-CKKS_SUMS.flooding_bits)
                for value in encoder.decode_double(plaintext)[:SLOTS]
            ]
            whole = [round(value) for value in flooded]
            if any(abs(value - number) > FRACTION_MAX for value, number in zip(flooded, whole, strict=True)):
                raise DecryptionRefusedError(RefusalCode.TASK_PROTOCOL, "expected sums of whole numbers")
            blocks.append(whole)
        parts = request.parameters.vector_parts
        values = from_limbs(blocks, len(parts))
        highest = VALUE_MAX * len(request.contributors)
        is_noisy = isinstance(request.parameters, SumsParameters) and request.parameters.privacy is not None
        for name, value in zip(parts, values, strict=True):
            if abs(value) > highest or (name not in _SIGNED and value < 0 and not is_noisy):
                raise DecryptionRefusedError(
                    RefusalCode.TASK_PROTOCOL, "expected counts of 0 or more and sums in range"
                )
        return values

    def _secret_key(self, scheme: Scheme, session_id: str) -> Any:
        import tenseal.sealapi as seal

        path, _ = _paths(self.home, session_id)
        with self._books() as books:
            (destroyed,) = books.execute("SELECT destroyed FROM keys WHERE session_id = ?", (session_id,)).fetchone()
        if destroyed:
            raise DecryptionRefusedError(RefusalCode.SESSION_CLOSED, "expected a session whose key still exists")
        if not path.exists():
            raise DecryptionKeyError(f"expected the session's key in {path}; it is lost: start a new session")
        if path.stat().st_mode & 0o077:
            raise DecryptionKeyError(f"expected mode 0600 of {path}; run: chmod 600 {path}")
        try:
            return scheme.load(seal.SecretKey(), path.read_bytes(), CKKS_SUMS.key_bytes_max)
        except BadCiphertextError as error:
            raise DecryptionKeyError(f"expected a secret key of {CKKS_SUMS.name} in {path}") from error

    def _key_sha256(self, session_id: str) -> str:
        with self._books() as books:
            row = books.execute("SELECT key_sha256 FROM keys WHERE session_id = ?", (session_id,)).fetchone()
        if row is None:
            raise DecryptionRefusedError(RefusalCode.SESSION_UNKNOWN, "expected a session that asked for a key first")
        return str(row[0])

    def _public_key(self, session_id: str, moment: datetime) -> tuple[bytes, datetime]:
        """Return the session's public key and when it was made; make the pair if there is none."""
        secret_path, public_path = _paths(self.home, session_id)
        with self._books() as books:
            books.execute("BEGIN IMMEDIATE")
            row = books.execute(
                "SELECT key_sha256, made_at, destroyed FROM keys WHERE session_id = ?", (session_id,)
            ).fetchone()
            if row is None:
                public = _make_pair(secret_path, public_path)
                books.execute(
                    "INSERT INTO keys (session_id, key_sha256, made_at) VALUES (?, ?, ?)",
                    (session_id, sha256_hex(public), moment.isoformat()),
                )
                return public, moment
        digest, made_at, destroyed = row
        if destroyed:
            raise DecryptionRefusedError(RefusalCode.SESSION_CLOSED, "expected a new session: its key is destroyed")
        if not public_path.exists() or sha256_hex(public := public_path.read_bytes()) != digest:
            raise DecryptionKeyError(f"expected the session's key in {public_path}; it is lost: start a new session")
        return public, datetime.fromisoformat(made_at)

    def _destroy(self, session_id: str) -> None:
        """Remove a session's key pair, secret first, and note that it is gone for good."""
        for path in _paths(self.home, session_id):
            path.unlink(missing_ok=True)
        with self._books() as books:
            books.execute("UPDATE keys SET destroyed = 1 WHERE session_id = ?", (session_id,))

    def destroy_old(self) -> None:
        """Destroy the keys whose time is over; called at the start of the service and with every request."""
        oldest = (self.now() - timedelta(days=SECRET_DAYS)).isoformat()
        with self._books() as books:
            rows = books.execute(
                "SELECT session_id FROM keys WHERE destroyed = 0 AND made_at < ?", (oldest,)
            ).fetchall()
        for (session_id,) in rows:
            self._destroy(session_id)

    @contextmanager
    def _books(self) -> Iterator[sqlite3.Connection]:
        """One connection per use; commits unless an exception passes."""
        books = sqlite3.connect(self.home / "openings.db", isolation_level=None, timeout=30)
        try:
            books.execute("PRAGMA journal_mode = WAL")
            books.execute("PRAGMA synchronous = FULL")
            books.executescript(_SCHEMA)
            yield books
            if books.in_transaction:
                books.execute("COMMIT")
        finally:
            books.close()  # rolls back what is not committed


def _read(query: Query, attachments: Sequence[bytes]) -> _Request:
    """Take a request apart.

    Raises:
        MalformedError: other fields, or another number of attachments than they demand.
    """
    body: Mapping[str, Any] = query.body
    if set(body) != {"session_id", "parameters", "contributors", "grants"}:
        raise MalformedError("expected session_id, parameters, contributors and grants")
    try:
        kind = IndexParameters if "domains" in body["parameters"] else SumsParameters
        parameters = kind.model_validate(body["parameters"])
    except (TypeError, ValidationError):
        raise MalformedError("expected parameters of encrypted sums or of an index") from None
    contributors, grants = body["contributors"], body["grants"]
    if not isinstance(body["session_id"], str) or type(grants) is not int or not 1 <= grants <= 400:
        raise MalformedError("expected a session and a number of grant envelopes")
    if not isinstance(contributors, list) or contributors != sorted({str(name) for name in contributors}):
        raise MalformedError("expected contributors sorted, each once")
    sums = ciphertexts(len(parameters.vector_parts))
    if len(attachments) != grants + len(contributors) + sums:
        raise MalformedError(f"expected {grants} grants, {len(contributors)} attestations and {sums} ciphertexts")
    envelopes = [Envelope.from_bytes(part) for part in attachments[: grants + len(contributors)]]
    return _Request(
        grant_sha256=envelopes[0].payload_sha256,
        grants=tuple(envelopes[:grants]),
        session_id=body["session_id"],
        parameters=parameters,
        contributors=tuple(contributors),
        attestations=tuple(envelopes[grants:]),
        sums=tuple(attachments[grants + len(contributors) :]),
    )


def _is_struck(status: Status, entry: Actor) -> bool:
    return any(
        status.state_of(kind, subject) for kind, subject in (("actor", entry.id), ("key", entry.verify_key.keyid))
    )


def _answer(request: _Request, document: JsonObject, grant: Grant) -> JsonObject:
    """Return the facts of an opening."""
    return {
        "cell_min": document.get("cell_min", grant.thresholds.cell_min),
        "contributors": list(request.contributors),
        "grant_sha256": request.grant_sha256,
        "parameters_sha256": request.parameters.sha256,
        "round_base": document.get("round_base", grant.thresholds.round_base),
        "session_id": request.session_id,
        "sum_sha256": [sha256_hex(part) for part in request.sums],
        "suppressed": document["suppressed"],
    }


def _paths(home: Path, session_id: str) -> tuple[Path, Path]:
    """Return where a session's secret and public key lie; the name of a session is no file name."""
    name = sha256_hex(session_id.encode())[:32]
    folder = home / "keys" / CKKS_SUMS.name
    return folder / f"{name}.secret", folder / f"{name}.public"


def _make_pair(secret_path: Path, public_path: Path) -> bytes:
    """Make a key pair, write both halves and return the public one."""
    import tenseal.sealapi as seal

    generator = seal.KeyGenerator(Scheme(CKKS_SUMS.name).context)
    public = seal.PublicKey()
    generator.create_public_key(public)
    secret_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(secret_path, dump(generator.secret_key()))
    public_bytes = dump(public)
    _write(public_path, public_bytes)
    return public_bytes


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(6)}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
