"""What code and which libraries made a product: two digests for the build provenance."""

import functools
import hashlib
from importlib import metadata
from pathlib import Path

from nodes.contract.signing import sha256_hex

PACKAGES = ("factory", "nodes", "products", "quality")


@functools.cache
def code_sha256() -> str:
    """Return the digest over path and content of every file of our packages, in order of path."""
    root = Path(__file__).resolve().parents[1]
    total = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                name = path.relative_to(root).as_posix()
                total.update(f"{sha256_hex(path.read_bytes())}  {name}\n".encode())
    return total.hexdigest()


@functools.cache
def libraries_sha256() -> str:
    """Return the digest over name and version of every installed distribution, in order of name."""
    found = sorted({f"{item.metadata['Name'].lower()}=={item.version}" for item in metadata.distributions()})
    return sha256_hex("\n".join(found).encode())
