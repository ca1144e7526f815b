"""This node's parts of vertical models: files named by their digest, readable by the node alone.

Privacy: a part holds means, scales and weights of the node's own features. It never leaves the
node; what a session with it may return is for its task to say.
"""

import os
from pathlib import Path

from nodes.contract import canonical
from nodes.contract.canonical import JsonValue
from nodes.contract.messages import RefusalCode
from nodes.contract.signing import sha256_hex
from nodes.errors import StorageError
from nodes.tasks.spec import TaskRefusedError


def keep(folder: str, document: bytes) -> str:
    """Write a part durably and return its digest.

    Raises:
        StorageError: the disk refused.
    """
    digest = sha256_hex(document)
    target = Path(folder) / f"{digest}.json"
    temporary = target.with_suffix(".tmp")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(document)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise StorageError(f"expected to be able to write {folder} ({error.strerror})") from error
    return digest


def load(folder: str, digest: str) -> dict[str, JsonValue]:
    """Return the part with this digest.

    Raises:
        TaskRefusedError: this node has no such part, or its file was altered.
    """
    try:
        document = (Path(folder) / f"{digest}.json").read_bytes()
    except OSError as error:
        raise TaskRefusedError(
            RefusalCode.RESOURCE_MISSING, f"expected a part of a model that this node keeps, {digest[:12]} is none"
        ) from error
    if sha256_hex(document) != digest:
        raise TaskRefusedError(RefusalCode.RESOURCE_CHANGED, f"expected the bytes of part {digest[:12]}; train again")
    return dict(canonical.loads(document))
