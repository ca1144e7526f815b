"""Queries: fixed answers, and joint statements that are signed only about own runs."""

from dataclasses import replace

import pytest

import products.dsse
import products.gm
from nodes.contract import gm
from nodes.contract import statement as st
from nodes.contract.messages import Refusal, RefusalCode
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.statement import BUILD, GRANT, PAYLOAD_TYPE, PRIVACY, RELEASE, RESOURCE, REVIEW, read
from tests.node_world import CANARY_ID, CANARY_NAME, NODE, NOW


def offer(world, grant, signers=("registrar-1", "registrar-2")):
    envelopes = world.envelopes(grant, signers)
    return world.ask(world.query("grant.offer", attachments=envelopes), attachments=envelopes)


@pytest.mark.parametrize(
    "signers",
    [(), ("registrar-1",), ("registrar-1", "registrar-1"), ("registrar-1", "agency"), ("registrar-1", "operator")],
)
def test_a_grant_without_two_registrars_is_refused(world, signers):
    answer, _ = offer(world, world.grant(), signers)
    assert answer.code.value == "grant.invalid"
    assert world.books.grants() == []


def test_a_registrar_whom_the_grant_does_not_name_does_not_count(world):
    assert offer(world, world.grant(registrars=("registrar-1",)))[0].code.value == "grant.invalid"


def test_signatures_over_different_grants_do_not_add_up(world):
    envelopes = world.envelopes(world.grant(), ("registrar-1",)) + world.envelopes(
        world.grant(uses_max=9), ("registrar-2",)
    )
    answer, _ = world.ask(world.query("grant.offer", attachments=envelopes), attachments=envelopes)
    assert answer.code.value == "grant.invalid"


def test_a_grant_that_names_other_departments_only_is_refused(world):
    grant = world.grant()
    assert offer(world, grant.model_copy(update={"parties": grant.parties[1:]}))[0].code.value == "grant.invalid"


def test_another_grant_of_the_same_name_is_refused(world):
    offer(world, world.grant())
    assert offer(world, world.grant(uses_max=99))[0].code.value == "grant.invalid"


def test_an_offered_grant_waits_for_the_officer_and_then_carries_our_signature(world):
    from nodes import grants

    answer, _ = offer(world, world.grant())
    assert answer.body["state"] == "pending"
    status, parts = world.ask(world.query("grant.status", {"grant_id": "g-1"}))
    assert (status.body["state"], parts) == ("pending", ())
    grants.approve(
        world.books, "g-1", key=world.keys.statement, node=NODE, catalogue={world.entry.id: world.entry}, reason="同意"
    )
    status, parts = world.ask(world.query("grant.status", {"grant_sha256": answer.body["grant_sha256"]}))
    assert (status.body["uses_left"], status.body["budget_left"]) == (3, 3)
    assert (
        read(Envelope.from_bytes(parts[0]).open(world.keys.statement.public, PAYLOAD_TYPE), GRANT)[1]["grant_id"]
        == "g-1"
    )


def test_a_trial_may_approve_by_itself(world):
    world.agent = world.restarted(auto_approve_grants=True)
    assert offer(world, world.grant())[0].body["state"] == "approved"


def test_a_grant_for_columns_the_node_does_not_have_cannot_be_approved(world):
    from nodes import grants
    from nodes.errors import GrantError

    grant = world.grant()
    use = grant.parties[0].resources[0].model_copy(update={"columns": ("age", "nothing")})
    party = grant.parties[0].model_copy(update={"resources": (use,)})
    offer(world, grant.model_copy(update={"parties": (party, *grant.parties[1:])}))
    with pytest.raises(GrantError, match="nothing"):
        grants.approve(
            world.books, "g-1", key=world.keys.statement, node=NODE, catalogue={world.entry.id: world.entry}, reason=""
        )


def test_a_registrar_struck_later_unmakes_the_grant(world):
    digest = world.install_grant()
    world.strike("actor", "registrar-2")
    assert world.code(world.order(digest)) == "grant.invalid"


def test_older_trust_data_is_a_rollback(world):
    old, new = world.publish(), world.publish()
    for files, code in ((new, ""), (old, "trust.invalid"), (new, "")):
        query = world.query("trust.update", {"names": list(files)}, attachments=tuple(files.values()))
        assert world.code(query, attachments=tuple(files.values())) == code


@pytest.mark.parametrize("signers", [("t1",), ("t1", "timestamp")])
def test_trust_data_below_its_threshold_is_refused(world, signers):
    files = world.publish(signers=signers)
    query = world.query("trust.update", {"names": list(files)}, attachments=tuple(files.values()))
    assert world.code(query, attachments=tuple(files.values())) == "trust.invalid"


def test_describe_tells_columns_and_state_but_no_address_sample_or_count(world):
    answer, _ = world.ask(world.query("node.describe"))
    (resource,) = answer.body["resources"]
    assert (resource["id"], resource["state"]) == ("res.east.clinic", "active")
    assert [column["name"] for column in resource["columns"]] == ["name", "id_number", "district", "age", "score"]
    text = answer.to_payload().decode()
    assert "tables/" not in text
    assert CANARY_NAME not in text
    assert "storage" not in text


def test_the_resource_statement_is_signed_once_and_bands_the_rows(world):
    _, parts = world.ask(world.query("resource.statement", {"resource": "res.east.clinic"}))
    _, again = world.ask(world.query("resource.statement", {"resource": "res.east.clinic"}))
    assert parts == again
    subjects, predicate = read(Envelope.from_bytes(parts[0]).open(world.keys.statement.public, PAYLOAD_TYPE), RESOURCE)
    assert subjects == [("resource/res.east.clinic@1", world.entry.digest_hex)]
    assert predicate["resource"]["rows_band"] == 40
    assert predicate["quality"]["report_sha256"] == "aa" * 32


# Joint statements

PRODUCT = b'{"count": 40, "district": "\xe4\xba\x91\xe4\xb8\x9c"}'


class Joint:
    """One closed run and the three statements about the product made of it."""

    def __init__(self, world):
        self.world = world
        self.grant_sha256 = world.install_grant()
        order = world.order(self.grant_sha256)
        world.ask(order)
        _, parts = world.ask(world.step(order, "session.close", 1))
        self.run_sha256 = Envelope.from_bytes(parts[0]).payload_sha256
        self.session = order.session_id
        self.files = {"data/product/tables.json": PRODUCT}
        self.grant = {"id": "g-1", "sha256": self.grant_sha256}
        self.build = {
            "buildDefinition": {
                "buildType": f"{st.NS}/federated-pipeline/v1",
                "externalParameters": {
                    "pipeline": "stub",
                    "recipe": "r",
                    "grant": self.grant,
                    "purpose": "p-1",
                    "product_form": "model",
                },
                "internalParameters": {"parties": [NODE, "node-west"], "sessions": [self.session]},
                "resolvedDependencies": [{"uri": "run", "digest": {"sha256": self.run_sha256}}],
            },
            "runDetails": {"builder": {"id": "operator"}, "metadata": {}, "byproducts": []},
        }
        self.privacy = {
            "mechanisms": [],
            "unit": "session",
            "consumed": 1,
            "ledgers": [{"node": NODE, "before": 0, "after": 1}],
            "learns": [],
            "disclosure": {"cell_min": 5, "round_base": 5, "suppressed": 0},
        }
        self.release = {
            "product": {"id": "p", "version": 1, "form": "model"},
            "participants": ["operator", NODE, "node-west"],
            "grant": self.grant,
            "attestations": [{"name": "run", "predicate_type": st.NODE_RUN, "sha256": self.run_sha256}],
        }

    def ask(self, statements=None, *, files=None, sessions=None, subjects=None, signer=None):
        files = self.files if files is None else files
        subjects = subjects or [(name, sha256_hex(content)) for name, content in self.files.items()]
        wanted = statements or [(BUILD, self.build), (PRIVACY, self.privacy), (RELEASE, self.release)]
        payloads = [st.statement(kind, subjects, predicate) for kind, predicate in wanted]
        attachments = (*payloads, *files.values())
        body = {
            "grant_sha256": self.grant_sha256,
            "sessions": [self.session] if sessions is None else sessions,
            "statements": [kind for kind, _ in wanted],
            "files": list(files),
        }
        query = self.world.query("statement.countersign", body, attachments=attachments, sender=signer or "operator")
        return self.world.ask(query, attachments=attachments)


@pytest.fixture
def joint(world):
    return Joint(world)


def test_true_joint_statements_are_signed(world, joint):
    answer, parts = joint.ask()
    assert answer.body == {"signed": [BUILD, PRIVACY, RELEASE]}
    for part in parts:
        Envelope.from_bytes(part).open(world.keys.statement.public, PAYLOAD_TYPE)
    assert joint.ask(files={})[1] == parts


def change(tree, path, value):
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("build", ("buildDefinition", "externalParameters", "grant"), {"id": "g-1", "sha256": "0" * 64}),
        ("build", ("buildDefinition", "externalParameters", "purpose"), "p-2"),
        ("build", ("buildDefinition", "externalParameters", "product_form"), "report"),
        ("build", ("buildDefinition", "internalParameters", "sessions"), []),
        ("build", ("buildDefinition", "internalParameters", "sessions"), ["s-none"]),
        ("build", ("buildDefinition", "internalParameters", "parties"), ["node-west"]),
        ("build", ("buildDefinition", "internalParameters", "parties"), [NODE, "node-south"]),
        ("build", ("buildDefinition", "resolvedDependencies"), []),
        ("privacy", ("ledgers",), []),
        ("privacy", ("ledgers",), [{"node": NODE, "before": 0, "after": 0}]),
        ("privacy", ("unit",), "query"),
        ("privacy", ("disclosure", "cell_min"), 4),
        ("privacy", ("disclosure", "round_base"), 3),
        ("release", ("grant",), {"id": "g-2", "sha256": "0" * 64}),
        ("release", ("participants",), ["operator"]),
        ("release", ("product", "form"), "report"),
        ("release", ("attestations",), []),
    ],
)
def test_a_joint_statement_that_differs_from_the_books_is_not_signed(joint, name, path, value):
    change(getattr(joint, name), path, value)
    answer, _ = joint.ask()
    assert isinstance(answer, Refusal)
    assert answer.code.value == "policy.not_allowed"


def test_sessions_at_other_nodes_may_stand_beside_ours_but_none_of_ours_unnamed(world, joint):
    order = world.order(joint.grant_sha256)
    world.ask(order)
    world.ask(world.step(order, "session.close", 1))
    sessions = joint.build["buildDefinition"]["internalParameters"]
    sessions["sessions"] = [joint.session, "s-elsewhere"]
    assert not isinstance(joint.ask()[0], Refusal)
    sessions["sessions"] = [joint.session, order.session_id]
    assert joint.ask()[0].code.value == "policy.not_allowed"


def test_missing_fields_are_malformed(joint):
    del joint.build["buildDefinition"]["internalParameters"]
    assert joint.ask()[0].code.value == "request.malformed"


def test_statements_about_runs_of_others_are_not_signed(joint):
    assert joint.ask(sessions=["s-none"])[0].code.value == "policy.not_allowed"
    assert joint.ask(sessions=[])[0].code.value == "policy.not_allowed"


def test_a_review_is_not_signed_by_a_node(joint):
    assert joint.ask([(REVIEW, {"verifier": {"id": "x"}})])[0].code.value == "policy.not_allowed"


def test_product_files_must_be_attached_once(joint):
    assert joint.ask(files={})[0].code.value == "policy.not_allowed"


def test_only_the_operator_may_ask(joint):
    assert joint.ask(signer="agency")[0].code.value == "request.sender_role"


@pytest.mark.parametrize(
    "content",
    [
        CANARY_ID.encode(),
        f'{{"id": "{CANARY_ID[:6]}-{CANARY_ID[6:14]}-{CANARY_ID[14:]}"}}'.encode(),
        CANARY_NAME.encode(),
        b'{"name": "' + CANARY_NAME.encode("unicode_escape") + b'"}',
        f"<td>{CANARY_NAME[:4]}<b>{CANARY_NAME[4:]}</b>&nbsp;</td>".encode(),
        b"\x00\x01" + CANARY_NAME.encode("utf-16-le"),
        b"x" * (1 << 20) + CANARY_ID.encode(),
        b"x" * ((1 << 20) - 9) + CANARY_ID.encode(),
    ],
)
def test_a_product_file_with_a_value_of_our_rows_is_not_signed_and_the_refusal_does_not_tell_it(world, joint, content):
    joint.files = {"data/product/tables.json": content}
    answer, _ = joint.ask()
    assert answer.code.value == "policy.not_allowed"
    assert "res.east.clinic column" in answer.message
    assert "1 values" in world.books.entries(limit=2)[0].facts["findings"]
    assert CANARY_ID not in answer.message
    assert CANARY_NAME not in answer.message
    assert world.books.entries(limit=2)[0].kind == "egress.found"


def test_signing_goes_on_after_the_grant_ended_but_not_after_it_was_revoked(world, joint):
    from datetime import timedelta

    world.now = NOW + timedelta(days=11)
    world.trust.update(world.publish(timestamp_days=30), now=world.now)
    assert not isinstance(joint.ask()[0], Refusal)
    world.strike("grant", "g-1", timestamp_days=30)
    assert joint.ask()[0].code.value == "grant.revoked"


def test_an_unknown_kind_is_refused(world):
    assert world.code(world.query("node.shell")) == "request.kind_unknown"


def test_a_query_out_of_its_window_is_refused(world):
    from datetime import timedelta

    query = world.query("node.describe")
    world.now = NOW + timedelta(minutes=5, seconds=301)
    assert world.code(query) == "request.expired"


def _ask_sm2(world, envelope):
    return world.ask(world.query("statement.sm2", attachments=(envelope,)), attachments=(envelope,))


def test_a_node_signs_with_sm2_only_what_it_has_signed_itself(world):
    pytest.importorskip("gmalg")
    own = sign(world.keys.statement, PAYLOAD_TYPE, b"{}")
    assert _ask_sm2(world, own.to_bytes())[0].code is RefusalCode.NOT_ALLOWED  # a node without such a key
    world.agent.keys = replace(world.keys, sm2=gm.make_key())
    altered = Envelope(own.payload_type, b"[]", own.keyid, own.signature).to_bytes()
    other_type = sign(world.keys.statement, "application/json", b"{}").to_bytes()
    for envelope in (world.envelopes(world.grant(), ("registrar-1",))[0], altered, other_type, b"{}"):
        answer, parts = _ask_sm2(world, envelope)
        assert (answer.code, parts) == (RefusalCode.NOT_ALLOWED, ())


def test_a_second_signature_is_over_the_same_bytes(world):
    pytest.importorskip("gmalg")
    world.agent.keys = replace(world.keys, sm2=gm.make_key())
    own = sign(world.keys.statement, PAYLOAD_TYPE, b"{}").to_bytes()
    _, (second,) = _ask_sm2(world, own)
    found = products.dsse.Envelope.from_bytes(second)
    assert found.pae == products.dsse.Envelope.from_bytes(own).pae
    products.gm.verify(gm.spki_of(world.agent.keys.sm2), found.signature, found.pae)
