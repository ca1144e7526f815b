"""The two halves of the trust data: what the agency's office publishes, the verifier reads."""

import hashlib
from pathlib import Path

import pytest

from factory.agency.office import create_office
from products.errors import ProductError
from products.package.reading import read_trust
from products.repository import open_repository
from products.trust import DEFAULT_RELEASE_POLICY
from tests import offices, package_fixture


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    registrars = [offices.person(tmp_path, f"registrar-{i}", "data-bureau", "registrar") for i in (1, 2)]
    office = create_office(
        tmp_path / "agency",
        actor_id="agency",
        organisation="data-bureau",
        title_zh="实施机构",
        title_en="Implementing agency",
        registrars=[(r.home / "enrolment.json").read_bytes() for r in registrars],
        registrar_trust_keys=[(r.home / offices.TRUST_PUBLIC).read_bytes() for r in registrars],
        root_folders=[tmp_path / f"root-{i}" for i in (1, 2, 3)],
        release_policy=DEFAULT_RELEASE_POLICY.to_bytes(),
        tlog_policy=package_fixture.tlog_policy(),
        accept_proposed=True,
        now=offices.NOW,
    )
    offices.World(tmp_path, office, registrars).publish()
    return read_trust(office.trust_folder)


def test_the_agencys_repository_is_read_from_its_pinned_root(files: dict[str, bytes]) -> None:
    root_sha256 = hashlib.sha256(files["metadata/1.root.json"]).hexdigest()
    trust = open_repository(files, root_sha256=root_sha256)
    assert {actor.id for actor in trust.actors.actors} == {"agency", "registrar-1", "registrar-2"}
    assert trust.release_policy == DEFAULT_RELEASE_POLICY
    trust.require_current(offices.NOW)


def test_every_single_altered_file_of_it_is_refused(files: dict[str, bytes]) -> None:
    root_sha256 = hashlib.sha256(files["metadata/1.root.json"]).hexdigest()
    for name, data in files.items():
        with pytest.raises(ProductError):
            open_repository({**files, name: data + b" "}, root_sha256=root_sha256)
