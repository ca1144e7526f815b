"""Task ``sums.ckks``: contribute an encrypted vector, and co-sign the sum it goes into.

    sums.encrypt   the agency's certificate and key in, signed digests of this node's ciphertexts out
    sums.reveal    every contributor's signed digests in, this node's ciphertexts out
    sums.attest    every contributor's ciphertexts in, this node's attestation of their sum out
    sums.release   the agency's signed tables in, recorded as this session's output

The operator adds, the agency's key service decrypts. So that an operator cannot pass one
department's ciphertext as the sum, each contributor adds all ciphertexts itself and signs
the digest of the sum, once per session; the agency opens only what all of them signed.

Ciphertexts can be computed with: a contributor that knew the others' before it gave its own
could give the negative of all but one, and the honestly co-signed sum would be that one's
figures. Therefore nobody shows a ciphertext before all have committed to theirs, and the key
is of this session alone, so that none of an earlier session serves either.

Source:
    Separation of duties between operator (运营机构) and implementing agency (实施机构);
    CKKS: see ``nodes.contract.ckks``; independence of inputs by committing first:
    Lindell, "How To Simulate It", 2017, section 2 and Blum, "Coin flipping by telephone", 1981.

Privacy:
    The operator learns the agency's protected tables and nothing of a single node. The
    agency learns the exact sums over at least three nodes before it protects them. Nodes
    see one another's ciphertexts, which they cannot open. With k of n contributors colluding
    with the operator, the sum tells them that of the n - k others. The agency together with
    the operator, or with any one node, could open single contributions as long as it has not
    destroyed the session's key: the two must be and are separate bodies, and products state this.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from nodes.contract import canonical, messages
from nodes.contract.canonical import JsonValue
from nodes.contract.ckks import Scheme
from nodes.contract.errors import ContractError, MalformedError
from nodes.contract.messages import RefusalCode, Result
from nodes.contract.signing import Envelope, sha256_hex
from nodes.contract.tasks.index import IndexParameters
from nodes.contract.tasks.sums import (
    ATTEST,
    CONTRIBUTORS_MIN,
    ENCRYPT,
    RELEASE,
    REVEAL,
    HePublicKey,
    SumAttestation,
    SumsParameters,
    ciphertexts,
    layout,
    to_limbs,
)
from nodes.contract.trust import Actor
from nodes.contract.wire import digests
from nodes.errors import MissingPartError
from nodes.privacy import noise
from nodes.privacy.ckks import encrypt
from nodes.privacy.counting import vector
from nodes.tasks.spec import Outcome, TaskContext, TaskRefusedError, TaskSession

if TYPE_CHECKING:
    import pandas as pd


class SumsSession:
    """One open session of encrypted sums at one node; each step is done once."""

    def __init__(self, context: TaskContext, parameters: SumsParameters | IndexParameters, values: list[int]) -> None:
        self._context = context
        self._parameters = parameters
        self._values: list[int] | None = values
        self._scheme = Scheme(parameters.parameter_set)
        self._count = ciphertexts(len(values))
        self._key_sha256 = ""
        self._sealed: tuple[bytes, ...] = ()
        self._own: tuple[str, ...] = ()
        self._committed: dict[str, tuple[str, ...]] = {}
        self._attestation: SumAttestation | None = None
        self._outputs: list[dict[str, str]] = []

    def step(self, sender: str, kind: str, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        """Do one of the four steps; see the module text.

        Raises:
            TaskRefusedError: another sender, a step out of turn, or content that does not hold.
        """
        if sender != self._context.order.operator:
            raise TaskRefusedError(RefusalCode.SENDER_ROLE, "expected a step of the operator")
        steps = {ENCRYPT: self._encrypt, REVEAL: self._reveal, ATTEST: self._attest, RELEASE: self._release}
        if kind not in steps:
            raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected one of {', '.join(steps)}")
        try:
            return steps[kind](body, attachments)
        except ContractError as error:
            raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"{kind}: {error}") from None

    def finish(self) -> dict[str, Any]:
        """Forget vector and ciphertexts and return what was co-signed."""
        self._values, self._sealed = None, ()
        attestation = self._attestation
        return {
            "contributors": len(attestation.contributors) if attestation else 0,
            "outputs": self._outputs,
            "parameter_set": self._parameters.parameter_set,
            "parameters_sha256": self._parameters.sha256,
            "sum_sha256": list(attestation.sum_sha256) if attestation else [],
        }

    def _encrypt(self, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        """Encrypt under the agency's key, once: two encryptions of one vector would serve no honest end."""
        if body or len(attachments) != 2:
            raise MalformedError("expected the agency's certificate and key")
        if self._values is None or self._own:
            raise MalformedError("expected one encryption in a session")
        self._key_sha256 = self._certified_key(*attachments)
        self._sealed = encrypt(self._scheme, attachments[1], to_limbs(self._values))
        self._own, self._values = digests(self._sealed), None
        return Outcome(self._facts(self._context.node, self._own))

    def _reveal(self, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        """Show this node's ciphertexts, once, after all contributors have committed to theirs."""
        if not self._own or self._committed:
            raise MalformedError("expected everybody's digests after the encryption, once in a session")
        contributors = self._contributors(body)
        if len(attachments) != len(contributors):
            raise MalformedError(f"expected the signed digests of {len(contributors)} contributors")
        committed = {
            node: self._commitment(node, envelope) for node, envelope in zip(contributors, attachments, strict=True)
        }
        if committed[self._context.node] != self._own:
            raise MalformedError("expected this node's own digests as it signed them")
        if len({digest for listed in committed.values() for digest in listed}) != self._count * len(contributors):
            raise MalformedError("expected no two ciphertexts to be the same")
        self._committed, sealed, self._sealed = committed, self._sealed, ()
        return Outcome({"contributors": len(contributors)}, sealed)

    def _attest(self, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        context, contributors = self._context, tuple(self._committed)
        if not contributors or self._attestation is not None:
            raise MalformedError("expected an attestation after everybody's digests, once in a session")
        if body or digests(attachments) != tuple(digest for node in contributors for digest in self._committed[node]):
            raise MalformedError("expected the ciphertexts to which the contributors have committed")
        columns = [attachments[place :: self._count] for place in range(self._count)]
        order = context.order
        uses: list[JsonValue] = [use.model_dump(mode="json") for use in order.resources]
        self._attestation = SumAttestation(
            node=context.node,
            session_id=order.session_id,
            grant_id=order.grant_id,
            grant_sha256=order.grant_sha256,
            order_sha256=sha256_hex(order.to_payload()),
            parameters_sha256=self._parameters.sha256,
            resources_sha256=sha256_hex(canonical.dumps({"resources": uses})),
            key_sha256=self._key_sha256,
            contributors=contributors,
            sum_sha256=tuple(sha256_hex(self._scheme.add(column)) for column in columns),
            attested_at=context.now(),
        )
        signed = context.secrets.sign(SumAttestation.payload_type, self._attestation.to_payload())
        return Outcome({"contributors": len(contributors)}, (signed.to_bytes(),))

    def _release(self, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        """Record the tables that the agency signed for the attested sum as this session's output."""
        attestation = self._attestation
        if attestation is None or self._outputs:
            raise MalformedError("expected the release after the attestation, once in a session")
        name = body.get("name")
        if set(body) != {"name"} or not isinstance(name, str) or not 1 <= len(name) <= 200 or len(attachments) != 2:
            raise MalformedError("expected a name, the agency's signed result and the tables")
        result = self._signed_result(self._agency(), attachments[0])
        if result.attachments_sha256 != digests(attachments[1:]):
            raise MalformedError("expected the tables of the agency's result")
        stated = (result.body.get("session_id"), result.body.get("sum_sha256"))
        if stated != (attestation.session_id, list(attestation.sum_sha256)):
            raise MalformedError("expected a result about the sum that was attested")
        self._outputs = [{"name": name, "sha256": result.attachments_sha256[0]}]
        return Outcome({"sha256": result.attachments_sha256[0]})

    def _certified_key(self, certificate: bytes, key_bytes: bytes) -> str:
        """Check that the agency certified these key bytes for now, and return their digest."""
        context = self._context
        envelope = Envelope.from_bytes(certificate)
        agency = self._agency()
        stated = messages.parse(HePublicKey, envelope.open(agency.verify_key, HePublicKey.payload_type))
        if stated.agency != agency.id or stated.parameter_set != self._parameters.parameter_set:
            raise MalformedError(f"expected a key of {agency.id} for {self._parameters.parameter_set}")
        if stated.session_id != context.order.session_id:
            raise MalformedError("expected a key that the agency made for this very session")
        if not stated.not_before <= context.now() < stated.not_after:
            raise MalformedError("expected a key certificate that is valid now; ask the agency for a newer one")
        if sha256_hex(key_bytes) != stated.key_sha256:
            raise MalformedError("expected the key whose digest the agency has signed")
        return stated.key_sha256

    def _contributors(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        names = body.get("contributors")
        if set(body) != {"contributors"} or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise MalformedError("expected the list of contributors")
        if names != sorted(set(names)) or not set(names) <= set(self._context.order.parties):
            raise MalformedError("expected parties of the order, sorted, each once")
        fewest = max(CONTRIBUTORS_MIN, self._context.grant.thresholds.contributors_min)
        if len(names) < fewest:
            raise TaskRefusedError(RefusalCode.GRANT_THRESHOLD, f"expected at least {fewest} contributors")
        if self._context.node not in names:
            raise MalformedError("expected this node among the contributors of a sum it joins")
        return tuple(names)

    def _facts(self, node: str, ciphertexts_sha256: Sequence[str]) -> dict[str, Any]:
        """Return what a node states when it commits to its ciphertexts."""
        return {
            "ciphertexts_sha256": list(ciphertexts_sha256),
            "key_sha256": self._key_sha256,
            "node": node,
            "parameters_sha256": self._parameters.sha256,
            "session_id": self._context.order.session_id,
        }

    def _commitment(self, node: str, envelope: bytes) -> tuple[str, ...]:
        """Return the digests of the ciphertexts to which a node's signed result commits it."""
        actor = self._context.actors.get(node)
        if actor is None or "node" not in actor.roles or not actor.is_valid_at(self._context.now()):
            raise MalformedError(f"expected {node} as a node in the trust data")
        result = self._signed_result(actor, envelope)
        listed = result.body.get("ciphertexts_sha256")
        if not isinstance(listed, list) or len(listed) != self._count or not all(isinstance(d, str) for d in listed):
            raise MalformedError(f"expected digests of {self._count} ciphertexts of {node}")
        if result.kind != ENCRYPT or result.body != self._facts(node, listed) or result.attachments_sha256:
            raise MalformedError(f"expected the digests that {node} signed for this session")
        return tuple(listed)

    def _signed_result(self, actor: Actor, data: bytes) -> Result:
        result = messages.parse(Result, Envelope.from_bytes(data).open(actor.verify_key, Result.payload_type))
        if result.sender != actor.id:
            raise MalformedError(f"expected a result of {actor.id}")
        return result

    def _agency(self) -> Actor:
        now = self._context.now()
        found = [actor for actor in self._context.actors.values() if "agency" in actor.roles and actor.is_valid_at(now)]
        if len(found) != 1:
            raise MalformedError("expected one agency in the trust data")
        return found[0]


def check_parties(context: TaskContext) -> None:
    """Check that the order names enough parties for a sum that is opened.

    Raises:
        TaskRefusedError: too few.
    """
    fewest = max(CONTRIBUTORS_MIN, context.grant.thresholds.contributors_min)
    if len(set(context.order.parties)) < fewest:
        raise TaskRefusedError(RefusalCode.GRANT_THRESHOLD, f"expected at least {fewest} parties in the order")


def granted_frame(context: TaskContext, columns: Sequence[str]) -> "pd.DataFrame":
    """Return the granted rows of the one table of a session.

    Raises:
        TaskRefusedError: not one table with these columns, or too few rows.
    """
    if len(context.tables) != 1:
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, f"expected one resource, got {len(context.tables)}")
    table = next(iter(context.tables.values()))
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise TaskRefusedError(RefusalCode.GRANT_COLUMN, f"expected the order to name the columns {', '.join(missing)}")
    frame = table.frame()
    if len(frame) < max(1, context.grant.thresholds.rows_min):
        raise TaskRefusedError(
            RefusalCode.RESOURCE_ROWS, f"expected at least {context.grant.thresholds.rows_min} granted rows"
        )
    return frame


def start(context: TaskContext) -> tuple[TaskSession, Outcome]:
    """Compute this node's vector and open the session.

    Raises:
        TaskRefusedError: not one table with the columns of the parameters, too few rows or parties, or a column
            that holds no numbers.
    """
    parameters = cast(SumsParameters, context.parameters)
    if len(set(context.order.parties)) > parameters.departments:
        raise TaskRefusedError(
            RefusalCode.TASK_PARAMETERS, f"expected at most {parameters.departments} parties, as the parameters say"
        )
    check_parties(context)
    frame = granted_frame(context, parameters.columns)
    try:
        values = vector(frame, parameters)
        if parameters.privacy is not None:
            noise.require()
            context.lose(parameters.privacy.epsilon_micro)
            values = noise.noised(values, parameters)
        to_limbs(values)
    except (ValueError, MalformedError, MissingPartError) as error:
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, str(error)) from None
    return SumsSession(context, parameters, values), Outcome(
        {"ciphertexts": ciphertexts(len(layout(parameters))), "parameters_sha256": parameters.sha256}
    )
