"""Trust data: who may change it, and what every reader refuses."""

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from factory.agency import trust_repository
from factory.agency.errors import (
    AdmissionRefusedError,
    AgencyExistsError,
    NothingPendingError,
    RootRefusedError,
    SignatureMissingError,
)
from factory.agency.office import open_office, rotate_root, sign_trust
from factory.identity import (
    TRUST_PUBLIC,
    AdmissionError,
    create_identity,
    install_admission,
    load_identity,
    pin_root,
    rotate_identity,
)
from factory.key_files import HomeExistsError, HomeMissingError, UnsafeKeyFileError
from factory.trust import (
    TrustExpiredError,
    TrustInvalidError,
    TrustMissingError,
    TrustRollbackError,
    load_trust,
    read_trust_folder,
    verify_trust,
    write_trust_folder,
)
from nodes.contract.errors import BadSignatureError, MalformedError, UnknownActorError
from nodes.contract.trust import StatusItem
from tests.offices import NOW, person


def test_one_registrar_alone_publishes_nothing(world):
    sign_trust(world.registrars[0], world.office.trust_folder, now=NOW)
    with pytest.raises(SignatureMissingError):
        world.office.publish()
    with pytest.raises(TrustMissingError):
        world.office.trust()


def test_one_registrar_signing_twice_counts_once(world):
    for _ in range(2):
        sign_trust(world.registrars[0], world.office.trust_folder, now=NOW)
    with pytest.raises(SignatureMissingError):
        world.office.publish()


def test_a_signature_does_not_carry_over_to_another_proposal(world, tmp_path):
    for registrar in world.registrars:
        sign_trust(registrar, world.office.trust_folder, now=NOW)
    world.add("operator", "operator-ltd", "operator")
    with pytest.raises(SignatureMissingError):
        world.office.publish()


def test_a_registrar_refuses_files_that_the_list_does_not_name(world):
    path = world.office.trust_folder / "pending" / "targets" / "actors.json"
    path.write_bytes(path.read_bytes().replace(b"data-bureau", b"data-bureaux"))
    with pytest.raises(TrustInvalidError):
        sign_trust(world.registrars[0], world.office.trust_folder, now=NOW)


def test_a_person_who_is_no_registrar_cannot_sign(world, tmp_path):
    stranger = person(tmp_path, "stranger", "elsewhere", "registrar")
    with pytest.raises(TrustInvalidError):
        sign_trust(stranger, world.office.trust_folder, now=NOW)


def test_publishing_with_nothing_proposed_is_refused(world):
    world.publish()
    with pytest.raises(NothingPendingError):
        world.office.publish()


def test_an_agency_is_not_made_twice(world):
    with pytest.raises(AgencyExistsError):
        trust_repository.create_repository(world.office.trust_folder, b"{}")


def test_an_operator_s_organisation_has_no_reviewer(world, tmp_path):
    world.add("operator", "operator-ltd", "operator")
    with pytest.raises(AdmissionRefusedError, match="different organisations"):
        world.add("reviewer-x", "operator-ltd", "reviewer")


def test_an_operator_cannot_also_review(world, tmp_path):
    with pytest.raises(AdmissionRefusedError):
        world.add("operator", "operator-ltd", "operator", "reviewer")


def test_the_agency_s_organisation_cannot_become_an_operator(world, tmp_path):
    with pytest.raises(AdmissionRefusedError):
        world.add("operator", "data-bureau", "operator")


def test_an_id_is_given_once(world, tmp_path):
    world.add("operator", "operator-ltd", "operator")
    other = person(tmp_path / "again", "operator", "operator-ltd", "operator")
    with pytest.raises(AdmissionRefusedError, match="rotation"):
        world.office.admit((other.home / "enrolment.json").read_bytes())


def test_an_altered_bundle_is_refused(world, tmp_path):
    identity = person(tmp_path, "unit-1", "bank", "application_unit")
    data = bytearray((identity.home / "enrolment.json").read_bytes())
    data[data.index(b'"sig":"') + 20] ^= 1
    with pytest.raises((BadSignatureError, MalformedError)):
        world.office.admit(bytes(data))


def test_actors_learn_each_other_from_the_trust_data_alone(world):
    operator = world.add("operator", "operator-ltd", "operator")
    world.publish()
    world.install()
    trust = load_trust(operator.trust_path, now=NOW)
    assert trust.actors.find("registrar-2", role="registrar", moment=NOW).verify_key == world.registrars[1].key.public
    assert trust.versions == {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1}
    assert operator.tls_certificate_path.is_file()
    assert trust.target("ca.crt") == operator.ca_path.read_bytes()


def test_every_altered_byte_of_the_metadata_is_refused(world):
    world.publish()
    files = read_trust_folder(world.office.trust_folder)
    root = world.office.root()
    for name in files:
        for position in range(5, len(files[name]), 97):
            data = bytearray(files[name])
            data[position] ^= 4
            if name.endswith("1.root.json") or name.startswith("targets/"):
                with pytest.raises(TrustInvalidError):
                    verify_trust({**files, name: bytes(data)}, root=root, now=NOW)


def test_a_foreign_root_is_refused(world):
    world.publish()
    files = read_trust_folder(world.office.trust_folder)
    with pytest.raises(TrustInvalidError):
        verify_trust(files, root=world.office.root() + b"\n", now=NOW)


def test_stale_trust_data_is_refused_and_a_new_timestamp_helps(world):
    world.publish()
    late = NOW + timedelta(days=7, seconds=1)
    world.at(late)
    with pytest.raises(TrustExpiredError):
        world.office.trust()
    world.office.refresh()
    assert world.office.trust().versions["timestamp"] == 2


def test_older_trust_data_is_not_taken_back(world):
    operator = world.add("operator", "operator-ltd", "operator")
    world.publish()
    older = read_trust_folder(world.office.trust_folder)
    world.add("unit-1", "bank", "application_unit")
    world.publish()
    world.install()
    with pytest.raises(TrustRollbackError):
        write_trust_folder(operator.trust_path, older, now=NOW)


def test_a_rotation_needs_the_earlier_key(world, tmp_path):
    world.add("operator", "operator-ltd", "operator")
    world.publish()
    thief = person(tmp_path / "thief", "operator", "operator-ltd", "operator")
    with pytest.raises(BadSignatureError):
        world.office.rotate((thief.home / "enrolment.json").read_bytes())


def test_after_a_rotation_the_new_key_is_found_and_the_old_signatures_stay(world):
    operator = world.add("operator", "operator-ltd", "operator")
    world.publish()
    later = NOW + timedelta(days=30)
    new = rotate_identity(operator, now=later)
    world.at(later)
    world.office.refresh()
    world.office.rotate((operator.home / "enrolment.json").read_bytes())
    world.publish()
    actors = world.office.trust().actors
    assert actors.find("operator", role="operator", moment=later).verify_key == new.key.public
    assert actors.find("operator", role="operator", moment=NOW).verify_key == operator.key.public


def test_a_removed_actor_is_unknown_from_then_on_and_known_before(world):
    world.add("operator", "operator-ltd", "operator")
    world.publish()
    world.office.remove("operator")
    world.publish()
    actors = world.office.trust().actors
    with pytest.raises(UnknownActorError):
        actors.find("operator", role="operator", moment=NOW)
    assert actors.find("operator", role="operator", moment=NOW - timedelta(seconds=1)).id == "operator"


def test_a_revocation_is_never_lifted_and_a_suspension_is(world):
    for state, subject in (("revoked", "g-1"), ("suspended", "g-2")):
        world.office.set_status(
            StatusItem(subject_kind="grant", subject=subject, state=state, since=NOW, reason="test")
        )
    with pytest.raises(AdmissionRefusedError):
        world.office.clear_status("grant", "g-1")
    change = world.office.clear_status("grant", "g-2")
    assert change.status_added == ("grant g-1",)


def test_a_new_root_is_signed_by_the_old_and_the_new_keys(world, tmp_path):
    from factory.key_files import read_key_file
    from nodes.contract.signing import SigningKey

    world.publish()
    earlier = [SigningKey.from_pem(read_key_file(tmp_path / f"root-{i}" / "root.pem")).private for i in (1, 2, 3)]
    new = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    registrars = [r.trust_key.public_key() for r in world.registrars]
    args = {"registrars": registrars, "online": world.office.online, "now": NOW}
    current = world.office.root()
    with pytest.raises(Exception, match="root"):
        trust_repository.next_root(current, root_keys=new, earlier_root_keys=new, **args)
    data = trust_repository.next_root(current, root_keys=new, earlier_root_keys=earlier[:2], **args)
    trust_repository.publish_root(world.office.trust_folder, data)
    world.office.refresh()
    assert world.office.trust().versions["root"] == 2


def test_root_keys_are_replaced_by_two_of_the_old_and_readers_follow_from_their_pin(world, tmp_path):
    world.add("operator", "operator-ltd", "operator")
    world.publish()
    world.install()
    names = [(r.home / TRUST_PUBLIC).read_bytes() for r in world.registrars]
    old = [tmp_path / f"root-{i}" for i in (1, 2, 3)]
    new = [tmp_path / "new" / str(i) for i in (1, 2, 3)]
    for too_few in (old[:1], [old[0], old[0]]):
        with pytest.raises(RootRefusedError, match="2 of the root keys"):
            rotate_root(world.office, earlier=too_few, folders=new, registrar_trust_keys=names)
    assert not (tmp_path / "new").exists()
    assert rotate_root(world.office, earlier=old[1:], folders=new, registrar_trust_keys=names) == 2
    newer = [tmp_path / "newer" / str(i) for i in (1, 2, 3)]
    with pytest.raises(RootRefusedError):
        rotate_root(world.office, earlier=old[:2], folders=newer, registrar_trust_keys=names)
    operator = world.others["operator"]
    write_trust_folder(operator.trust_path, read_trust_folder(world.office.trust_folder), now=NOW)
    assert load_trust(operator.trust_path, now=NOW).versions["root"] == 2
    world.add("unit-1", "bank", "application_unit")
    assert world.publish() == 2


def test_key_files_that_others_can_read_are_refused(world):
    path = world.registrars[0].home / "keys" / "statement.pem"
    path.chmod(0o640)
    with pytest.raises(UnsafeKeyFileError, match="chmod 600"):
        load_identity(world.registrars[0].home)
    path.chmod(0o600)
    path.parent.chmod(0o755)
    with pytest.raises(UnsafeKeyFileError, match="chmod 700"):
        load_identity(world.registrars[0].home)


def test_a_key_file_that_is_a_link_is_refused(world):
    path = world.registrars[0].home / "keys" / "statement.pem"
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(UnsafeKeyFileError):
        load_identity(world.registrars[0].home)


def test_a_home_without_identity_is_named(tmp_path):
    with pytest.raises(HomeMissingError, match=r"identity\.toml"):
        load_identity(tmp_path)


def test_keys_are_never_overwritten(world):
    home = world.registrars[0].home
    with pytest.raises(HomeExistsError):
        create_identity(home, actor_id="a", organisation="b", title_zh="c", title_en="d", roles=("reviewer",), now=NOW)


def test_a_repr_shows_no_key(world):
    assert repr(world.registrars[0]) == "Identity(registrar-1)"
    assert "PRIVATE" not in repr(world.office)


def test_a_second_root_is_not_pinned_over_the_first(world, tmp_path):
    operator = world.add("operator", "operator-ltd", "operator")
    with pytest.raises(AdmissionError):
        pin_root(operator.home, b"{}")


def test_an_answer_for_somebody_else_is_not_installed(world):
    operator = world.add("operator", "operator-ltd", "operator")
    world.add("unit-1", "bank", "application_unit")
    world.publish()
    with pytest.raises(AdmissionError, match="answer for operator"):
        install_admission(operator, world.office.response("unit-1"), now=NOW)


def test_there_is_no_answer_before_publication(world):
    world.publish()
    world.add("operator", "operator-ltd", "operator")
    with pytest.raises(NothingPendingError):
        world.office.response("operator")


def test_the_office_opens_again_and_installs_its_own_certificate(world):
    world.publish()
    office = open_office(world.office.home, now=NOW)
    office.install_own()
    assert office.identity.tls_certificate_path.is_file()
