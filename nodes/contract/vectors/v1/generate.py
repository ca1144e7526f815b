# ruff: noqa: E501, INP001  one case a line; a script, not a package
"""Write the literal messages of version 1 that are missing in ``vectors.json``; never change one that is there.

ECDSA and HPKE are randomised, so a vector is made once and verified for good. Run it as
``python nodes/contract/vectors/v1/generate.py`` after adding a case; a test fails when a case is missing,
and when a good message's signed payload is no longer what this release would sign.

The keys are for tests alone: private scalars 1 000 001, 1 000 002 … of P-256, and 32 equal bytes for X25519.
"""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from nodes.contract import canonical, messages, wire
from nodes.contract.grant import Budget, Grant, Party, Thresholds
from nodes.contract.interface import InterfaceAnswer, InterfaceTest
from nodes.contract.messages import Condition, Order, Query, Refusal, RefusalCode, ResourceUse, Result, Step
from nodes.contract.sealing import SealHeader, seal
from nodes.contract.signing import Envelope, SigningKey, sign
from nodes.contract.statement import PAYLOAD_TYPE, grant_statement

FILE = Path(__file__).with_name("vectors.json")
NOW = datetime(2026, 1, 31, 8, 0, 0, tzinfo=UTC)
SIGNERS = ("operator", "node-east", "registrar-1", "registrar-2")


def signing_key(name: str) -> SigningKey:
    """Return the test key of a signer."""
    return SigningKey(ec.derive_private_key(1_000_001 + SIGNERS.index(name), ec.SECP256R1()))


def sealing_key() -> X25519PrivateKey:
    """Return the test key that opens the sealed vectors."""
    return X25519PrivateKey.from_private_bytes(b"\x07" * 32)


HEADER = SealHeader("s-1", "node-east", "node-west", "secagg.shares", 0)

ORDER = Order(
    order_id="s-1.node-east",
    session_id="s-1",
    grant_id="g-1",
    grant_sha256="ab" * 32,
    task="linear.secagg",
    scenario="sc-1",
    purpose="p-1",
    operator="operator",
    node="node-east",
    parties=("node-east", "node-west"),
    clients=("unit-1",),
    resources=(
        ResourceUse(
            resource="res.east.clinic",
            version=1,
            columns=("年龄", "score"),
            row_filter=(Condition(column="district", operator="in", values=("云东", 7)),),
        ),
    ),
    parameters={"rounds": 3, "l2_micro": 1000, "columns": ["年龄"], "nested": {"b": None, "a": True}},
    issued_at=NOW,
    expires_at=NOW + timedelta(minutes=10),
)
STEP = Step(
    session_id="s-1",
    order_sha256="cd" * 32,
    sequence=1,
    kind="secagg.keys",
    sender="operator",
    recipient="node-east",
    body={"round": 0},
    attachments_sha256=wire.digests((b"one", b"two")),
    issued_at=NOW,
)
QUERY = Query(
    query_id="q-1",
    kind="node.describe",
    sender="operator",
    recipient="node-east",
    body={},
    issued_at=NOW,
    expires_at=NOW + timedelta(minutes=5),
)
RESULT = Result(
    request_sha256="ef" * 32,
    kind="order.accepted",
    sender="node-east",
    body={"ready": True},
    ledger_seq=7,
    ledger_sha256="12" * 32,
    answered_at=NOW,
)
REFUSAL = Refusal(
    request_sha256="ef" * 32,
    code=RefusalCode.GRANT_COLUMN,
    message="expected only granted columns",
    sender="node-east",
    ledger_seq=8,
    ledger_sha256="34" * 32,
    refused_at=NOW,
)
GRANT = Grant(
    grant_id="g-1",
    agreement_id="agr-1",
    scenario="sc-1",
    scenario_title="医保欺诈识别",
    purpose="p-1",
    product_form="model",
    operator="operator",
    registrars=("registrar-1", "registrar-2"),
    parties=(
        Party(node="node-east", resources=(ResourceUse(resource="res.east.clinic", version=1, columns=("年龄",)),)),
    ),
    tasks=("linear.secagg",),
    uses_max=3,
    thresholds=Thresholds(rows_min=10, contributors_min=1, cell_min=5, round_base=5, quality_score_min=8000),
    budget=Budget(unit="session", total=3),
    request_sha256="56" * 32,
    issued_at=NOW,
    not_before=NOW,
    not_after=NOW + timedelta(days=30),
)
INTERFACE_TEST = InterfaceTest(node="node-east", signer_spki="c3BraQ==", cases={"c-1": "U0ZQMQ=="}, issued_at=NOW)
INTERFACE_ANSWER = InterfaceAnswer(
    node="node-east", test_sha256="ab" * 32, verdicts={"c-1": "contract.malformed"}, answered_at=NOW
)
GOOD: dict[str, tuple[messages.Message, str, tuple[bytes, ...]]] = {
    "order": (ORDER, "operator", ()),
    "step": (STEP, "operator", (b"one", b"two")),
    "query": (QUERY, "operator", ()),
    "result": (RESULT, "node-east", ()),
    "refusal": (REFUSAL, "node-east", ()),
    "interface test": (INTERFACE_TEST, "operator", ()),
    "interface answer": (INTERFACE_ANSWER, "node-east", ()),
}
GRANT_PAYLOAD = grant_statement(GRANT, agreement_name="agreement.pdf", agreement_sha256="78" * 32)


def _good(name: str) -> bytes:
    message, signer, attachments = GOOD[name]
    return messages.encode(message, signing_key(signer), attachments)


def _signed(name: str, change: dict[str, Any], *, drop: str = "", payload_type: str = "") -> bytes:
    message, signer, attachments = GOOD[name]
    value = {**message.model_dump(mode="json"), **change}
    value.pop(drop, None)
    payload = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return wire.pack(sign(signing_key(signer), payload_type or message.payload_type, payload), attachments)


def _raw(name: str, payload: bytes) -> bytes:
    message, signer, attachments = GOOD[name]
    return wire.pack(sign(signing_key(signer), message.payload_type, payload), attachments)


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def _bad_payload(name: str) -> bytes:
    envelope, attachments = wire.unpack(_good(name))
    altered = Envelope(
        envelope.payload_type, envelope.payload.replace(b"1", b"2", 1), envelope.keyid, envelope.signature
    )
    return wire.pack(altered, attachments)


def _with_attachments(*attachments: bytes) -> bytes:
    return wire.pack(wire.unpack(_good("step"))[0], attachments)


def _grant(signer: str, payload: bytes = GRANT_PAYLOAD, payload_type: str = PAYLOAD_TYPE) -> bytes:
    return sign(signing_key(signer), payload_type, payload).to_bytes()


def _sealed() -> bytes:
    return seal("份额".encode(), sealing_key().public_key().public_bytes_raw(), HEADER)


_PARCEL_CASES: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    **{name: (name, "", lambda name=name: _good(name)) for name in GOOD},  # type: ignore[misc]  # binds the name
    **{
        f"{name}: payload altered after signing": (name, "contract.bad_signature", lambda name=name: _bad_payload(name))  # type: ignore[misc]  # binds the name
        for name in GOOD
    },
    **{
        f"{name}: version 2": (name, "contract.version", lambda name=name: _signed(name, {"version": 2}))  # type: ignore[misc]  # binds the name
        for name in GOOD
    },
    **{
        f"{name}: unknown field": (name, "contract.malformed", lambda name=name: _signed(name, {"extra": 1}))  # type: ignore[misc]  # binds the name
        for name in GOOD
    },
    "order: version 0, a downgrade": ("order", "contract.version", lambda: _signed("order", {"version": 0})),
    "order: no version": ("order", "contract.version", lambda: _signed("order", {}, drop="version")),
    "order: signed as a query": (
        "order", "contract.bad_signature", lambda: _signed("order", {}, payload_type=Query.payload_type)),
    "order: float parameter": ("order", "contract.malformed", lambda: _signed("order", {"parameters": {"x": 0.5}})),
    "order: huge integer": ("order", "contract.malformed", lambda: _signed("order", {"parameters": {"x": 2**53}})),
    "order: text where a list belongs": ("order", "contract.malformed", lambda: _signed("order", {"parties": "node-east"})),
    "order: no party": ("order", "contract.malformed", lambda: _signed("order", {"parties": []})),
    "order: time without zone": ("order", "contract.malformed", lambda: _signed("order", {"issued_at": "2026-01-31T08:00:00"})),
    "order: time with fraction": ("order", "contract.malformed", lambda: _signed("order", {"issued_at": "2026-01-31T08:00:00.5Z"})),
    "order: upper-case name": ("order", "contract.malformed", lambda: _signed("order", {"node": "Node-East"})),
    "order: path as a name": ("order", "contract.malformed", lambda: _signed("order", {"session_id": "../s"})),
    "order: short digest": ("order", "contract.malformed", lambda: _signed("order", {"grant_sha256": "ab"})),
    "order: node missing": ("order", "contract.malformed", lambda: _signed("order", {}, drop="node")),
    "order: keys out of order": (
        "order", "contract.malformed", lambda: _raw("order", b'{"version":1,"task":"x","node":"y"}')),
    "order: space in the JSON": (
        "order", "contract.malformed", lambda: _raw("order", ORDER.to_payload().replace(b":", b": ", 1))),
    "order: duplicate key": (
        "order", "contract.malformed", lambda: _raw("order", b'{"version":1,' + ORDER.to_payload()[1:])),
    "order: not JSON": ("order", "contract.malformed", lambda: _raw("order", b"order")),
    "order: truncated parcel": ("order", "contract.malformed", lambda: _good("order")[:-1]),
    "order: byte after the parcel": ("order", "contract.malformed", lambda: _good("order") + b"\x00"),
    "order: wrong magic": ("order", "contract.malformed", lambda: b"SFP2" + _good("order")[4:]),
    "order: too many parts": ("order", "contract.too_large", lambda: b"SFP1\x00\x01\x00\x00" + _good("order")[8:]),
    "order: unexpected attachment": ("order", "contract.malformed", lambda: wire.pack(wire.unpack(_good("order"))[0], (b"x",))),
    "order: signature of a registrar": (
        "order", "contract.bad_signature",
        lambda: wire.pack(sign(signing_key("registrar-1"), Order.payload_type, ORDER.to_payload()))),
    "step: sequence 0": ("step", "contract.malformed", lambda: _signed("step", {"sequence": 0})),
    "step: sequence as text": ("step", "contract.malformed", lambda: _signed("step", {"sequence": "1"})),
    "step: attachments swapped": ("step", "contract.malformed", lambda: _with_attachments(b"two", b"one")),
    "step: attachment altered": ("step", "contract.malformed", lambda: _with_attachments(b"one", b"twp")),
    "step: attachment missing": ("step", "contract.malformed", lambda: _with_attachments(b"one")),
    "result: negative ledger number": ("result", "contract.malformed", lambda: _signed("result", {"ledger_seq": -1})),
    "refusal: unknown code": ("refusal", "contract.malformed", lambda: _signed("refusal", {"code": "because"})),
    "refusal: empty message": ("refusal", "contract.malformed", lambda: _signed("refusal", {"message": ""})),
}  # fmt: skip


def _grant_with(change: dict[str, Any]) -> bytes:
    value = json.loads(GRANT_PAYLOAD)
    value["predicate"].update(change)
    return canonical.dumps(value)


_GRANT_CASES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "grant: first registrar": ("", lambda: _grant("registrar-1")),
    "grant: another signer": ("contract.bad_signature", lambda: _grant("registrar-2")),
    "grant: another payload type": ("contract.bad_signature", lambda: _grant("registrar-1", payload_type=Order.payload_type)),
    "grant: window ends first": (
        "contract.malformed", lambda: _grant("registrar-1", _grant_with({"not_after": "2026-01-31T08:00:00Z"}))),
    "grant: unknown field": ("contract.malformed", lambda: _grant("registrar-1", _grant_with({"extra": 1}))),
    "grant: no use": ("contract.malformed", lambda: _grant("registrar-1", _grant_with({"uses_max": 0}))),
    "grant: unknown budget unit": (
        "contract.malformed", lambda: _grant("registrar-1", _grant_with({"budget": {"unit": "yuan", "total": 1}}))),
    "grant: not a statement": ("contract.malformed", lambda: _grant("registrar-1", b"{}")),
    "grant: two signatures in one envelope": (
        "contract.malformed",
        lambda: _grant("registrar-1").replace(b'"signatures":[', b'"signatures":[{"keyid":"","sig":""},')),
}  # fmt: skip
_SEAL_CASES: dict[str, tuple[str, dict[str, Any], Callable[[], bytes]]] = {
    "sealed": ("", {}, _sealed),
    "sealed: altered": ("contract.bad_seal", {}, lambda: _flipped(_sealed(), 40)),
    "sealed: truncated": ("contract.bad_seal", {}, lambda: _sealed()[:-1]),
    "sealed: another session": ("contract.bad_seal", {"session_id": "s-2"}, _sealed),
    "sealed: another sender": ("contract.bad_seal", {"sender": "operator"}, _sealed),
    "sealed: another recipient": ("contract.bad_seal", {"recipient": "node-north"}, _sealed),
    "sealed: another label": ("contract.bad_seal", {"label": "secagg.keys"}, _sealed),
    "sealed: reordered": ("contract.bad_seal", {"sequence": 1}, _sealed),
}


def cases() -> dict[str, Callable[[], dict[str, Any]]]:
    """Return what makes each vector, by name."""
    made: dict[str, Callable[[], dict[str, Any]]] = {}
    for name, (model, expected, make) in _PARCEL_CASES.items():
        made[name] = lambda model=model, expected=expected, make=make: {  # type: ignore[misc]  # binds the names
            "kind": "parcel", "model": model, "signer": GOOD[model][1], "expected": expected, "bytes": _text(make()),
        }  # fmt: skip
    for name, (expected, make) in _GRANT_CASES.items():
        made[name] = lambda expected=expected, make=make: {  # type: ignore[misc]  # binds the names
            "kind": "grant", "signer": "registrar-1", "expected": expected, "bytes": _text(make()),
        }  # fmt: skip
    for name, (expected, header, make) in _SEAL_CASES.items():
        made[name] = lambda expected=expected, header=header, make=make: {  # type: ignore[misc]  # binds the names
            "kind": "sealed", "header": header, "expected": expected, "bytes": _text(make()),
        }  # fmt: skip
    return made


def main() -> int:
    """Add the vectors that are missing and return how many there were."""
    there: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    new = {name: make() for name, make in cases().items() if name not in there}
    ordered = {name: there.get(name) or new[name] for name in cases()}  # in the order of the script
    FILE.write_text(json.dumps({**ordered, **there}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return len(new)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


if __name__ == "__main__":
    main()
