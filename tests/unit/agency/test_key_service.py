"""The key service, mounted in the agency's service."""

import pytest

from factory.agency.serve import build_service
from factory.errors import NodeRefusedError
from tests.offices import NOW
from tests.unit.agency.test_requests import Bus, Desk


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    desk.bus = Bus(build_service(desk.world.office, desk.registry, key_service=True).handle)
    yield desk
    desk.registry.close()


def test_a_sum_is_not_opened_for_an_application_unit(desk):
    with pytest.raises(NodeRefusedError, match="not for unit-1"):
        desk.client(desk.unit).ask("he.decrypt", {})


def test_a_request_to_decrypt_without_evidence_is_refused(desk):
    with pytest.raises(NodeRefusedError, match=r"request\.malformed"):
        desk.client().ask("he.decrypt", {})


def test_no_key_is_made_for_an_application_unit(desk):
    with pytest.raises(NodeRefusedError, match="not for unit-1"):
        desk.client(desk.unit).ask("he.public_key", {"session_id": "s-1"})


def test_an_operator_gets_the_certified_public_key_of_its_session(desk):
    from nodes.contract.messages import parse
    from nodes.contract.signing import Envelope, sha256_hex
    from nodes.contract.tasks.sums import HePublicKey

    reply = desk.client().ask("he.public_key", {"session_id": "s-1"})
    certificate, public = reply.attachments
    payload = Envelope.from_bytes(certificate).open(desk.world.office.identity.key.public, HePublicKey.payload_type)
    certified = parse(HePublicKey, payload)
    assert (certified.key_sha256, certified.session_id) == (sha256_hex(public), "s-1")
    assert certified.not_before < NOW < certified.not_after
    secrets = list((desk.world.office.home / "keys").rglob("*.secret"))
    assert [path.stat().st_mode & 0o777 for path in secrets] == [0o600]
