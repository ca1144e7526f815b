"""Every literal message of version 1, good and bad, gets its stated verdict."""

import base64
import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest

from nodes.contract import messages, wire
from nodes.contract.errors import ContractError
from nodes.contract.sealing import unseal
from nodes.contract.signing import Envelope
from nodes.contract.statement import open_grant

FOLDER = Path(__file__).parents[2] / "nodes/contract/vectors/v1"
_spec = importlib.util.spec_from_file_location("vectors_v1_generate", FOLDER / "generate.py")
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)
VECTORS = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))


def verdict(vector):
    data = base64.b64decode(vector["bytes"])
    try:
        if vector["kind"] == "parcel":
            envelope, attachments = wire.unpack(data)
            model = type(generate.GOOD[vector["model"]][0])
            message = messages.decode(model, envelope, attachments, generate.signing_key(vector["signer"]).public)
            assert message == generate.GOOD[vector["model"]][0]
        elif vector["kind"] == "grant":
            assert (
                open_grant(Envelope.from_bytes(data), generate.signing_key(vector["signer"]).public) == generate.GRANT
            )
        else:
            header = dataclasses.replace(generate.HEADER, **vector["header"])
            assert unseal(data, generate.sealing_key(), header) == "份额".encode()
    except ContractError as error:
        return error.code
    return ""


@pytest.mark.parametrize("name", VECTORS)
def test_a_literal_message_gets_its_verdict(name):
    assert verdict(VECTORS[name]) == VECTORS[name]["expected"]


def test_the_script_has_no_vector_to_add():
    assert list(generate.cases()) == list(VECTORS)


@pytest.mark.parametrize("name", generate.GOOD)
def test_this_release_still_signs_the_same_payload(name):
    stored = wire.unpack(base64.b64decode(VECTORS[name]["bytes"]))[0].payload
    assert generate.GOOD[name][0].to_payload() == stored


def test_this_release_still_writes_the_same_grant():
    stored = Envelope.from_bytes(base64.b64decode(VECTORS["grant: first registrar"]["bytes"])).payload
    assert stored == generate.GRANT_PAYLOAD
