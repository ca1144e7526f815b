"""The Flower bundle both sides pin: it names the contract and holds no code.

Flower wants a bundle with every run. Ours is these bytes and no others; a node computes the
digest of what it is handed and compares it with ``nodes.contract.parameters.BUNDLE_SHA256``.
Changing a byte here is a change of the wire.
"""

import hashlib
import io
import zipfile

_PROJECT = b"""[project]
name = "shufang-contract"
version = "1.0.0"
description = "Names the contract between department and factory; holds no code"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "shufang"

[tool.flwr.app.components]
serverapp = "contract:none"
clientapp = "contract:none"

[tool.flwr.app.config]
"""


def contract_bundle() -> bytes:
    """Return the bundle, byte for byte the same everywhere (stored, not compressed; fixed dates)."""
    content = f"pyproject.toml,{hashlib.sha256(_PROJECT).hexdigest()},{len(_PROJECT) * 8}".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (("pyproject.toml", _PROJECT), (".info/CONTENT", content)):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # the same on every operating system
            archive.writestr(entry, data)
    return buffer.getvalue()
