"""A node's home: settings, keys, enrolment, catalogue files, trust files, and the commands."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from nodes import cli, enrolment
from nodes.binding import bind_entry
from nodes.catalogue_entries import read_entry
from nodes.contract.enrolment import Admission, Enrolment, open_enrolment, sign_enrolment
from nodes.contract.errors import BadSignatureError, MalformedError
from nodes.contract.signing import SigningKey
from nodes.contract.trust import Actors, Status
from nodes.errors import CatalogueError, EnrolmentError, KeyFileError, NodeError, SettingsError, TrustError
from nodes.keys import load_keys, make_keys
from nodes.settings import NodeSettings, load_settings, settings_toml
from nodes.trust_store import TrustStore, verify_repository
from tests.node_world import NOW, Agency, entry, write_table


class Office:
    """The agency's side of an enrolment, as small as can be."""

    def __init__(self):
        self.agency, self.actors = Agency(), []
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ca")])
        self.ca = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=900))
            .sign(self.key, hashes.SHA256())
        )

    def admit(self, data, *, now=NOW, days=300):
        enrolled = open_enrolment(data)
        self.actors = [a.model_copy(update={"not_after": now}) if a.id == enrolled.id else a for a in self.actors]
        self.actors.insert(0, enrolled.to_actor(not_before=now, not_after=now + timedelta(days=days)))
        request = x509.load_pem_x509_csr(enrolled.tls_csr.encode())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(self.ca.subject)
            .public_key(request.public_key())
            .serial_number(2)
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=days))
            .sign(self.key, hashes.SHA256())
        )
        files = self.agency.publish(
            Actors(actors=tuple(self.actors)),
            Status(items=()),
            extra={"ca.crt": self.ca.public_bytes(serialization.Encoding.PEM)},
        )
        return Admission.from_files(
            enrolled.id, certificate.public_bytes(serialization.Encoding.PEM).decode(), files
        ).to_bytes()


@pytest.fixture
def office():
    return Office()


@pytest.fixture
def settings(tmp_path):
    return NodeSettings(
        tmp_path / "east", "node-east", "org.east", "云东区", "East", "127.0.0.1:1", "https://127.0.0.1:2"
    )


def test_enrolment_and_admission_bring_a_node_into_force(office, settings):
    path = enrolment.init_home(settings, office.agency.root, now=NOW)
    enrolment.install_admission(settings, office.admit(path.read_bytes()), now=NOW)
    assert load_settings(settings.home) == settings
    assert (settings.certs / "tls.crt").exists()
    assert TrustStore(settings.trust).current().actors.actors[0].id == "node-east"
    with pytest.raises(EnrolmentError, match="no node"):
        enrolment.init_home(settings, office.agency.root, now=NOW)


def test_an_enrolment_signed_by_another_key_is_refused(office, settings):
    data = enrolment.init_home(settings, office.agency.root, now=NOW).read_bytes()
    enrolled = open_enrolment(data)
    with pytest.raises(BadSignatureError):
        open_enrolment(sign_enrolment(enrolled, SigningKey(ec.generate_private_key(ec.SECP256R1()))))


def test_a_request_for_another_name_is_refused(office, settings):
    key = load_keys_after(office, settings)
    enrolled = open_enrolment((settings.home / "enrolment.json").read_bytes())
    with pytest.raises(MalformedError, match="node-west"):
        open_enrolment(sign_enrolment(enrolled.model_copy(update={"id": "node-west"}), key))


def load_keys_after(office, settings):
    enrolment.init_home(settings, office.agency.root, now=NOW)
    return load_keys(settings.keys).statement


def test_an_answer_for_another_node_or_other_keys_is_refused(office, settings, tmp_path):
    enrolment.init_home(settings, office.agency.root, now=NOW)
    other = NodeSettings(tmp_path / "west", "node-west", "org.west", "云西区", "West")
    answer = office.admit(enrolment.init_home(other, office.agency.root, now=NOW).read_bytes())
    with pytest.raises(EnrolmentError, match="node-west"):
        enrolment.install_admission(settings, answer, now=NOW)
    forged = Admission.from_bytes(answer).model_copy(update={"id": "node-east"}).to_bytes()
    with pytest.raises(EnrolmentError, match="keys of this home"):
        enrolment.install_admission(settings, forged, now=NOW)


def test_an_answer_of_another_agency_is_refused(office, settings):
    data = enrolment.init_home(settings, office.agency.root, now=NOW).read_bytes()
    with pytest.raises(TrustError):
        enrolment.install_admission(settings, Office().admit(data), now=NOW)


def test_a_rotation_is_endorsed_by_the_old_key_and_switches_when_admitted(office, settings):
    enrolment.install_admission(
        settings, office.admit(enrolment.init_home(settings, office.agency.root, now=NOW).read_bytes()), now=NOW
    )
    before = load_keys(settings.keys)
    data = enrolment.rotate_keys(settings, now=NOW).read_bytes()
    assert load_keys(settings.keys).statement.public == before.statement.public
    assert open_enrolment(data, previous=before.statement.public).previous_keyid == before.statement.public.keyid
    with pytest.raises(BadSignatureError):
        open_enrolment(data, previous=SigningKey(ec.generate_private_key(ec.SECP256R1())).public)
    later = NOW + timedelta(hours=1)
    enrolment.install_admission(settings, office.admit(data, now=later), now=later)
    after = load_keys(settings.keys)
    assert after.statement.public != before.statement.public
    assert after.commitment == before.commitment
    assert not (settings.keys / "next").exists()


@pytest.mark.parametrize(
    ("name", "mode"), [("statement.pem", 0o640), ("sealing.pem", 0o604), ("commitment.key", 0o660)]
)
def test_a_key_that_others_may_read_is_refused(tmp_path, name, mode):
    make_keys(tmp_path / "keys")
    (tmp_path / "keys" / name).chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_keys(tmp_path / "keys")


def test_a_key_folder_that_others_may_enter_is_refused(tmp_path):
    make_keys(tmp_path / "keys")
    (tmp_path / "keys").chmod(0o755)
    with pytest.raises(KeyFileError, match="chmod 700"):
        load_keys(tmp_path / "keys")


def test_no_key_shows_in_a_repr(tmp_path):
    make_keys(tmp_path / "keys")
    assert repr(load_keys(tmp_path / "keys")) == "NodeKeys()"


def test_a_wrong_key_is_refused(tmp_path):
    make_keys(tmp_path / "keys")
    shutil.copy(tmp_path / "keys/hub.pem", tmp_path / "keys/statement.pem")
    with pytest.raises(KeyFileError, match="P-256"):
        load_keys(tmp_path / "keys")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("rows_min = 0", "rows_min"),
        ('planes = ["pigeon"]', "planes"),
        ("rows_mim = 3", "rows_mim"),
        ('workers = "4"', "workers"),
        ("quality_required = 1", "quality_required"),
        ("= 3", "TOML"),
    ],
)
def test_a_wrong_setting_is_named(settings, line, name):
    settings.home.mkdir()
    text = "\n".join(row for row in settings_toml(settings).splitlines() if row.split(" =")[0] != line.split(" =")[0])
    (settings.home / "node.toml").write_text(f"{text}\n{line}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=name):
        load_settings(settings.home)


def test_a_catalogue_entry_survives_its_file(tmp_path):
    (tmp_path / "e.toml").write_text(entry().to_toml(), encoding="utf-8")
    assert read_entry(tmp_path / "e.toml") == entry()


@pytest.mark.parametrize("change", ['version = "1"', "nothing = 1", 'grade = "secret"'])
def test_a_broken_catalogue_entry_names_the_field(tmp_path, change):
    field = change.split(" =")[0]
    text = "\n".join(row for row in entry().to_toml().splitlines() if not row.startswith(f"{field} ="))
    (tmp_path / "e.toml").write_text(f"{change}\n{text}\n", encoding="utf-8")
    with pytest.raises(CatalogueError, match=field):
        read_entry(tmp_path / "e.toml")


def test_an_entry_that_changed_needs_a_new_version(world):
    changed = world.entry.model_copy(update={"name_zh": "别的"})
    with pytest.raises(CatalogueError, match="version 2"):
        bind_entry(world.settings, changed, books=world.books)
    assert bind_entry(world.settings, changed.model_copy(update={"version": 2}), books=world.books).version == 2


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json", "actors.json", "status.json"])
def test_any_altered_or_missing_trust_file_is_refused(world, name):
    files = dict(world.trust.current().files)
    (key,) = [candidate for candidate in files if candidate.endswith(name)]
    altered = {**files, key: files[key][:20] + bytes([files[key][20] ^ 1]) + files[key][21:]}
    with pytest.raises(TrustError):
        verify_repository(altered, world.agency.root)
    del altered[key]
    with pytest.raises(TrustError):
        verify_repository(altered, world.agency.root)


def test_an_update_that_expired_is_refused_and_changes_nothing(world):
    before = world.trust.current().versions
    with pytest.raises(TrustError, match="expired"):
        world.trust.update(world.publish(), now=NOW + timedelta(days=8))
    assert TrustStore(world.settings.trust).current().versions == before


def test_a_kill_between_the_two_renames_of_an_update_loses_nothing(world):
    folder = world.settings.trust
    (folder / "repository").rename(folder / "repository.old")
    assert TrustStore(folder).current().versions["timestamp"] == 1


# Commands

run = CliRunner()


def call(*arguments, code=0):
    done = run.invoke(cli.app, list(arguments))
    assert done.exit_code == code or (code == 1 and isinstance(done.exception, NodeError)), (
        done.output,
        done.exception,
    )
    return done


def test_the_commands_make_bind_and_list(office, tmp_path):
    home = str(tmp_path / "east")
    (tmp_path / "1.root.json").write_bytes(office.agency.root)
    made = call(
        "init",
        "--home",
        home,
        "--id",
        "node-east",
        "--organisation",
        "org.east",
        "--title-zh",
        "云东区",
        "--title-en",
        "East",
        "--root",
        str(tmp_path / "1.root.json"),
        "--plane",
        "relay",
        "--json",
    )
    assert json.loads(made.output)["id"] == "node-east"
    assert open_enrolment((tmp_path / "east/enrolment.json").read_bytes()).roles == ("node",)
    write_table(tmp_path / "clinic.csv")
    (tmp_path / "clinic.toml").write_text(entry().to_toml(), encoding="utf-8")
    call("bind", str(tmp_path / "clinic.toml"), "--home", home, code=1)
    call("bind", str(tmp_path / "clinic.toml"), "--table", str(tmp_path / "clinic.csv"), "--home", home)
    listed = json.loads(call("catalogue", "--home", home, "--json").output)
    assert [(item["id"], item["state"]) for item in listed] == [("res.east.clinic", "unassessed")]
    assert json.loads(call("ledger", "verify", "--home", home, "--json").output) == {"entries": 1, "valid": True}
    assert json.loads(call("grants", "list", "--home", home, "--json").output) == []
    call("status", "--home", home, code=1)
    call("up", "--home", home, code=1)


def test_grants_are_decided_by_command(world):
    world.settings.home.joinpath("node.toml").write_text(settings_toml(world.settings), encoding="utf-8")
    world.install_grant(approve=False)
    home = str(world.home)
    assert json.loads(call("grants", "show", "g-1", "--home", home, "--json").output)["problems"] == []
    assert (
        json.loads(call("grants", "approve", "g-1", "--reason", "同意", "--home", home, "--json").output)["state"]
        == "approved"
    )
    call("grants", "reject", "g-1", "--home", home, code=1)
    assert json.loads(call("budget", "--home", home, "--json").output)[0]["uses_max"] == 3
    assert json.loads(call("grants", "revoke", "g-1", "--home", home, "--json").output)["state"] == "revoked"
    call("grants", "approve", "g-none", "--home", home, code=1)


def test_doctor_names_each_fault_with_a_next_step(world):
    from nodes.doctor import examine

    (world.settings.keys / "tls.pem").chmod(0o644)
    world.books.note("skew.operator", "301")
    (world.home / "tables/clinic.csv").unlink()
    lines = {line.name: line for line in examine(world.settings, now=NOW + timedelta(days=6, hours=12))}
    assert lines["keys/tls.pem"].level == "fail"
    assert "chmod" in lines["keys/tls.pem"].en
    assert lines["keys/hub.pem"].level == "ok"
    assert lines["certs/tls.crt"].level == "fail"
    assert lines["trust"].level == "warn"
    assert lines["clock/operator"].level == "fail"
    assert lines["table/res.east.clinic"].level == "fail"
    assert lines["hub"].level == "fail"
    assert lines["relay"].level == "fail"
    assert lines["books"].level == "ok"


def test_an_enrolment_names_its_roles_and_keys(office, settings):
    enrolled = open_enrolment(enrolment.init_home(settings, office.agency.root, now=NOW).read_bytes())
    assert isinstance(enrolled, Enrolment)
    assert len(enrolled.tls_spki_sha256) == 64
    assert enrolled.made_at == NOW == datetime(2026, 6, 1, 8, tzinfo=UTC)
