"""Errors of the contract.

ContractError
├── MalformedError            bytes that are not what they claim to be
│   └── UnsupportedVersionError
├── TooLargeError             more bytes, parts or depth than the limits allow
├── BadSignatureError         a signature that does not verify, or a signer that is not expected
├── BadSealError              a sealed message that does not open for this recipient and header
├── BadElementError           bytes that are no element of the group, or its identity
├── BadProofError             an evaluation whose proof does not hold for the committed key
├── BadCiphertextError        bytes that are no ciphertext or key of the named parameter set
└── UnknownActorError         a name that the agency-signed trust data does not hold

Every class has a ``code`` that is unique in the project and never reused, and says with
``retryable`` whether the same call may succeed later. Messages never hold a value of a row.
"""

from typing import ClassVar


class ContractError(Exception):
    """Root of all errors of ``nodes.contract``."""

    code: ClassVar[str] = "contract.error"
    retryable: ClassVar[bool] = False


class MalformedError(ContractError):
    """The bytes are not a well-formed, canonical message of the expected kind."""

    code = "contract.malformed"


class UnsupportedVersionError(MalformedError):
    """The message carries a version that this release does not speak."""

    code = "contract.version"


class TooLargeError(ContractError):
    """The message exceeds a limit of ``nodes.contract.parameters``."""

    code = "contract.too_large"


class BadSignatureError(ContractError):
    """The signature does not verify, or the signer is not the expected one."""

    code = "contract.bad_signature"


class BadSealError(ContractError):
    """The sealed message does not open: wrong recipient, header or bytes."""

    code = "contract.bad_seal"


class UnknownActorError(ContractError):
    """The trust data does not name this actor, or not in this role or at this time."""

    code = "contract.unknown_actor"


class BadElementError(ContractError):
    """The bytes are not an element or scalar of ristretto255, or they are the identity."""

    code = "contract.bad_element"


class BadProofError(ContractError):
    """The evaluation was not made with the key its maker has committed to."""

    code = "contract.bad_proof"


class BadCiphertextError(ContractError):
    """The bytes are not a ciphertext or key of the named parameter set."""

    code = "contract.bad_ciphertext"
