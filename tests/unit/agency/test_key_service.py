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


def test_everybody_admitted_gets_the_certified_public_key(desk):
    from nodes.contract.messages import parse
    from nodes.contract.signing import Envelope, sha256_hex
    from nodes.contract.tasks.sums import HePublicKey

    reply = desk.client(desk.unit).ask("he.public_key")
    certificate, public = reply.attachments
    payload = Envelope.from_bytes(certificate).open(desk.world.office.identity.key.public, HePublicKey.payload_type)
    certified = parse(HePublicKey, payload)
    assert certified.key_sha256 == sha256_hex(public)
    assert certified.not_before < NOW < certified.not_after
    secrets = [p for p in (desk.world.office.home / "keys").iterdir() if p.stat().st_mode & 0o077]
    assert [p.suffix for p in secrets if "secret" in p.name] == []
