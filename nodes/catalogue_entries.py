"""Catalogue entries: what a department says about one table, in ``catalogue/<id>.toml``.

An entry names the resource, its version, its columns with type, title and grade, its owner, how
often it is updated, under which attribute it may be operated, and where the table is stored.
Storage stays at the node: ``public_extract`` and the entry's digest leave it out.

    id = "res.north.clinic"
    version = 1
    name_zh = "乳腺检查登记"
    name_en = "Breast examinations"
    owner = "org.north.health"
    class = "health"
    grade = "important"                    # general | important | core
    update_frequency_days = 30
    operation_attribute = "conditional"    # open | conditional | prohibited, the last with the next two
    attribute_reason = ""
    legal_basis = ""
    level = "city"                         # province | city | county
    secrecy = "none"                       # anything else cannot be bound
    origin = "own"                         # own | shared, then with the organisation it was obtained from:
    provider = ""

    [eligibility]                          # the check for prohibited circumstances; without it nothing is granted
    checked_by = "法规处"
    checked_on = "2026-01-31"
    found = []                             # national_security | public_interest | trade_secret | personal_rights | …

    [storage]
    path = "tables/clinic.csv"             # relative to the node's home, or absolute
    format = "csv"                         # csv | parquet | excel | postgresql | mysql (also MariaDB)
    encoding = "utf-8"                     # utf-8 | gb18030 (csv only)
    sheet = ""                             # excel only; the first sheet if empty
    # instead of `path`, for a database; address and password stand in connections/<name>.toml, mode 0600
    connection = "registers"
    table = "public.clinic"

    [[columns]]
    name = "radius"
    type = "number"                        # text | integer | number | date
    title_zh = "半径"
    title_en = "Radius"
    identifier = false
    grade = "general"
    personal = "none"                      # none | personal | sensitive
"""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from nodes.contract import canonical
from nodes.contract.catalogue import Column, Eligibility, EntryExtract, Grade, Level
from nodes.contract.messages import Name, Part, Text
from nodes.contract.signing import sha256_hex
from nodes.errors import CatalogueError


class Storage(Part):
    """Where the table is; never leaves the node.

    Attributes:
        path: file, relative to the node's home or absolute; empty for a database.
        format: kind of file or of database.
        encoding: of a CSV file.
        sheet: of a workbook; the first if empty.
        connection: name of a connection file in the node's home, for a database; no secret stands here.
        table: ``table`` or ``schema.table`` of a database.
    """

    path: str = ""
    format: Literal["csv", "parquet", "excel", "postgresql", "mysql"] = "csv"
    encoding: Literal["utf-8", "gb18030"] = "utf-8"
    sheet: str = ""
    connection: Annotated[str, Field(pattern=r"^[a-z0-9_-]{0,64}$")] = ""
    table: str = ""

    @model_validator(mode="after")
    def _one_place(self) -> "Storage":
        if self.is_database != bool(self.connection and self.table) or self.is_database == bool(self.path):
            raise ValueError("a path for a file; connection and table for a database")
        if self.sheet and self.format != "excel":
            raise ValueError("a sheet only for excel")
        return self

    @property
    def is_database(self) -> bool:
        """Whether the table is on a database server."""
        return self.format in {"postgresql", "mysql"}


class CatalogueEntry(Part):
    """One catalogue entry; see the module text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    id: Name
    version: Annotated[int, Field(ge=1)]
    name_zh: Text
    name_en: Text
    owner: Name
    data_class: Annotated[str, Field(alias="class", min_length=1, max_length=200)]
    grade: Grade
    update_frequency_days: Annotated[int, Field(ge=1, le=36_500)]
    operation_attribute: Literal["", "open", "conditional", "prohibited"] = ""
    attribute_reason: str = ""
    legal_basis: str = ""
    level: Level = "city"
    secrecy: Literal["none", "confidential", "secret", "top_secret"] = "none"
    origin: Literal["own", "shared"] = "own"
    provider: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9._:-]{0,95})?$")] = ""
    eligibility: Eligibility | None = None
    registration_platform: str = ""
    registration_code: str = ""
    registration_valid_until: str = ""
    storage: Storage
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=2000, strict=False)]

    @model_validator(mode="after")
    def _unique_columns(self) -> "CatalogueEntry":
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError("each column once")
        if (self.origin == "shared") != bool(self.provider):
            raise ValueError("a provider for shared data, and for no other")
        if self.operation_attribute == "prohibited" and not (self.attribute_reason and self.legal_basis):
            raise ValueError("a reason and a legal basis for what is kept out of authorised operation")
        return self

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns in the table's order."""
        return tuple(column.name for column in self.columns)

    @property
    def schema_sha256(self) -> str:
        """Digest of column names and types in order."""
        return sha256_hex(canonical.dumps({"columns": [{"name": c.name, "type": c.type} for c in self.columns]}))

    def path_in(self, home: Path) -> Path:
        """Return where the table's file is; of a database its connection file."""
        if self.storage.is_database:
            return home / "connections" / f"{self.storage.connection}.toml"
        path = Path(self.storage.path)
        return path if path.is_absolute() else home / path

    def public_extract(self) -> dict[str, Any]:
        """Return what others may read of the entry.

        Privacy: names, types, class and grade of columns; no address, no sample, no count.
        """
        return {
            "id": self.id,
            "version": self.version,
            "name_zh": self.name_zh,
            "name_en": self.name_en,
            "owner": self.owner,
            "class": self.data_class,
            "grade": self.grade,
            "update_frequency_days": self.update_frequency_days,
            "operation_attribute": self.operation_attribute,
            "attribute_reason": self.attribute_reason,
            "legal_basis": self.legal_basis,
            "level": self.level,
            "secrecy": self.secrecy,
            "origin": self.origin,
            "provider": self.provider,
            "eligibility": self.eligibility.model_dump(mode="json") if self.eligibility else None,
            "schema_sha256": self.schema_sha256,
            "columns": [column.model_dump(mode="json") for column in self.columns],
        }

    @property
    def extract(self) -> EntryExtract:
        """The public extract as the contract's model."""
        return EntryExtract.read(self.public_extract())

    @property
    def digest_hex(self) -> str:
        """Digest of the canonical public extract; names the entry in resource statements."""
        return sha256_hex(canonical.dumps(self.public_extract()))

    def to_toml(self) -> str:
        """Return the entry as the text of its file."""
        top: list[str] = []
        for field, value in self.model_dump(
            mode="json", by_alias=True, exclude={"storage", "columns", "eligibility"}
        ).items():
            if value != "":
                top.append(f"{field} = {_toml(value)}")
        if self.eligibility:
            checked = self.eligibility.model_dump(mode="json")
            top += ["", "[eligibility]", *(f"{k} = {_toml(v)}" for k, v in checked.items())]
        top += ["", "[storage]", *(f"{k} = {_toml(v)}" for k, v in self.storage.model_dump(mode="json").items() if v)]
        for column in self.columns:
            top += ["", "[[columns]]", *(f"{k} = {_toml(v)}" for k, v in column.model_dump(mode="json").items())]
        return "\n".join(top) + "\n"


def parse_entry(document: Mapping[str, Any], *, source: str) -> CatalogueEntry:
    """Check a catalogue document.

    Raises:
        CatalogueError: a missing, wrong or unknown field.
    """
    try:
        return CatalogueEntry.model_validate(dict(document))
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, item["loc"])) or "entry" for item in error.errors()})[:5])
        raise CatalogueError(
            f"{source}: expected a catalogue entry; wrong, missing or unknown: {where}. Correct it and bind it again"
        ) from None


def read_entry(path: Path) -> CatalogueEntry:
    """Read one entry's file.

    Raises:
        CatalogueError: no file, no TOML, or no valid entry.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogueError(f"{path.name}: expected a readable TOML file in UTF-8 ({type(error).__name__})") from error
    return parse_entry(document, source=path.name)


def read_catalogue(folder: Path) -> dict[str, CatalogueEntry]:
    """Read every entry of a node's ``catalogue`` folder by resource id.

    Raises:
        CatalogueError: a broken entry, or two entries of one id.
    """
    entries: dict[str, CatalogueEntry] = {}
    for path in sorted(folder.glob("*.toml")):
        entry = read_entry(path)
        if entry.id in entries:
            raise CatalogueError(f"{path.name}: expected each resource once, {entry.id} stands twice")
        entries[entry.id] = entry
    return entries


def file_name(resource: str) -> str:
    """Return the file name of a resource's entry."""
    return re.sub(r"[^a-z0-9._-]", "_", resource) + ".toml"


def _toml(value: object) -> str:
    # TOML basic strings, integers and booleans are spelt as in JSON.
    return json.dumps(value, ensure_ascii=False)
