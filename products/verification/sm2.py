"""Step 3, second half: the same statements signed with SM2 and SM3.

Optional under the standard profile: what is there has to hold. Under the profile ``gm``, set by the
agency's policy or asked for by the verifier, every signature of ``attestations/`` needs its second one.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterator

from products import gm
from products.dsse import Envelope
from products.errors import BadSignatureError, MalformedError, ProductError
from products.package import paths
from products.verification.checks import CheckList
from products.verification.evidence import Signed
from products.verification.facts import Facts

CODE = "signature.sm2"


def check_sm2(facts: Facts, checks: CheckList, *, is_required: bool) -> None:
    """Check every second signature, and that none is missing where they are required."""
    found = {path: data for path, data in facts.files.below(paths.INTEROP).items() if path.endswith(paths.SM2_SUFFIX)}
    expected = {_path_of(item): item for item in facts.signed}
    problems = [f"{path}: of no signed statement" for path in sorted(set(found) - set(expected))]
    if is_required:
        problems += [f"{path} is missing" for path in sorted(set(expected) - set(found))]
    try:
        problems += list(
            _problems({path: (found[path], expected[path]) for path in sorted(set(found) & set(expected))})
        )
    except gm.GmMissingError as error:
        if not problems:
            checks.warned(CODE, f"{len(found)} signatures were not checked: {error}")
            return
    checks.found(CODE, problems, f"{len(found)} signatures" if found else "none, and none required")


def _path_of(item: Signed) -> str:
    return paths.sm2_path(item.path.removeprefix(paths.ATTESTATIONS).removesuffix(paths.ENVELOPE_SUFFIX))


def _problems(pairs: dict[str, tuple[bytes, Signed]]) -> Iterator[str]:
    for path, (data, item) in pairs.items():
        try:
            _require(data, item)
        except gm.GmMissingError:
            raise
        except ProductError as error:
            yield f"{path}: {error}"


def _require(data: bytes, item: Signed) -> None:
    second = Envelope.from_bytes(data)
    if second.payload != item.envelope.payload:
        raise MalformedError("expected the payload of the statement it stands beside")
    try:
        spki = base64.b64decode(item.actor.sm2_spki, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError(f"expected a base64 SM2 key of {item.actor.id}") from error
    if not spki or hashlib.sha256(spki).hexdigest() != second.keyid:
        raise BadSignatureError(f"expected the SM2 key that the agency lists for {item.actor.id}")
    gm.verify(spki, second.signature, second.pae)
