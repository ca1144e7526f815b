"""The BagIt layer: manifests and tag files as the only bytes they may have.

Everything here is derived from digests and from the release statement, so the verifier
regenerates the files and compares bytes; a tag file cannot say anything of its own.

Source:
    RFC 8493 (BagIt 1.0). SM3 is GB/T 32905-2016.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes

from products.errors import MalformedError
from products.fields import time_text
from products.package import paths
from products.statements import Release

BAGIT_TXT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of one file.

    Attributes:
        size: bytes.
        sha256: SHA-256 as hex.
        sm3: SM3 as hex; empty where it is not needed.
    """

    size: int
    sha256: str
    sm3: str = ""


def facts_of(chunks: Iterable[bytes], *, sm3: bool) -> FileFacts:
    """Digest a stream of bytes."""
    size, first = 0, hashlib.sha256()
    second = hashes.Hash(hashes.SM3()) if sm3 else None
    for chunk in chunks:
        size += len(chunk)
        first.update(chunk)
        if second is not None:
            second.update(chunk)
    return FileFacts(size, first.hexdigest(), second.finalize().hex() if second is not None else "")


def chunks_of(content: bytes | Path) -> Iterable[bytes]:
    """Yield the bytes of a file, or of a value, in pieces."""
    if isinstance(content, bytes):
        yield content
        return
    descriptor = os.open(content, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def manifest(digests: Mapping[str, str]) -> bytes:
    """Return a manifest: one line per path, in the order of their bytes.

    Raises:
        MalformedError: a path that would need an escape.
    """
    lines = []
    for path in sorted(digests, key=lambda name: name.encode()):
        if any(c in path for c in "\n\r%"):
            raise MalformedError("expected paths without newline and percent sign in a manifest")
        lines.append(f"{digests[path]}  {path}\n")
    return "".join(lines).encode()


def bag_info(release: Release, payload: Mapping[str, FileFacts]) -> bytes:
    """Return ``bag-info.txt``, all of it taken from the release statement and the payload."""
    oxum = f"{sum(facts.size for facts in payload.values())}.{len(payload)}"
    product = release.product
    lines = [
        "Bag-Software-Agent: shufang package 1",
        f"Bagging-Date: {time_text(release.released_at)[:10]}",
        f"External-Identifier: {product.id}@{product.version}",
        f"Internal-Sender-Identifier: {release.registration.code}",
        f"Payload-Oxum: {oxum}",
    ]
    return "".join(line + "\n" for line in lines).encode()


def tag_files(release: Release, payload: Mapping[str, FileFacts]) -> dict[str, bytes]:
    """Return the four tag files that are derived from the payload and the release statement."""
    return {
        paths.BAGIT: BAGIT_TXT,
        paths.BAG_INFO: bag_info(release, payload),
        paths.MANIFEST_SHA256: manifest({path: facts.sha256 for path, facts in payload.items()}),
        paths.MANIFEST_SM3: manifest({path: facts.sm3 for path, facts in payload.items()}),
    }
