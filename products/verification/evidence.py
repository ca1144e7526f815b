"""Steps 1 to 3: from files to statements that are signed, logged, witnessed and in time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel

from products import statements
from products.dsse import Envelope
from products.errors import MalformedError, ProductError, TooLargeError, UntrustedError
from products.limits import LIMITS
from products.log import LogProof, SignedCheckpoint, Witnessed, leaf_bytes, verify_checkpoint
from products.package import interop, paths
from products.package.reading import PackageFiles
from products.repository import TrustData
from products.statements import Statement
from products.trust import Actor
from products.verification.checks import CheckList


@dataclass(frozen=True, slots=True)
class Signed:
    """One envelope that holds: who signed what, when it was witnessed and where it is logged.

    Attributes:
        path: file of the envelope.
        envelope: as parsed.
        actor: the signer, from the package's trust data.
        at: earliest time by which a quorum had witnessed the signature.
        first_at: earliest cosignature under the same checkpoint.
        origin, index: place in the log.
    """

    path: str
    envelope: Envelope
    actor: Actor
    at: datetime
    first_at: datetime
    origin: str
    index: int


@dataclass(frozen=True, slots=True)
class Joint:
    """One statement with everybody who signed it.

    Attributes:
        sha256: digest of the payload, the name of the statement.
        statement: what it says.
        signed: its signatures, at least one.
    """

    sha256: str
    statement: Statement[BaseModel]
    signed: tuple[Signed, ...]


def check_layout(files: PackageFiles, checks: CheckList) -> None:
    """Refuse files in places that the package format does not have, and bag files that lack."""
    problems = [f"expected {name}" for name in paths.BAG_FILES if name not in files.facts]
    if not files.payload:
        problems.append("expected a payload below data/")
    certificate = (paths.CERTIFICATE_JSON, paths.CERTIFICATE_HTML)
    problems += [f"expected {name}" for name in certificate if name not in files.facts]
    envelopes = {
        path.removeprefix(paths.ATTESTATIONS).removesuffix(paths.ENVELOPE_SUFFIX)
        for path in files.facts
        if _is_envelope(path)
    }
    for path in files.facts:
        proof = path.removeprefix(paths.LOG).removesuffix(paths.PROOF_SUFFIX)
        bundle = path.removeprefix(paths.BUNDLES).removesuffix(paths.BUNDLE_SUFFIX)
        known = (
            path in paths.BAG_FILES
            or path in certificate
            or path.startswith((paths.DATA, paths.TRUST_METADATA, paths.TRUST_TARGETS))
            or _is_envelope(path)
            or (path.startswith(paths.ATTESTATIONS + "quality-") and path.endswith(".json") and path.count("/") == 1)
            or (path == f"{paths.LOG}{proof}{paths.PROOF_SUFFIX}" and proof in envelopes)
            or (path == f"{paths.BUNDLES}{bundle}{paths.BUNDLE_SUFFIX}" and bundle in envelopes)
            or (
                path.startswith(paths.PREVIOUS + "release.")
                and path.endswith((paths.ENVELOPE_SUFFIX, paths.PROOF_SUFFIX))
                and path.count("/") == 1
            )
            or (
                path.startswith(paths.INTEROP)
                and path.endswith(paths.SM2_SUFFIX)
                and path.removeprefix(paths.INTEROP).removesuffix(paths.SM2_SUFFIX) in envelopes
            )
            or path in (paths.MODEL_SIGNATURE, paths.CERTIFICATE_PDF)
            or (path.startswith("interop/certificate.") and path.endswith(paths.ENVELOPE_SUFFIX))
            or (path.startswith(paths.IN_TOTO) and path.endswith((".layout", ".link")) and path.count("/") == 2)
        )
        if not known:
            problems.append(f"unexpected file {path}")
    checks.found("package.layout", problems, f"{len(files.facts)} files, {len(envelopes)} envelopes")


def _is_envelope(path: str) -> bool:
    return path.startswith(paths.ATTESTATIONS) and path.endswith(paths.ENVELOPE_SUFFIX) and path.count("/") == 1


def parse_envelopes(files: PackageFiles, checks: CheckList) -> dict[str, Envelope]:
    """Parse the envelopes without believing them."""
    found: dict[str, Envelope] = {}
    for path, data in sorted(files.below(paths.ATTESTATIONS).items()):
        if not _is_envelope(path):
            continue
        try:
            if len(found) >= LIMITS.envelopes_max:
                raise TooLargeError(f"expected at most {LIMITS.envelopes_max} envelopes")
            found[path] = Envelope.from_bytes(data)
        except ProductError as error:
            checks.failed("package.statements", [f"{path}: {error}"])
    return found


def verify_signatures(
    files: PackageFiles, envelopes: Mapping[str, Envelope], trust: TrustData, checks: CheckList
) -> list[Signed]:
    """Check every envelope: actor, signature, log entry, checkpoint, key window."""
    actors = trust.actors.by_keyid()
    believed: dict[SignedCheckpoint, Witnessed] = {}
    signed: list[Signed] = []
    for path, envelope in envelopes.items():
        actor = actors.get(envelope.keyid)
        if actor is None:
            checks.failed("signature.actor", [f"{path}: key {envelope.keyid[:12]} is not in the agency's list"])
            continue
        with _named(checks, "signature.valid", path):
            envelope.verify(actor.spki)
            proof = _proof(files, path, checks)
            witnessed = _witness(proof, path, trust, believed, checks) if proof is not None else None
            if proof is None or witnessed is None:
                continue
            with _named(checks, "log.inclusion", path):
                proof.verify(leaf_bytes(envelope.pae, envelope.signature, actor.spki))
                _check_bundle(files, path, interop.sigstore_bundle(envelope, actor.spki, proof), checks)
                origin = witnessed.checkpoint.origin
                item = Signed(path, envelope, actor, witnessed.at, witnessed.first_at, origin, proof.index)
                if actor.is_valid_at(item.at):
                    signed.append(item)
                else:
                    at = f"{item.at:%Y-%m-%dT%H:%M:%SZ}"
                    checks.failed("key.window", [f"{path}: the key of {actor.id} did not count at {at}"])
    _pass_signature_checks(signed, believed, checks)
    return signed


def _check_bundle(files: PackageFiles, path: str, expected: bytes, checks: CheckList) -> None:
    name = path.removeprefix(paths.ATTESTATIONS).removesuffix(paths.ENVELOPE_SUFFIX)
    bundle = f"{paths.BUNDLES}{name}{paths.BUNDLE_SUFFIX}"
    if files.content.get(bundle) != expected:
        checks.failed("interop.bundles", [f"{bundle}: not the bundle that follows from envelope and proof"])


def _pass_signature_checks(
    signed: list[Signed], believed: Mapping[SignedCheckpoint, Witnessed], checks: CheckList
) -> None:
    if not signed:
        checks.failed("signature.valid", ["expected at least one signed statement that holds"])
        return
    names = sorted({item.actor.id for item in signed})
    checks.passed("signature.actor", f"{len(names)} signers: {', '.join(names)}")
    checks.passed("signature.valid", f"{len(signed)} signatures, ECDSA P-256 with SHA-256")
    checks.passed("interop.bundles", f"{len(signed)} bundles")
    sizes = ", ".join(f"{w.checkpoint.origin} size {w.checkpoint.size}" for w in believed.values())
    checks.passed("log.inclusion", f"{len(signed)} entries; {sizes}")
    witnesses = sorted({name for witnessed in believed.values() for name in witnessed.witnesses})
    checks.passed("log.witness", f"{len(believed)} checkpoints; witnesses {', '.join(witnesses)}")
    first, last = min(item.at for item in signed), max(item.at for item in signed)
    checks.passed("key.window", f"witnessed {first:%Y-%m-%dT%H:%M:%SZ} to {last:%Y-%m-%dT%H:%M:%SZ}")


def _proof(files: PackageFiles, path: str, checks: CheckList) -> LogProof | None:
    name = path.removeprefix(paths.ATTESTATIONS).removesuffix(paths.ENVELOPE_SUFFIX)
    data = files.content.get(f"{paths.LOG}{name}{paths.PROOF_SUFFIX}")
    if data is None:
        checks.failed("log.inclusion", [f"{path}: expected log/{name}{paths.PROOF_SUFFIX}"])
        return None
    with _named(checks, "log.inclusion", path):
        return LogProof.from_bytes(data)
    return None


def _witness(
    proof: LogProof,
    path: str,
    trust: TrustData,
    believed: dict[SignedCheckpoint, Witnessed],
    checks: CheckList,
) -> Witnessed | None:
    if proof.note not in believed:
        with _named(checks, "log.witness", path):
            believed[proof.note] = verify_checkpoint(proof.note, trust.tlog_policy)
    return believed.get(proof.note)


class _named:  # noqa: N801  reads as a statement
    """Turn a ``ProductError`` of the block into a failure that names the file."""

    def __init__(self, checks: CheckList, code: str, path: str) -> None:
        self._checks, self._code, self._path = checks, code, path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, ProductError):
            self._checks.failed(self._code, [f"{self._path}: {error}"])
            return True
        return False


def read_statements(signed: list[Signed], checks: CheckList) -> list[Joint]:
    """Read the payloads of believed envelopes and put equal payloads together."""
    groups: dict[str, list[Signed]] = {}
    for item in signed:
        groups.setdefault(item.envelope.payload_sha256, []).append(item)
    joints: list[Joint] = []
    for sha256, items in groups.items():
        with _named(checks, "package.statements", items[0].path):
            joints.append(Joint(sha256, statements.read(items[0].envelope.payload), tuple(items)))
    return joints


def check_current(trust: TrustData, release: Joint, checks: CheckList) -> None:
    """Step 2's clock: the trust data was current when the first witness saw the release complete."""
    registrars = [item for item in release.signed if "registrar" in item.actor.roles]
    moment = min(item.first_at for item in registrars or release.signed)
    with checks.guard("trust.current"):
        trust.require_current(moment)
        ends = min(trust.expires.values())
        checks.passed("trust.current", f"witnessed {moment:%Y-%m-%dT%H:%M:%SZ}, first expiry {ends:%Y-%m-%dT%H:%M:%SZ}")


def check_trust_files(files: PackageFiles, trust: TrustData) -> None:
    """Refuse files below ``trust/`` that the metadata does not lead to.

    Raises:
        UntrustedError: there is such a file.
    """
    extra = sorted(path for path in files.below("trust/") if path.removeprefix("trust/") not in trust.files)
    if extra:
        raise UntrustedError(f"expected no file below trust/ that the metadata does not name: {', '.join(extra[:3])}")


def trust_files(files: PackageFiles) -> dict[str, bytes]:
    """Return the embedded trust repository by path relative to its folder.

    Raises:
        MalformedError: there is none.
    """
    found = {path.removeprefix("trust/"): data for path, data in files.below("trust/").items()}
    if not found:
        raise MalformedError("expected trust data below trust/")
    return found
