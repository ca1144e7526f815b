"""Where things stand in a package, and which paths are accepted at all.

    bagit.txt bag-info.txt manifest-sha256.txt manifest-sm3.txt tagmanifest-sha256.txt
    data/…                              payload, every file a subject of the release statement
    attestations/<statement>.<actor>.dsse.json
    attestations/quality-<resource>.json
    log/<statement>.<actor>.tlog-proof
    trust/metadata/…  trust/targets/…
    previous/release.<registrar>.dsse.json release.<registrar>.tlog-proof    the version before, if there is one
    certificate/registration.json  certificate/registration.html  certificate/registration.pdf
    bundles/<statement>.<actor>.sigstore.json
    interop/…                           second signatures for tools of others (products.package.interop)

Outside ``data/`` no byte is free: each is signed, or derived from what is signed.
"""

import re
import unicodedata

from products.errors import MalformedError
from products.limits import LIMITS

DATA = "data/"
PRODUCT = "data/product/"
METADATA = "data/metadata/"
CRATE = "data/ro-crate-metadata.json"
ATTESTATIONS = "attestations/"
LOG = "log/"
TRUST_METADATA = "trust/metadata/"
TRUST_TARGETS = "trust/targets/"
CERTIFICATE_JSON = "certificate/registration.json"
CERTIFICATE_HTML = "certificate/registration.html"
CERTIFICATE_PDF = "certificate/registration.pdf"
BUNDLES = "bundles/"
PREVIOUS = "previous/"
INTEROP = "interop/"
IN_TOTO = "interop/in-toto/"
MODEL_SIGNATURE = "interop/model.sig"
BAGIT = "bagit.txt"
BAG_INFO = "bag-info.txt"
MANIFEST_SHA256 = "manifest-sha256.txt"
MANIFEST_SM3 = "manifest-sm3.txt"
TAGMANIFEST = "tagmanifest-sha256.txt"
BAG_FILES = (BAGIT, BAG_INFO, MANIFEST_SHA256, MANIFEST_SM3, TAGMANIFEST)
ENVELOPE_SUFFIX = ".dsse.json"
PROOF_SUFFIX = ".tlog-proof"
BUNDLE_SUFFIX = ".sigstore.json"
SM2_SUFFIX = ".sm2.dsse.json"

_FORBIDDEN = re.compile(r'[\\:*?"<>|%\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


def envelope_path(statement: str, actor: str) -> str:
    """Return the path of one signed statement."""
    return f"{ATTESTATIONS}{statement}.{actor}{ENVELOPE_SUFFIX}"


def proof_path(statement: str, actor: str) -> str:
    """Return the path of its log proof."""
    return f"{LOG}{statement}.{actor}{PROOF_SUFFIX}"


def bundle_path(statement: str, actor: str) -> str:
    """Return the path of its sigstore bundle."""
    return f"{BUNDLES}{statement}.{actor}{BUNDLE_SUFFIX}"


def sm2_path(stem: str) -> str:
    """Return the path of the second signature of the envelope ``<statement>.<actor>``."""
    return f"{INTEROP}{stem}{SM2_SUFFIX}"


def previous_paths(actor: str) -> tuple[str, str]:
    """Return the paths of one registrar's envelope of the earlier release, and of its log proof."""
    stem = f"{PREVIOUS}release.{actor}"
    return stem + ENVELOPE_SUFFIX, stem + PROOF_SUFFIX


def quality_path(resource: str) -> str:
    """Return the path of a resource's quality report."""
    return f"{ATTESTATIONS}quality-{resource}.json"


def require_path(path: str) -> None:
    """Accept a relative path that means the same file on every system.

    Raises:
        MalformedError: absolute, with ``..``, too long or deep, not NFC, with characters or
            names that some system reads otherwise, or with invisible characters.
    """
    parts = path.split("/")
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise MalformedError("expected a file name in UTF-8") from error
    if size > LIMITS.path_bytes_max or len(parts) > LIMITS.path_depth_max:
        raise MalformedError(f"expected a path of at most {LIMITS.path_bytes_max} bytes: {path[:60]!r}…")
    if unicodedata.normalize("NFC", path) != path:
        raise MalformedError(f"expected a file name in Unicode normal form C: {path!a}")
    for part in parts:
        invisible = any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for c in part)
        if part in ("", ".", "..") or part != part.strip(" .") or invisible:
            raise MalformedError(f"expected plain components in a path: {path!a}")
        if _FORBIDDEN.search(part) or _RESERVED.fullmatch(part):
            raise MalformedError(f"expected a file name that every system accepts: {path!a}")


def folded(path: str) -> str:
    """Return the path as a file system that ignores case and compatibility forms sees it."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())
