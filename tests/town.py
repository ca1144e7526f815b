"""An agency and departments with real homes in one folder, run by their own commands in this process."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from factory import cli as factory_cli
from factory.agency.catalogue import Catalogue
from factory.agency.rulings import Rulings
from factory.lifecycle.request import Ruling
from factory.registry.request import read_agreement, read_request
from factory.registry.store import Registry
from nodes import cli as node_cli
from nodes.binding import bind_entry
from nodes.books import Books, ResourceRecord
from nodes.catalogue_entries import CatalogueEntry, parse_entry
from nodes.contract import wire
from nodes.contract.catalogue import EntryExtract, SourceReview
from nodes.contract.errors import ContractError
from nodes.contract.signing import SigningKey, sha256_hex, sign
from nodes.contract.statement import CATALOGUE_ENTRY, PAYLOAD_TYPE, SOURCE_REVIEW, statement
from nodes.enrolment import init_home, install_admission
from nodes.errors import NodeError
from nodes.keys import load_keys
from nodes.settings import NodeSettings
from nodes.tables import commitment, fingerprint
from tests import offices, request_texts

COLUMNS = ("age", "target", "name")
FINDINGS = {"reasonable": "yes", "compliant": "yes", "secure": "yes"}


def entry_document(resource: str, owner: str, **changes: Any) -> dict[str, Any]:
    """Return a catalogue document in scope, with whatever is changed."""
    return {
        "id": resource, "version": 1, "name_zh": "门诊登记", "name_en": "clinic", "owner": owner, "class": "health",
        "grade": "general", "update_frequency_days": 30, "operation_attribute": "conditional",
        "eligibility": {"checked_by": "office", "checked_on": "2026-01-05", "found": []},
        "storage": {"path": "tables/clinic.csv"},
        "columns": [
            {"name": name, "type": "text" if name == "name" else "integer", "grade": "general"} for name in COLUMNS
        ],
        **changes,
    }  # fmt: skip


def parcel_of(value: dict[str, Any], key: SigningKey, *, review: bool | EntryExtract = True) -> bytes:
    """Sign an extract as a department's node would, with a review unless none is wanted."""
    from nodes.contract import canonical

    digest = sha256_hex(canonical.dumps(value))
    subject = [(f"resource/{value['id']}@{value['version']}", digest)]
    envelope = sign(key, PAYLOAD_TYPE, statement(CATALOGUE_ENTRY, subject, value))
    if review is False:
        return wire.pack(envelope)
    said = SourceReview(
        resource=value["id"], version=value["version"], entry_sha256=digest, reviewer="officer", compliance="yes",
        security="yes", reviewed_at=datetime.now(UTC),
    )  # fmt: skip
    signed = sign(key, PAYLOAD_TYPE, statement(SOURCE_REVIEW, subject, said.model_dump(mode="json")))
    return wire.pack(envelope, (signed.to_bytes(),))


def catalogue_entries(office: Any, registry: Registry, nodes: dict[str, tuple[SigningKey, str]]) -> None:
    """Enter ``res.<name>.clinic`` of every department into the catalogue and confirm it."""
    desk = Catalogue(office, registry)
    for name, (key, organisation) in nodes.items():
        resource = f"res.{name}.clinic"
        desk.take(parcel_of(parse_entry(entry_document(resource, organisation), source="t").public_extract(), key))
        desk.confirm(resource, official="official")


@dataclass
class Done:
    """What a command did."""

    exit_code: int
    output: str
    error: BaseException | None

    def ok(self) -> Any:
        assert self.exit_code == 0, (self.output, self.error)
        return json.loads(self.output)

    @property
    def said(self) -> str:
        return f"{self.output}{self.error or ''}"


@dataclass
class Department:
    """One department's home."""

    settings: NodeSettings
    books: Books

    @property
    def key(self) -> SigningKey:
        return load_keys(self.settings.keys).statement


@dataclass
class Town:
    """Agency, registrars and departments."""

    folder: Path
    names: tuple[str, ...] = ("east", "west", "north")
    world: offices.World = field(init=False)
    departments: dict[str, Department] = field(default_factory=dict)
    registry: Registry = field(init=False)

    def __post_init__(self) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        self.world = offices.world(self.folder, now=now)
        self.operator = self.world.add("operator", "operator-ltd", "operator")
        for name in self.names:
            settings = NodeSettings(
                self.folder / f"node-{name}", f"node-{name}", f"dept-{name}", name, name, planes=("relay",)
            )
            init_home(settings, self.world.office.root(), now=now)
            offices.ready(self.world.office, (settings.home / "enrolment.json").read_bytes())
            self.world.office.admit((settings.home / "enrolment.json").read_bytes())
            self.departments[name] = Department(settings, Books(settings.books))
        self.world.publish()
        for name, department in self.departments.items():
            install_admission(department.settings, self.world.office.response(f"node-{name}"), now=now)
        self.registry = Registry.at(self.folder / "agency" / "registry.db")

    # Commands

    def node(self, name: str, *words: object) -> Done:
        """Run a command of a department on its home."""
        home = str(self.departments[name].settings.home)
        return run(node_cli.app, *words, "--home", home, "--json")

    def agency(self, *words: object) -> Done:
        """Run a command of the agency on its home."""
        return run(factory_cli.app, "agency", *words, "--home", str(self.folder / "agency"), "--json")

    def publish(self) -> None:
        """Have both registrars sign what waits, publish, and bring it to every node."""
        self.world.publish()
        for name in self.names:
            self.node(name, "trust", "update", self.folder / "agency" / "trust")

    # Tables and entries

    def lay(self, name: str, rows: int = 40, **changes: Any) -> CatalogueEntry:
        """Lay a table and bind its entry at a department, assessed."""
        department = self.departments[name]
        table = department.settings.home / "tables" / "clinic.csv"
        table.parent.mkdir(exist_ok=True)
        document = entry_document(f"res.{name}.clinic", f"dept-{name}", **changes)
        columns = [column["name"] for column in document["columns"]]
        values = [{"age": str(20 + i % 60), "target": str(i % 2), "name": f"人{i:04d}"} for i in range(rows)]
        lines = [",".join(columns), *(",".join(value[column] for column in columns) for value in values)]
        table.write_text("\n".join(lines) + "\n", "utf-8")
        entry = bind_entry(department.settings, parse_entry(document, source="test"), books=department.books)
        self.assess(name, entry)
        return entry

    def assess(self, name: str, entry: CatalogueEntry, **changes: Any) -> None:
        """Write down a passed quality run."""
        department = self.departments[name]
        now = datetime.now(UTC)
        record = ResourceRecord(
            entry.id, entry.version, "active", "", entry.schema_sha256,
            commitment(entry, department.settings.home, load_keys(department.settings.keys).commitment),
            fingerprint(entry, department.settings.home), 9500, "A", "aa" * 32, "bb" * 32, now, now + timedelta(days=30),
        )  # fmt: skip
        department.books.keep_resource(replace(record, **changes), kind="resource.assessed")

    def offer(self, name: str, **changes: Any) -> Path:
        """Lay, review and submit an entry; return its file."""
        self.lay(name, **changes)
        return self.submit(name)

    def submit(self, name: str) -> Path:
        """Review and submit what a department has; return the file of its clinic entry."""
        out = self.folder / "offered" / name
        found = ("--reviewer", "赵敏", "--compliance", "可", "--security", "可")
        assert self.node(name, "entry", "review", *found).exit_code == 0
        done = self.node(name, "entry", "submit", "--out", out)
        assert done.exit_code == 0, done.said
        return out / f"res.{name}.clinic.entry"

    def catalogued(self, *names: str, **changes: Any) -> None:
        """Bring entries of departments into scope."""
        for name in names or self.names:
            self.agency("catalogue", "take", self.offer(name, **changes)).ok()
        self.agency("catalogue", "confirm", "--official", "王芳").ok()

    # Requests

    def agree(self) -> None:
        """File the agreement."""
        text = request_texts.AGREEMENT
        Rulings(self.world.office, self.registry).add_agreement(read_agreement(text), official="official")

    def request(self, **changes: Any) -> Any:
        """Submit a data request of the operator."""
        request = read_request(request_texts.request_text(**changes), operator="operator", now=self.now())
        return Rulings(self.world.office, self.registry).submit(request.to_payload(), sender="operator")

    def rule(self, request_id: str, **changes: Any) -> Any:
        """Approve a request."""
        ruling = Ruling("official", "data-bureau", True, FINDINGS, "needed")
        return Rulings(self.world.office, self.registry).rule(request_id, replace(ruling, **changes))

    def now(self) -> datetime:
        """The time, to the second."""
        return datetime.now(UTC).replace(microsecond=0)

    def close(self) -> None:
        """Close what is open."""
        self.registry.close()
        for department in self.departments.values():
            department.books.close()


def run(app: Any, *words: object) -> Done:
    """Run a command in this process."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    error = done.exception if not isinstance(done.exception, SystemExit) else None
    if error is not None and not isinstance(error, NodeError | ContractError | factory_cli.FactoryError):
        raise error
    return Done(done.exit_code, done.output, error)


__all__ = ["Done", "Town", "catalogue_entries", "parcel_of", "run"]
