"""Binding: a table becomes a catalogue entry after the entry, the file and the suite were checked."""

import json
import os
from pathlib import Path

from nodes import tables
from nodes.books import Books
from nodes.catalogue_entries import CatalogueEntry, file_name, read_catalogue
from nodes.errors import CatalogueError, SecretRefusedError, StorageError
from nodes.quality_gate import suite_path
from nodes.settings import NodeSettings


def bind_entry(
    settings: NodeSettings,
    entry: CatalogueEntry,
    *,
    books: Books,
    table: Path | None = None,
    suite: Path | None = None,
) -> CatalogueEntry:
    """Check and keep a catalogue entry, and its suite if one is given. Nothing changes on an error.

    Args:
        settings: of the node.
        entry: what the department says of the table.
        books: for the ledger entry.
        table: the table's file, instead of the entry's own path.
        suite: expectation suite as JSON.

    Raises:
        CatalogueError: the entry changed without a new version, or the suite is no JSON.
        TableError: the table cannot be read as the entry says.
        StorageError: the disk refused.
    """
    if table is not None:
        entry = entry.model_copy(update={"storage": entry.storage.model_copy(update={"path": str(table.absolute())})})
    if entry.secrecy != "none":
        # Neither name nor columns are written down: the entry itself may say too much.
        books.record("resource.refused", facts={"code": SecretRefusedError.code})
        raise SecretRefusedError("expected data that is no state secret; this entry is neither bound nor kept")
    known = read_catalogue(settings.catalogue).get(entry.id)
    if known is not None and known.digest_hex != entry.digest_hex and entry.version <= known.version:
        raise CatalogueError(f"expected version {known.version + 1} of {entry.id}, its entry changed; raise `version`")
    if known is not None and entry.version < known.version:
        raise CatalogueError(f"expected version {known.version} or later of {entry.id}")
    suite_bytes: bytes | None = None
    if suite is not None:
        try:
            suite_bytes = suite.read_bytes()
            json.loads(suite_bytes)
        except (OSError, ValueError) as error:
            raise CatalogueError(f"expected a suite as JSON in UTF-8 at {suite} ({type(error).__name__})") from error
    tables.check_table(entry, settings.home)
    books.record(
        "resource.bound", facts={"resource": entry.id, "version": entry.version, "entry_sha256": entry.digest_hex}
    )
    if suite_bytes is not None:
        _replace(suite_path(settings, entry.id), suite_bytes)
    _replace(settings.catalogue / file_name(entry.id), entry.to_toml().encode("utf-8"))
    return entry


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(f"expected to be able to write {path} ({error.strerror})") from error
