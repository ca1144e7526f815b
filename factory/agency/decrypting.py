"""The agency's key service: it opens sums that enough departments vouch for, and nothing else.

A sum is opened once, if its grant carries the signatures of two registrars and of every
contributing department and is in force, and if at least three contributors of three
organisations have signed that exactly this ciphertext is the sum of their contributions
under exactly these parameters. One grant opens one table definition over one set of
contributors and rows: a second definition or a smaller set would reveal differences.
What is opened is protected (``factory.federation.disclosure``) before it leaves.

Noise far above that of decryption is added before rounding to whole numbers, so that
results are a function of the plaintexts alone and carry nothing of the key.

Privacy:
    The agency sees exact sums over at least three departments; the operator sees protected
    tables. The agency could open a single department's ciphertext if the operator or a node
    handed it over outside this service: that collusion is excluded by organisation, not by
    mathematics, and every product made this way says so. No figure is logged; the record of
    openings holds digests and the protected reply.

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
from typing import Any, ClassVar, cast

from pydantic import ValidationError

from factory.agency.office import Office
from factory.agency.service import Mounted, ServiceRefusedError
from factory.agency.tables import protected_tables
from factory.errors import FactoryError
from nodes.contract import canonical
from nodes.contract.canonical import JsonObject, JsonValue
from nodes.contract.ckks import Scheme, dump
from nodes.contract.errors import BadCiphertextError, ContractError, MalformedError, UnknownActorError
from nodes.contract.grant import Grant
from nodes.contract.messages import Query, RefusalCode, parse
from nodes.contract.parameters import CKKS_SUMS, CLOCK_SKEW_S_MAX
from nodes.contract.signing import Envelope, SigningKey, sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, parse_grant
from nodes.contract.tasks.sums import (
    CONTRIBUTORS_MIN,
    SLOTS,
    TASK,
    VALUE_MAX,
    HePublicKey,
    SumAttestation,
    SumsParameters,
    ciphertexts,
    from_limbs,
    layout,
)
from nodes.contract.trust import Actors, Role, Status

PUBLIC_KEY = "he.public_key"
DECRYPT = "he.decrypt"
REGISTRARS_MIN = 2
CERTIFICATE_DAYS = 30
ATTESTATION_AGE_S_MAX = 24 * 3600
FRACTION_MAX = 0.25
"""Farthest that a noisy value may lie from a whole number; honest ones stay within 16 standard deviations of it."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS openings (
    session_id TEXT PRIMARY KEY, query_sha256 TEXT NOT NULL, grant_sha256 TEXT NOT NULL, terms_sha256 TEXT NOT NULL,
    opened_at TEXT NOT NULL, body BLOB, tables BLOB
) STRICT;
"""


class DecryptionKeyError(FactoryError):
    """The key service's key is missing, readable by others, or not one of the named set."""

    code: ClassVar[str] = "agency.decryption_key"


class DecryptionRefusedError(ServiceRefusedError):
    """The key service will not open this sum; ``refusal_code`` is the reason for the signed refusal."""

    code: ClassVar[str] = "agency.decryption_refused"


def create_key(home: Path) -> str:
    """Make the key pair of the sums' parameter set in the agency's home, if there is none; return its digest.

    Raises:
        DecryptionKeyError: one half exists without the other.
    """
    secret_path, public_path = _paths(home)
    if secret_path.exists() != public_path.exists():
        raise DecryptionKeyError(f"expected both halves of the key in {secret_path.parent}, or none")
    if not secret_path.exists():
        import tenseal.sealapi as seal

        scheme = Scheme(CKKS_SUMS.name)
        generator = seal.KeyGenerator(scheme.context)
        public = seal.PublicKey()
        generator.create_public_key(public)
        secret_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(secret_path, dump(generator.secret_key()))
        _write(public_path, dump(public))
    return sha256_hex(public_path.read_bytes())


@dataclass(frozen=True, slots=True)
class _Request:
    """A request to open a sum, read but not yet believed."""

    grant_sha256: str
    grants: tuple[Envelope, ...]
    session_id: str
    parameters: SumsParameters
    contributors: tuple[str, ...]
    attestations: tuple[Envelope, ...]
    sums: tuple[bytes, ...]


@dataclass(slots=True, repr=False)
class DecryptionService:
    """Answers the two queries of the key service; see the module text.

    Attributes:
        home: the agency's home; the key lies in ``keys/``, openings in ``openings.db``.
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
        """Answer ``he.public_key``: the signed certificate and the key's bytes as attachments.

        Raises:
            DecryptionRefusedError: the query has a body or attachments.
            DecryptionKeyError: there is no key.
        """
        if query.body or attachments:
            raise DecryptionRefusedError(RefusalCode.MALFORMED, "expected a query without a body")
        public = self._public_bytes()
        moment = self.now()
        certificate = HePublicKey(
            agency=self.agency,
            parameter_set="ckks-8192-sums-v1",
            key_sha256=sha256_hex(public),
            not_before=moment - timedelta(seconds=CLOCK_SKEW_S_MAX),
            not_after=moment + timedelta(days=CERTIFICATE_DAYS),
        )
        envelope = sign(self.key, HePublicKey.payload_type, certificate.to_payload())
        return {"parameter_set": CKKS_SUMS.name, "key_sha256": sha256_hex(public)}, (envelope.to_bytes(), public)

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
            DecryptionKeyError: there is no key.
        """
        try:
            request, actors = _read(query, attachments), self.actors()
            grant = self._checked_grant(request, query.sender, actors)
            terms = self._checked_attestations(request, grant, actors)
        except ContractError as error:
            raise DecryptionRefusedError(
                RefusalCode.MALFORMED, f"the request to decrypt does not hold: {error}"
            ) from None
        query_sha256 = sha256_hex(query.to_payload())
        stored = self._claim(request, query_sha256, terms, grant.uses_max)
        if stored is not None:
            return stored
        values = self._open(request)
        tables = canonical.dumps(protected_tables(request.parameters, values, grant.thresholds))
        body: JsonObject = {
            "cell_min": grant.thresholds.cell_min,
            "contributors": list(request.contributors),
            "grant_sha256": request.grant_sha256,
            "parameters_sha256": request.parameters.sha256,
            "round_base": grant.thresholds.round_base,
            "session_id": request.session_id,
            "sum_sha256": [sha256_hex(part) for part in request.sums],
            "suppressed": _suppressed(tables),
        }
        with self._books() as books:
            books.execute(
                "UPDATE openings SET body = ?, tables = ? WHERE session_id = ?",
                (canonical.dumps(body), tables, request.session_id),
            )
        return body, (tables,)

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
        self._check_status(grant, request.contributors)
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
        if TASK not in grant.tasks:
            raise DecryptionRefusedError(RefusalCode.GRANT_TASK, f"expected a grant for {TASK}")

    def _has_signed(self, request: _Request, actor: tuple[str, Role], grant: Grant, actors: Actors) -> bool:
        """Whether one envelope verifies with a key that this actor held when the grant was issued, or holds now."""
        moments = (grant.issued_at, self.now())
        keys = {
            entry.verify_key.keyid: entry.verify_key
            for entry in actors.actors
            if entry.id == actor[0] and actor[1] in entry.roles and any(entry.is_valid_at(m) for m in moments)
        }
        for envelope in request.grants:
            if envelope.keyid in keys:
                try:
                    envelope.open(keys[envelope.keyid], PAYLOAD_TYPE)
                except ContractError as error:
                    raise DecryptionRefusedError(RefusalCode.GRANT_INVALID, str(error)) from None
                return True
        return False

    def _check_status(self, grant: Grant, contributors: Sequence[str]) -> None:
        status = self.status()
        subjects = [("grant", grant.grant_id), ("actor", grant.operator), *(("actor", node) for node in contributors)]
        for node in contributors:
            party = grant.party(node)
            subjects += [("resource", use.resource) for use in (party.resources if party else ())]
        for kind, name in subjects:
            item = status.state_of(kind, name)
            if item is not None:
                code = RefusalCode.ACTOR_REVOKED if kind == "actor" else RefusalCode.GRANT_REVOKED
                raise DecryptionRefusedError(code, f"expected {kind} {name} in force, it is {item.state}")

    def _check_columns(self, grant: Grant, request: _Request) -> None:
        for node in request.contributors:
            party = grant.party(node)
            granted = [set(use.columns) for use in (party.resources if party else ())]
            if not any(set(request.parameters.columns) <= columns for columns in granted):
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
            "key_sha256": sha256_hex(self._public_bytes()),
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
        decryptor = seal.Decryptor(scheme.context, self._secret_key(scheme))
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
        components = layout(request.parameters)
        values = from_limbs(blocks, len(components))
        highest = VALUE_MAX * len(request.contributors)
        for component, value in zip(components, values, strict=True):
            if abs(value) > highest or (component.part != "sum" and value < 0):
                raise DecryptionRefusedError(
                    RefusalCode.TASK_PROTOCOL, "expected counts of 0 or more and sums in range"
                )
        return values

    def _secret_key(self, scheme: Scheme) -> Any:
        import tenseal.sealapi as seal

        path, _ = _paths(self.home)
        self._public_bytes()
        if path.stat().st_mode & 0o077:
            raise DecryptionKeyError(f"expected mode 0600 of {path}; run: chmod 600 {path}")
        try:
            return scheme.load(seal.SecretKey(), path.read_bytes(), CKKS_SUMS.key_bytes_max)
        except BadCiphertextError as error:
            raise DecryptionKeyError(f"expected a secret key of {CKKS_SUMS.name} in {path}") from error

    def _public_bytes(self) -> bytes:
        secret_path, public_path = _paths(self.home)
        if not secret_path.exists() or not public_path.exists():
            raise DecryptionKeyError(f"expected the key of {CKKS_SUMS.name} in {secret_path.parent}; create it first")
        return public_path.read_bytes()

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


def key_service(office: Office) -> dict[str, Mounted]:
    """Return the key service's kinds for the agency's service, making the key if the home has none."""
    create_key(office.home)
    service = DecryptionService(
        home=office.home,
        agency=office.identity.id,
        key=office.identity.key,
        actors=lambda: office.trust().actors,
        status=lambda: office.trust().status,
        now=office.now,
    )
    return {PUBLIC_KEY: Mounted(service.handle_public_key), DECRYPT: Mounted(service.handle_decrypt)}


def _read(query: Query, attachments: Sequence[bytes]) -> _Request:
    """Take a request apart.

    Raises:
        MalformedError: other fields, or another number of attachments than they demand.
    """
    body: Mapping[str, Any] = query.body
    if set(body) != {"session_id", "parameters", "contributors", "grants"}:
        raise MalformedError("expected session_id, parameters, contributors and grants")
    try:
        parameters = SumsParameters.model_validate(body["parameters"])
    except ValidationError:
        raise MalformedError(f"expected parameters of {TASK}") from None
    contributors, grants = body["contributors"], body["grants"]
    if not isinstance(body["session_id"], str) or type(grants) is not int or not 1 <= grants <= 400:
        raise MalformedError("expected a session and a number of grant envelopes")
    if not isinstance(contributors, list) or contributors != sorted({str(name) for name in contributors}):
        raise MalformedError("expected contributors sorted, each once")
    sums = ciphertexts(len(layout(parameters)))
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


def _suppressed(tables: bytes) -> int:
    listed = cast(list[dict[str, Any]], canonical.loads(tables, size_max=len(tables))["tables"])
    return sum(int(table["suppressed"]) for table in listed)


def _paths(home: Path) -> tuple[Path, Path]:
    folder = home / "keys"
    return folder / f"{CKKS_SUMS.name}.secret", folder / f"{CKKS_SUMS.name}.public"


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(6)}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
