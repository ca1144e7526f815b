"""An agency with two registrars and whatever actors a test needs, made from real keys in a folder."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from factory.agency.interface import record_interface
from factory.agency.office import Office, create_office, open_office, sign_trust
from factory.agency.protection import record_protection
from factory.identity import TRUST_PUBLIC, Identity, create_identity, install_admission
from nodes.contract.enrolment import open_enrolment

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


@dataclass
class World:
    folder: Path
    office: Office
    registrars: list[Identity]
    others: dict[str, Identity] = field(default_factory=dict)

    def publish(self) -> int:
        for registrar in self.registrars:
            sign_trust(registrar, self.office.trust_folder, now=self.office.now())
        return self.office.publish()

    def add(self, actor_id: str, organisation: str, *roles: str) -> Identity:
        identity = person(self.folder, actor_id, organisation, *roles, root=self.office.root())
        if "node" in roles:
            ready(self.office, (identity.home / "enrolment.json").read_bytes())
        self.office.admit((identity.home / "enrolment.json").read_bytes())
        self.others[actor_id] = identity
        return identity

    def install(self, now: datetime | None = None) -> None:
        for identity in self.others.values():
            install_admission(identity, self.office.response(identity.id), now=now or self.office.now())

    def at(self, moment: datetime) -> None:
        self.office = open_office(self.office.home, now=moment)


def protect(office: Office, node: str, *, days: int = 800) -> Path:
    """Record the protection grade of a node, so that it may join."""
    return record_protection(
        office.identity, node, grade=3, report=b"report", tester="tester", official="official",
        until=office.now() + timedelta(days=days), now=office.now(),
    )  # fmt: skip


def ready(office: Office, enrolment: bytes) -> None:
    """Record what a node joins with: its protection grade, and that it passed the interface test."""
    bundle = open_enrolment(enrolment)
    protect(office, bundle.id)
    record_interface(office.identity, bundle, answer=b"passed", now=office.now())


def person(folder: Path, actor_id: str, organisation: str, *roles: str, root: bytes | None = None) -> Identity:
    return create_identity(
        folder / actor_id,
        actor_id=actor_id,
        organisation=organisation,
        title_zh=f"测试 {actor_id}",
        title_en=actor_id,
        roles=roles,  # type: ignore[arg-type]
        root=root,
        now=NOW,
    )


def world(folder: Path, *, now: datetime = NOW) -> World:
    registrars = [person(folder, f"registrar-{i}", "data-bureau", "registrar") for i in (1, 2)]
    office = create_office(
        folder / "agency",
        actor_id="agency",
        organisation="data-bureau",
        title_zh="实施机构",
        title_en="Implementing agency",
        registrars=[(r.home / "enrolment.json").read_bytes() for r in registrars],
        registrar_trust_keys=[(r.home / TRUST_PUBLIC).read_bytes() for r in registrars],
        root_folders=[folder / f"root-{i}" for i in (1, 2, 3)],
        release_policy=b"{}",
        tlog_policy=b"quorum none\n",
        accept_proposed=True,
        now=now,
    )
    return World(folder, office, registrars)
