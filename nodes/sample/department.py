"""Sample tables of one department: real tables that scikit-learn ships, registers of invented persons and firms.

``python -m nodes.sample --home DIR --number 0 --of 3`` writes tables, catalogue entries and
suites into a node's home, as the department's own staff would have laid them there. With
``--data`` the open tables in that folder are used instead (four hospitals, tax fines,
high-tech certificates); nothing of them is kept elsewhere.
"""

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from nodes.catalogue_entries import read_entry
from nodes.sample.errors import SampleError
from nodes.sample.kits import KitName, write_kit
from nodes.sample.registers import DISTRICTS, write_enterprise_register, write_person_register
from nodes.sample.split import split_table

HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
PERSONS, ENTERPRISES = 4_000, 3_000
FAULTY_ROWS = 12
_SPLIT_SEED = 20260131


@dataclass(frozen=True, slots=True)
class Delivered:
    """One table that was laid into the home.

    Attributes:
        resource: catalogue id.
        kit: kind of table.
        table: its file.
        planted: canaries in it, values that must never leave the node.
    """

    resource: str
    kit: KitName
    table: Path
    planted: tuple[str, ...]


def write_department(
    home: Path, *, key: str, owner: str, number: int, of: int, data: Path | None = None, faulty: bool = False
) -> list[Delivered]:
    """Write the tables, entries and suites of department ``number``.

    Args:
        home: the node's home.
        key: middle part of the catalogue ids, e.g. ``east`` for ``res.east.clinic``.
        owner: organisation id.
        number: which of the departments, from 0.
        of: how many there are.
        data: folder with the open tables; the built-in tables if not given.
        faulty: deliver the first table with a fault that its critical rules catch.

    Raises:
        SampleError: no such department, or a table is missing.
    """
    if not 0 <= number < of:
        raise SampleError(f"expected a number from 0 to {of - 1}, got {number}")
    folder = home / "tables"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = _builtin(folder, key, number, of) if data is None else _open_data(folder, key, number, of, data)
    if faulty:
        _repeat_keys(made[0].table)
    for place, item in enumerate(made):
        path, _ = write_kit(item.kit, home, resource=item.resource, owner=owner, table=item.table.relative_to(home))
        _register(path, 100 * (number + 1) + place)
    return made


def _builtin(folder: Path, key: str, number: int, of: int) -> list[Delivered]:
    names = [f"part-{index}" for index in range(of)]
    made = []
    for table, kit in (("breast_cancer", "clinic"), ("diabetes", "diabetes")):
        parts = folder / f".{table}"
        parts.mkdir(exist_ok=True)
        paths = split_table(table, names, parts, seed=_SPLIT_SEED)  # type: ignore[arg-type]
        path = folder / f"{kit}.csv"
        paths[names[number]].replace(path)
        for other in paths.values():
            other.unlink(missing_ok=True)
        parts.rmdir()
        planted = _plant_patients(path, number)
        made.append(Delivered(f"res.{key}.{kit}", kit, path, planted))  # type: ignore[arg-type]
    today = _today()
    district = DISTRICTS_BY_NUMBER[number % len(DISTRICTS_BY_NUMBER)]
    if number == 0:
        path = folder / "enterprises.csv"
        planted_firms = write_enterprise_register(path, ENTERPRISES, seed=11, district=district, as_of=today)
        made.append(Delivered(f"res.{key}.enterprises", "enterprises", path, _values(planted_firms.canaries)))
    if number == of - 1:
        path = folder / "persons.csv"
        planted_persons = write_person_register(path, PERSONS, seed=12, district=district, as_of=today)
        made.append(Delivered(f"res.{key}.persons", "persons", path, _values(planted_persons.canaries)))
    return made


def _open_data(folder: Path, key: str, number: int, of: int, data: Path) -> list[Delivered]:
    if of != len(HOSPITALS):
        raise SampleError(f"expected {len(HOSPITALS)} departments for the open tables, one per hospital")
    heart = folder / "heart.csv"
    heart.write_bytes(_read(data / "heart_disease_4site" / f"{HOSPITALS[number]}.csv"))
    fines = folder / "tax_penalty.csv"
    rows = list(csv.reader(io.StringIO(_read(data / "beijing_gov_open" / "swj_tax_penalty.csv").decode("utf-8-sig"))))
    _write_rows(fines, [rows[0], *rows[1 + number :: of]])
    made = [
        Delivered(f"res.{key}.heart", "heart", heart, ()),
        Delivered(f"res.{key}.fines", "tax_penalty", fines, ()),
    ]
    if number == 0:
        path = folder / "hightech.csv"
        path.write_bytes(_read(data / "beijing_gov_open" / "kw_haidian_hightech.csv.gz"))
        made.append(Delivered(f"res.{key}.hightech", "hightech", path, ()))
    return made


def _register(path: Path, serial: int) -> None:
    """Note the registration of the resource, as the registry's certificate would say it."""
    entry = read_entry(path)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3 * 365)
    registered = entry.model_copy(
        update={
            "registration_platform": "yunzhou-registry",
            "registration_code": f"GS-{datetime.now(UTC):%Y}-{serial:08d}",
            "registration_valid_until": f"{until:%Y-%m-%dT00:00:00Z}",
        }
    )
    path.write_text(registered.to_toml(), encoding="utf-8")


def _plant_patients(path: Path, number: int) -> tuple[str, ...]:
    """Give three patients recognisable numbers."""
    rows = _rows_of(path)
    planted = tuple(f"CANARY-{number}{path.stem.upper()}-{place:03d}" for place in range(1, 4))
    for place, text in enumerate(planted):
        rows[1 + place * 7][0] = text
    _write_rows(path, rows)
    return planted


def _repeat_keys(path: Path) -> None:
    """Enter some rows twice under the same key, a fault that the suites hold critical."""
    rows = _rows_of(path)
    _write_rows(path, [*rows, *rows[1 : 1 + FAULTY_ROWS]])


def _rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text("utf-8"))))


def _write_rows(path: Path, rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_text(text.getvalue(), "utf-8")


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SampleError(f"expected the open table {path.name} in {path.parent}: {error.strerror}") from error
    return gzip.decompress(content) if path.suffix == ".gz" else content


def _values(canaries: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """Return what identifies the planted rows: dates and short words occur elsewhere too."""
    return tuple(text for canary in canaries for text in canary.values() if len(text) >= 8 and text[4:5] != "-")


def _today() -> date:
    return datetime.now(UTC).date()


DISTRICTS_BY_NUMBER = tuple(DISTRICTS)
"""Names of the sample districts, in the order of department numbers."""
