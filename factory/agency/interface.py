"""The interface test at the agency: no node joins whose software reads a message differently (PLAT-UNIFIED).

The parcels are made anew for each node; the test lies in ``interface/`` of the agency's home until the answer
comes, and then the signed record that the node with this key passed.

Source:
    Requirement PLAT-UNIFIED (GD-08-5).
"""

import base64
import json
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from factory.agency.errors import AdmissionRefusedError
from factory.files import write_atomic
from factory.identity import Identity, new_signing_key
from nodes.contract import messages, wire
from nodes.contract.enrolment import Enrolment, open_enrolment
from nodes.contract.errors import ContractError
from nodes.contract.interface import InterfaceAnswer, InterfaceTest, verdicts
from nodes.contract.messages import Query, parse
from nodes.contract.signing import Envelope, SigningKey, sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, read, statement, time_text

INTERFACE = "urn:shufang:predicate:interface-test/v1"
FOLDER = "interface"


def make_test(agency: Identity, node: str, *, now: datetime) -> bytes:
    """Return a new test for a node; an earlier one does not count any more."""
    key = new_signing_key()
    made = list(_parcels(key, node, now))
    secrets.SystemRandom().shuffle(made)
    cases = {f"c-{secrets.token_hex(6)}": base64.b64encode(parcel).decode() for parcel in made}
    spki = base64.b64encode(key.public.spki).decode()
    test = InterfaceTest(node=node, signer_spki=spki, cases=cases, issued_at=now).to_payload()
    path = _place(agency, node).with_suffix(".test.json")
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomic(path, test)
    return test


def take_answer(agency: Identity, answer: bytes, enrolment: Enrolment, *, now: datetime) -> Path:
    """Compare a node's answer with what this software says, and record that it passed.

    Raises:
        AdmissionRefusedError: no test waits, it is of another test or key, or a parcel was read differently.
    """
    path = _place(agency, enrolment.id).with_suffix(".test.json")
    try:
        asked = path.read_bytes()
        envelope = Envelope.from_bytes(answer)
        said = parse(InterfaceAnswer, envelope.open(enrolment.verify_key, InterfaceAnswer.payload_type))
    except (OSError, ContractError) as error:
        raise AdmissionRefusedError(
            f"expected an answer of {enrolment.id}, signed with its key, to the test that waits for it"
        ) from error
    if said.node != enrolment.id or said.test_sha256 != sha256_hex(asked):
        raise AdmissionRefusedError(f"expected the answer of {enrolment.id} to its last test; make a new one")
    expected = verdicts(parse(InterfaceTest, asked))
    wrong = sum(said.verdicts.get(name) != verdict for name, verdict in expected.items())
    if wrong or set(said.verdicts) != set(expected):
        raise AdmissionRefusedError(
            f"{enrolment.id} reads {wrong} of {len(expected)} messages differently; it needs software of this interface"
        )
    path.unlink()
    return record_interface(agency, enrolment, answer=answer, now=now)


def record_interface(agency: Identity, enrolment: Enrolment, *, answer: bytes, now: datetime) -> Path:
    """Record that the node with this key passed the interface test."""
    said = {
        "node": enrolment.id, "keyid": enrolment.verify_key.keyid, "answer_sha256": sha256_hex(answer),
        "passed_at": time_text(now),
    }  # fmt: skip
    path = _place(agency, enrolment.id)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    subject = [(f"node/{enrolment.id}", enrolment.verify_key.keyid)]
    write_atomic(path, sign(agency.key, PAYLOAD_TYPE, statement(INTERFACE, subject, said)).to_bytes())
    return path


def require_interface(agency: Identity, enrolment: Enrolment) -> None:
    """Let a node join whose software passed.

    Raises:
        AdmissionRefusedError: there is no record of this node with this key.
    """
    try:
        envelope = Envelope.from_bytes(_place(agency, enrolment.id).read_bytes())
        _, said = read(envelope.open(agency.key.public, PAYLOAD_TYPE), INTERFACE)
        if (said["node"], said["keyid"]) == (enrolment.id, enrolment.verify_key.keyid):
            return
    except (OSError, ContractError, KeyError) as error:
        raise AdmissionRefusedError(_missing(enrolment.id)) from error
    raise AdmissionRefusedError(_missing(enrolment.id))


def nodes_of(enrolments: list[bytes]) -> dict[str, Enrolment]:
    """Return the enrolments by the id they claim, each signed with its own key."""
    return {bundle.id: bundle for bundle in map(open_enrolment, enrolments)}


def _missing(node: str) -> str:
    return f"expected {node} to pass the interface test before it joins; make one with `shufang agency interface-test`"


def _place(agency: Identity, node: str) -> Path:
    return agency.home / FOLDER / f"{sha256_hex(node.encode())[:32]}.dsse.json"


def _parcels(key: SigningKey, node: str, now: datetime) -> Iterator[bytes]:
    """Yield parcels to be read and parcels to be refused; every content is random."""

    def query(**body: object) -> Query:
        return Query(
            query_id=f"q-{secrets.token_hex(6)}", kind="node.describe", sender="agency", recipient=node,
            body={"text": f"数坊{secrets.token_urlsafe(9)}", "number": secrets.randbelow(2**50), **body},
            issued_at=now, expires_at=now + timedelta(minutes=5),
        )  # fmt: skip

    def packed(payload: bytes, *, signer: SigningKey = key, kind: str = Query.payload_type) -> bytes:
        return wire.pack(sign(signer, kind, payload))

    for _ in range(4):
        yield messages.encode(query(), key)
    yield messages.encode(query(nested={"b": None, "a": [True, -1]}), key)
    attached = secrets.token_bytes(40)
    with_file = query().model_copy(update={"attachments_sha256": wire.digests((attached,))})
    good = messages.encode(with_file, key, (attached,))
    yield good
    yield good[:-1] + bytes([good[-1] ^ 1])  # an altered attachment
    yield good[: -secrets.randbelow(30) - 1]  # a cut parcel
    yield messages.encode(query(), new_signing_key())  # another key
    yield packed(query().to_payload(), kind="application/vnd.shufang.order.v1+json")  # another kind
    value = query().model_dump(mode="json")
    for changed in (
        {**value, "colour": 1},
        {**value, "version": 2},
        {name: item for name, item in value.items() if name != "recipient"},
    ):
        yield packed(json.dumps(changed, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode())
    yield packed(json.dumps(value, ensure_ascii=False, sort_keys=True).encode())  # blanks: not canonical
    body = {**value["body"], "share": 0.5}
    yield packed(
        json.dumps({**value, "body": body}, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    )
