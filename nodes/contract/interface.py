"""The interface test: parcels made anew for one node, and what its software says of each.

Before a node joins, the agency sends it parcels that it must read, and parcels that it must refuse, under names
that tell nothing. The answer states a digest for what was read and written again, and the error code otherwise;
the agency compares it with its own. A node of another release, or of other software, that reads a message
differently is found before it takes part.

Privacy:
    Parcels and answers hold random texts; nothing of a node's tables, settings or books is in either.

Source:
    Requirement PLAT-UNIFIED (GD-08-5: a sub-node under the same interface standard; one that fails cannot join).
"""

import base64
import binascii
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nodes.contract import messages, wire
from nodes.contract.errors import ContractError, MalformedError
from nodes.contract.messages import Hex32, Message, Name, Query, Time
from nodes.contract.signing import VerifyKey, sha256_hex

CASES_MAX = 100
"""Most parcels of one test."""


class InterfaceTest(Message):
    """Parcels for one node.

    Attributes:
        node: who is tested.
        signer_spki: base64 key that signs the good ones; made for this test alone.
        cases: base64 parcel per name.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.interface-test.v1+json"

    version: Literal[1] = 1
    node: Name
    signer_spki: str
    cases: Annotated[dict[Name, str], Field(min_length=1, max_length=CASES_MAX)]
    issued_at: Time


class InterfaceAnswer(Message):
    """What a node's software says of each parcel, signed with its statement key.

    Attributes:
        node: who answers.
        test_sha256: digest of the test's bytes.
        verdicts: digest of what was read and written again, or the error code, per name.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.interface-answer.v1+json"

    version: Literal[1] = 1
    node: Name
    test_sha256: Hex32
    verdicts: Annotated[dict[Name, str], Field(max_length=CASES_MAX)]
    answered_at: Time


def verdicts(test: InterfaceTest) -> dict[str, str]:
    """Return what this software says of each parcel of a test.

    Raises:
        MalformedError: a parcel or the key is not base64.
    """
    try:
        key = VerifyKey(base64.b64decode(test.signer_spki, validate=True))
        parcels = {name: base64.b64decode(text, validate=True) for name, text in test.cases.items()}
    except (binascii.Error, ValueError) as error:
        raise MalformedError("expected parcels and a key in base64") from error
    return {name: _verdict(parcel, key) for name, parcel in parcels.items()}


def _verdict(parcel: bytes, key: VerifyKey) -> str:
    try:
        envelope, attachments = wire.unpack(parcel)
        message = messages.decode(Query, envelope, attachments, key)
    except ContractError as error:
        return error.code
    return sha256_hex(wire.pack(envelope, attachments) + message.to_payload())
