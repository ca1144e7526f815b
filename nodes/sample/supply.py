"""The supply side at any size: linked registers with listed errors, their catalogue entries and their suites.

    shufang-node sample FOLDER --rows 1000000 --owner org.east

writes ``persons`` and ``enterprises`` (each person works for one of the enterprises), for each a catalogue
entry and a suite ready for ``shufang-node bind``, and ``planted.json``, which lists every error and every canary
that was put in, row by row, so that anyone can check what a quality run finds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal, cast

from nodes.errors import StorageError
from nodes.sample.errors import SampleError
from nodes.sample.kits import KitName, kit_entry, kit_suite
from nodes.sample.registers import (
    ENTERPRISE_ERRORS,
    ENTERPRISE_ERRORS_CRITICAL,
    PERSON_ERRORS,
    PERSON_ERRORS_CRITICAL,
    Planted,
    write_linked_registers,
)
from quality.run import REFERENCE
from quality.suite import document

ROWS_MIN = 1_000
"""Fewer persons and a kind of error would stand in no row."""


@dataclass(frozen=True, slots=True)
class Supplied:
    """One table that was written.

    Attributes:
        resource: catalogue id.
        table, entry, suite: its files.
        rows: of the table.
        errors: how many rows have an error, by kind.
    """

    resource: str
    table: Path
    entry: Path
    suite: Path
    rows: int
    errors: Mapping[str, int]


def write_supply(
    folder: Path,
    rows: int,
    *,
    owner: str,
    key: str = "sample",
    seed: int = 1,
    as_of: date,
    form: str = "csv",
    encoding: str = "utf-8",
    faulty: bool = False,
) -> list[Supplied]:
    """Write the two registers with all that a department needs to try them.

    Args:
        folder: made if it is not there.
        rows: persons, at least 1,000; there is an enterprise for every twenty.
        owner: organisation id.
        key: middle part of the catalogue ids, ``res.sample.persons``.
        seed: of everything random; equal arguments give equal tables.
        as_of: date of the latest change; an old one makes the tables stale.
        form: ``csv`` or ``parquet``.
        encoding: of CSV, ``utf-8`` or ``gb18030``.
        faulty: break the key columns, so that critical rules fail.

    Raises:
        SampleError: too few rows, another format.
        StorageError: the disk refused.
    """
    if rows < ROWS_MIN:
        raise SampleError(f"expected at least {ROWS_MIN} rows, got {rows}")
    if form not in {"csv", "parquet"} or encoding not in {"utf-8", "gb18030"}:
        raise SampleError("expected format csv or parquet, and encoding utf-8 or gb18030")
    if form == "parquet" and encoding != "utf-8":
        raise SampleError("expected an encoding for CSV only; Parquet has its own")
    suffix, text = cast('Literal[".csv", ".parquet"]', f".{form}"), cast('Literal["utf-8", "gb18030"]', encoding)
    try:
        planted = write_linked_registers(
            folder, rows, max(200, rows // 20), seed=seed, as_of=as_of, suffix=suffix, encoding=text,
            errors=(PERSON_ERRORS_CRITICAL, ENTERPRISE_ERRORS_CRITICAL) if faulty
            else (PERSON_ERRORS, ENTERPRISE_ERRORS),
        )  # fmt: skip
        made = [
            _described(folder, kit, planted[kit], owner=owner, key=key, suffix=suffix, encoding=text)
            for kit in ("enterprises", "persons")
        ]
        listed = {item.resource: planted[item.table.stem].to_json() for item in made}
        (folder / "planted.json").write_text(json.dumps(listed, ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"expected to be able to write {folder} ({error.strerror})") from error
    return made


def _described(
    folder: Path,
    kit: Literal["persons", "enterprises"],
    planted: Planted,
    *,
    owner: str,
    key: str,
    suffix: str,
    encoding: Literal["utf-8", "gb18030"],
) -> Supplied:
    resource, table = f"res.{key}.{kit}", (folder / f"{kit}{suffix}").absolute()
    name: KitName = "employed" if kit == "persons" else kit
    rules = document(kit_suite(name, name=resource))
    for rule in rules["expectations"]:
        if rule["type"] == REFERENCE:
            rule["kwargs"]["resource"] = f"res.{key}.enterprises"
    entry_path, suite_path = folder / f"{kit}.toml", folder / f"{kit}.suite.json"
    entry = kit_entry(name, resource=resource, owner=owner, table=table, encoding=encoding)
    entry_path.write_text(entry.to_toml(), encoding="utf-8")
    suite_path.write_text(json.dumps(rules, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    errors = {kind: len(places) for kind, places in planted.errors.items()}
    return Supplied(resource, table, entry_path, suite_path, planted.rows, errors)
