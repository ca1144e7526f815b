"""Encrypted sums, all three parties together, and what a cheating operator would try."""

import base64
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from factory.agency.decrypting import DecryptionKeyError, DecryptionRefusedError, DecryptionService
from factory.errors import NodeRefusedError
from factory.federation.session import Refusal, Reply, require
from factory.federation.sums import TooFewContributorsError, compute
from nodes.contract import canonical, wire
from nodes.contract.ckks import Scheme, dump
from nodes.contract.errors import BadCiphertextError
from nodes.contract.messages import Result, parse
from nodes.contract.parameters import CKKS_SUMS
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, grant_statement
from nodes.contract.tasks.sums import HePublicKey, SumAttestation
from nodes.contract.trust import Actors, Status, StatusItem
from nodes.privacy.ckks import encrypt
from tests.sums_world import FRAMES, NODES, PARAMETERS, World


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


GRANTS = 5  # two registrars and three departments


def _ciphertexts(world: World) -> dict[str, tuple[bytes, ...]]:
    """What the operator has seen: each node's own ciphertexts."""
    seen = {}
    for node, kind, reply in world.trial.bus.seen:
        if kind == "sums.reveal":
            seen[node] = wire.unpack(reply)[1]
    return seen


def test_a_single_nodes_ciphertext_is_not_opened_as_the_sum(world: World) -> None:
    def change(body, parts):
        return body, (*parts[: GRANTS + 3], *_ciphertexts(world)["node-east"])

    assert world.refused(change) == "task.protocol"


def test_a_partial_sum_is_not_opened(world: World) -> None:
    def change(body, parts):
        own = _ciphertexts(world)
        partial = [Scheme(CKKS_SUMS.name).add(pair) for pair in zip(own["node-east"], own["node-west"], strict=True)]
        return body, (*parts[: GRANTS + 3], *partial)

    assert world.refused(change) == "task.protocol"


def test_a_sum_that_counts_one_node_twice_is_not_opened(world: World) -> None:
    def change(body, parts):
        own = _ciphertexts(world)
        more = [
            Scheme(CKKS_SUMS.name).add([total, part])
            for total, part in zip(parts[GRANTS + 3 :], own["node-east"], strict=True)
        ]
        return body, (*parts[: GRANTS + 3], *more)

    assert world.refused(change) == "task.protocol"


def test_fewer_contributors_or_attestations_are_refused(world: World) -> None:
    def fewer(body, parts):
        return body | {"contributors": body["contributors"][:2]}, (*parts[: GRANTS + 2], *parts[GRANTS + 3 :])

    assert world.refused(fewer) == "grant.threshold"
    assert (
        world.refused(lambda body, parts: (body, (*parts[: GRANTS + 2], *parts[GRANTS + 3 :]))) == "request.malformed"
    )
    assert world.refused(lambda body, parts: (body | {"contributors": ["node-east"] * 3}, parts)) == "request.malformed"
    assert world.refused(lambda body, parts: (body | {"contributors": [], "grants": 8}, parts)) in {
        "grant.threshold",
        "grant.invalid",
    }


def test_an_attestation_that_the_operator_signs_itself_is_refused(world: World) -> None:
    def change(body, parts):
        forged = Envelope.from_bytes(parts[GRANTS])
        forged = sign(world.trial.parties["operator"].key, forged.payload_type, forged.payload)
        return body, (*parts[:GRANTS], forged.to_bytes(), *parts[GRANTS + 1 :])

    assert world.refused(change) == "request.signature"


def test_attestations_of_another_session_are_refused(world: World) -> None:
    with pytest.raises(RuntimeError):
        world.compute(session=_stopping(world))
    earlier = world.taken

    def change(body, parts):
        return body, (*parts[:GRANTS], *earlier[GRANTS : GRANTS + 3], *parts[GRANTS + 3 :])

    assert world.refused(change) == "task.protocol"


def _stopping(world: World):
    """A session whose request to decrypt never arrives; the operator keeps it."""

    def change(kind, body, parts):
        if kind == "he.decrypt":
            world.taken = parts
            world.stopped = (body, parts)
            raise RuntimeError("taken")
        return body, parts

    world.change = change
    return world.session()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("measures", [{"name": "other", "kind": "count", "by": ["kind"]}]),
        ("categories", [{"column": "kind", "values": ["a"]}, {"column": "size", "values": ["s", "l"], "edges": [50]}]),
    ],
)
def test_other_tables_than_were_attested_are_refused(world: World, field: str, value) -> None:
    code = world.refused(lambda body, parts: (body | {"parameters": body["parameters"] | {field: value}}, parts))
    assert code in {"task.protocol", "request.malformed"}


def test_a_grant_without_two_registrars_or_a_contributors_signature_is_refused(world: World) -> None:
    one = world.refused(lambda body, parts: (body | {"grants": GRANTS - 1}, parts[1:]))
    assert one == "grant.invalid"
    twice = world.refused(lambda body, parts: (body, [parts[0], parts[0], *parts[2:]]))
    assert twice == "grant.invalid"
    missing = world.refused(lambda body, parts: (body | {"grants": GRANTS - 1}, [*parts[:2], *parts[3:]]))
    assert missing == "grant.not_approved"


def test_a_grant_altered_or_mixed_with_another_is_refused(world: World) -> None:
    def widen(body, parts):
        envelope = Envelope.from_bytes(parts[0])
        payload = envelope.payload.replace(b'"cell_min":5', b'"cell_min":1')
        altered = [replace(Envelope.from_bytes(part), payload=payload).to_bytes() for part in parts[:GRANTS]]
        return body, (*altered, *parts[GRANTS:])

    assert world.refused(widen) == "grant.invalid"

    def mix(body, parts):
        other = grant_statement(
            world.trial.grant.model_copy(update={"grant_id": "g-other"}), agreement_name="a", agreement_sha256="0" * 64
        )
        return body, (sign(world.registrars[0].key, PAYLOAD_TYPE, other).to_bytes(), *parts[1:])

    assert world.refused(mix) == "grant.invalid"


def test_another_grant_than_the_attested_one_is_refused(world: World) -> None:
    def change(body, parts):
        lower = world.trial.grant.model_copy(update={"grant_id": "g-other"})
        other = grant_statement(lower, agreement_name="agreement.pdf", agreement_sha256="0" * 64)
        signers = [*world.registrars, *(world.trial.parties[name] for name in world.trial.nodes)]
        return body, (*(sign(s.key, PAYLOAD_TYPE, other).to_bytes() for s in signers), *parts[GRANTS:])

    assert world.refused(change) == "task.protocol"


def test_a_grant_that_is_over_not_yet_begun_suspended_or_for_another_task_is_refused(world: World) -> None:
    keep = lambda body, parts: (body, parts)  # noqa: E731
    now = world.clock
    world.set_grant(not_before=now - timedelta(days=3), not_after=now)
    assert world.refused(keep) == "grant.expired"
    world.set_grant(not_before=now + timedelta(seconds=1), not_after=now + timedelta(days=1))
    assert world.refused(keep) == "grant.not_yet"
    world.set_grant(not_before=now, not_after=now + timedelta(days=1), tasks=("linear.secagg",))
    assert world.refused(keep) == "grant.task"
    world.set_grant(tasks=("sums.ckks",))
    for kind, subject, code in (
        ("grant", "g-harness", "grant.revoked"),
        ("resource", "res.fines", "grant.revoked"),
        ("actor", "node-west", "actor_revoked"),
        ("key", world.trial.parties["node-west"].key.public.keyid, "actor_revoked"),
    ):
        world.items = (
            StatusItem(subject_kind=kind, subject=subject, state="suspended", since=now, reason="inspection"),
        )
        assert world.refused(keep).endswith(code)


def test_columns_that_are_not_granted_are_refused(world: World) -> None:
    parties = tuple(
        party.model_copy(
            update={
                "resources": tuple(
                    use.model_copy(update={"columns": ("kind", "fine", "days")}) for use in party.resources
                )
            }
        )
        for party in world.trial.grant.parties
    )
    world.set_grant(parties=parties)
    assert world.refused(lambda body, parts: (body, parts)) == "grant.column"


def test_a_removed_node_or_three_nodes_of_two_bodies_do_not_make_three(world: World) -> None:
    keep = lambda body, parts: (body, parts)  # noqa: E731
    west = world.trial.parties["node-west"]
    removed = replace(west, actor=west.actor.model_copy(update={"removed_at": world.clock - timedelta(hours=1)}))
    world.service = DecryptionService(
        world.home,
        "agency",
        world.trial.parties["agency"].key,
        lambda: Actors(actors=tuple(removed.actor if a.id == "node-west" else a for a in world.actors.actors)),
        lambda: Status(items=()),
        lambda: world.clock,
    )
    assert world.refused(keep) in {"trust.actor_unknown", "grant.not_approved"}
    same = west.actor.model_copy(update={"organisation": "org-node-east"})
    world.service.actors = lambda: Actors(actors=tuple(same if a.id == "node-west" else a for a in world.actors.actors))
    assert world.refused(keep) == "grant.threshold"


def test_somebody_elses_query_is_refused(world: World) -> None:
    with pytest.raises(RuntimeError):
        world.compute(session=_stopping(world))
    body = {
        "session_id": "s",
        "parameters": PARAMETERS.model_dump(mode="json"),
        "contributors": sorted(NODES),
        "grants": GRANTS,
    }
    query = world.query("he.decrypt", body, world.taken, sender="operator-2")
    with pytest.raises(DecryptionRefusedError) as refused:
        world.service.handle_decrypt(query, world.taken)
    assert refused.value.refusal_code == "request.sender_role"


def test_a_sum_is_opened_once_and_the_same_query_gets_the_same_answer(world: World) -> None:
    statistics = world.compute()
    query, attachments = world.queries[-1]
    body, parts = world.service.handle_decrypt(query, attachments)
    assert (body, parts[0]) == (statistics.facts, statistics.tables_bytes)
    again = query.model_copy(update={"query_id": "q-again"})
    with pytest.raises(DecryptionRefusedError) as refused:
        world.service.handle_decrypt(again, attachments)
    assert refused.value.refusal_code == "request.replayed"


def test_one_grant_opens_one_table_definition_over_one_set_of_contributors(tmp_path) -> None:
    world = World(tmp_path, nodes=(*NODES, "node-south"))
    assert len(world.compute().contributors) == 4
    world.trial.bus.down.add("node-south")
    with pytest.raises(DecryptionRefusedError) as refused:
        world.compute()
    assert refused.value.refusal_code == "grant.exhausted"
    world.trial.bus.down.clear()
    narrower = PARAMETERS.model_copy(update={"measures": PARAMETERS.measures[:1]})
    with pytest.raises(DecryptionRefusedError) as refused:
        world.compute(narrower)
    assert refused.value.refusal_code == "grant.exhausted"
    assert len(world.compute().contributors) == 4


def test_openings_end_with_the_uses_of_the_grant(world: World) -> None:
    world.set_grant(uses_max=1)
    world.compute()
    with pytest.raises(DecryptionRefusedError) as refused:
        world.compute()
    assert refused.value.refusal_code == "grant.exhausted"


def test_sums_that_are_not_whole_or_below_zero_stay_closed(world: World) -> None:
    scheme = Scheme(CKKS_SUMS.name)
    with pytest.raises(RuntimeError):
        world.compute(session=_stopping(world))
    envelopes, sums = world.taken[: GRANTS + 3], world.taken[GRANTS + 3 :]
    world.change = lambda kind, body, parts: (body, parts)
    for index, value in enumerate((0.4, -100_000.0)):
        session_id = f"s-bad-{index}"
        public = world.call("he.public_key", {"session_id": session_id}, ()).attachments[1]
        bad = tuple(encrypt(scheme, public, [[value] * 4096])[0] for _ in sums)
        attestations = []
        for node, envelope in zip(sorted(NODES), envelopes[GRANTS:], strict=True):
            fields = canonical.loads(Envelope.from_bytes(envelope).payload)
            stated = SumAttestation.model_validate(
                fields
                | {
                    "key_sha256": sha256_hex(public),
                    "session_id": session_id,
                    "sum_sha256": [sha256_hex(part) for part in bad],
                }
            )
            attestations.append(
                sign(world.trial.parties[node].key, SumAttestation.payload_type, stated.to_payload()).to_bytes()
            )
        body = {
            "session_id": session_id,
            "parameters": PARAMETERS.model_dump(mode="json"),
            "contributors": sorted(NODES),
            "grants": GRANTS,
        }
        parts = (*envelopes[:GRANTS], *attestations, *bad)
        query = world.query("he.decrypt", body, parts)
        for code in ("task.protocol", "session.closed"):
            with pytest.raises(DecryptionRefusedError) as refused:
                world.service.handle_decrypt(query, parts)
            assert refused.value.refusal_code == code


def _open(world: World):
    session = world.session()
    require(session.open("sums.ckks", PARAMETERS.model_dump(mode="json"), world.trial.resources()))
    key = world.call("he.public_key", {"session_id": session.session_id}, ())
    return session, key


def _code(answer) -> str:
    assert isinstance(answer, Refusal), answer
    return answer.code


def test_a_key_that_the_agency_has_not_certified_for_the_session_is_refused_by_the_node(world: World) -> None:
    other = world.call("he.public_key", {"session_id": "s-other"}, ())
    session, key = _open(world)
    certificate, public = key.attachments
    rogue = other.attachments[1]
    forged = HePublicKey(
        agency="agency",
        session_id=session.session_id,
        parameter_set=CKKS_SUMS.name,
        key_sha256=sha256_hex(rogue),
        not_before=world.clock - timedelta(days=1),
        not_after=world.clock + timedelta(days=1),
    )
    by_operator = sign(world.trial.parties["operator"].key, HePublicKey.payload_type, forged.to_payload()).to_bytes()
    old = forged.model_copy(update={"key_sha256": sha256_hex(public), "not_after": world.clock - timedelta(hours=1)})
    expired = sign(world.trial.parties["agency"].key, HePublicKey.payload_type, old.to_payload()).to_bytes()
    for attachments in (
        (certificate, rogue),
        other.attachments,
        (by_operator, rogue),
        (expired, public),
        (certificate,),
        (),
    ):
        answer = session.step("sums.encrypt", {"node-east": {}}, {"node-east": attachments})["node-east"]
        assert _code(answer) == "task.protocol"
    assert isinstance(
        session.step("sums.encrypt", {"node-east": {}}, {"node-east": key.attachments})["node-east"], Reply
    )
    again = session.step("sums.encrypt", {"node-east": {}}, {"node-east": key.attachments})["node-east"]
    assert _code(again) == "task.protocol"


def _committed(world: World):
    """A session in which every node has committed to its ciphertexts, and their replies."""
    session, key = _open(world)
    return session, require(
        session.step("sums.encrypt", {node: {} for node in NODES}, dict.fromkeys(NODES, key.attachments))
    )


def test_a_node_shows_no_ciphertext_before_all_contributors_have_committed_to_theirs(world: World) -> None:
    _, earlier = _committed(world)
    session, given = _committed(world)
    assert all(reply.attachments == () for reply in given.values())

    def reveal(replies, contributors=NODES):
        parts = [replies[node].envelope.to_bytes() for node in sorted(replies)]
        bodies = {"node-east": {"contributors": list(contributors)}}
        return session.step("sums.reveal", bodies, {"node-east": parts})["node-east"]

    assert _code(reveal(given | {"node-west": earlier["node-west"]})) == "task.protocol"
    assert _code(reveal(given | {"node-west": given["node-north"]})) == "task.protocol"
    assert _code(reveal(given | {"node-east": earlier["node-east"]})) == "task.protocol"
    two = {node: given[node] for node in ("node-east", "node-west")}
    assert _code(reveal(two)) == "task.protocol"
    assert _code(reveal(two, ["node-east", "node-west"])) == "grant.threshold"
    assert _code(reveal(given, ["node-north", "node-south", "node-west"])) == "task.protocol"
    assert _code(reveal(given, ["node-west", "node-north", "node-east"])) == "task.protocol"
    revealed = reveal(given)
    assert isinstance(revealed, Reply)
    assert [sha256_hex(part) for part in revealed.attachments] == given["node-east"].body["ciphertexts_sha256"]
    assert _code(reveal(given)) == "task.protocol"


def test_a_node_that_commits_to_the_ciphertexts_of_another_is_refused(world: World) -> None:
    session, given = _committed(world)
    copied = given["node-west"].body | {"ciphertexts_sha256": given["node-north"].body["ciphertexts_sha256"]}
    stated = parse(Result, given["node-west"].envelope.payload).model_copy(update={"body": copied})
    forged = sign(world.trial.parties["node-west"].key, Result.payload_type, stated.to_payload())
    parts = [given["node-east"].envelope.to_bytes(), given["node-north"].envelope.to_bytes(), forged.to_bytes()]
    answer = session.step("sums.reveal", {"node-east": {"contributors": list(NODES)}}, {"node-east": parts})
    assert _code(answer["node-east"]) == "task.protocol"


def _negative(data: bytes) -> bytes:
    import tenseal.sealapi as seal

    scheme = Scheme(CKKS_SUMS.name)
    value = scheme.ciphertext(data)
    seal.Evaluator(scheme.context).negate_inplace(value)
    return dump(value)


def test_a_contributor_cannot_answer_with_the_negative_of_the_others(world: World) -> None:
    session, given = _committed(world)
    bodies = {node: {"contributors": list(NODES)} for node in NODES}
    signed = [given[node].envelope.to_bytes() for node in NODES]
    revealed = require(session.step("sums.reveal", bodies, dict.fromkeys(NODES, signed)))
    sealed = {node: revealed[node].attachments for node in NODES}
    # The sum of these three would be node-east's figures alone, had node-west been free to choose last.
    sealed["node-west"] = tuple(_negative(part) for part in sealed["node-north"])
    parts = [part for node in NODES for part in sealed[node]]
    answer = session.step("sums.attest", {"node-east": {}}, {"node-east": parts})["node-east"]
    assert _code(answer) == "task.protocol"


def test_a_node_attests_only_the_ciphertexts_that_were_committed_and_once(world: World) -> None:
    session, given = _committed(world)
    bodies = {node: {"contributors": list(NODES)} for node in NODES}
    signed = [given[node].envelope.to_bytes() for node in NODES]
    revealed = require(session.step("sums.reveal", bodies, dict.fromkeys(NODES, signed)))
    own = {node: revealed[node].attachments for node in NODES}

    def attest(*nodes: str, body=None):
        parts = [part for node in nodes for part in own[node]]
        return session.step("sums.attest", {"node-east": body or {}}, {"node-east": parts})["node-east"]

    assert _code(attest("node-east", "node-west", "node-north")) == "task.protocol"
    assert _code(attest("node-east", "node-north", "node-north")) == "task.protocol"
    assert _code(attest("node-east", "node-north")) == "task.protocol"
    assert _code(attest(*NODES, body={"contributors": list(NODES)})) == "task.protocol"
    assert isinstance(attest(*NODES), Reply)
    assert _code(attest(*NODES)) == "task.protocol"


def test_steps_out_of_turn_and_tables_that_the_agency_did_not_sign_are_refused(world: World) -> None:
    session, _ = _open(world)
    early = session.step("sums.attest", {"node-east": {"contributors": sorted(NODES)}}, {"node-east": ()})
    assert _code(early["node-east"]) == "task.protocol"
    assert _code(session.step("sums.release", {"node-east": {"name": "t"}})["node-east"]) == "task.protocol"
    assert _code(session.step("sums.other", {"node-east": {}})["node-east"]) == "task.protocol"
    other = world.session()
    world.change = lambda kind, body, parts: (body, parts)
    original = world.call

    def forging(kind, body, parts):
        reply = original(kind, body, parts)
        return replace(reply, attachments=(reply.attachments[0] + b" ",)) if kind == "he.decrypt" else reply

    with pytest.raises(NodeRefusedError) as refused:
        compute(other, PARAMETERS, world.trial.resources(), forging, grant_envelopes=world.envelopes)
    assert refused.value.refusal_code == "task.protocol"


def test_too_few_rows_parties_or_columns_are_refused_at_the_order(world: World) -> None:
    def code(resources, **fields):
        world.set_grant(**fields)
        answers = world.session().open("sums.ckks", PARAMETERS.model_dump(mode="json"), resources)
        return _code(answers["node-east"])

    everything = world.trial.resources()
    thresholds = world.trial.grant.thresholds
    two = {node: uses for node, uses in everything.items() if node != "node-west"}
    assert code(two) == "grant.threshold"
    assert code(world.trial.resources(["kind"])) == "grant.column"
    rows = len(FRAMES["node-east"])
    assert code(everything, thresholds=thresholds.model_copy(update={"rows_min": rows + 1})) == "resource.rows"
    world.set_grant(thresholds=thresholds.model_copy(update={"rows_min": rows}))
    assert isinstance(
        world.session().open("sums.ckks", PARAMETERS.model_dump(mode="json"), everything)["node-east"], Reply
    )


def test_too_few_answering_nodes_end_the_session_before_anything_is_attested(world: World) -> None:
    world.trial.bus.down.add("node-west")
    with pytest.raises(TooFewContributorsError):
        world.compute()
    assert all("sums.attest" not in node.kinds for node in world.trial.nodes.values())


def test_the_opened_tables_equal_the_pooled_rows_where_they_are_published(world: World) -> None:
    world.set_grant(thresholds=world.trial.grant.thresholds.model_copy(update={"round_base": 1}))
    session = world.session()
    statistics = world.compute(session=session)
    pooled = pd.concat(FRAMES.values())
    pooled["kind"] = pooled["kind"].where(pooled["kind"].isin(["a", "b", "c"]), "other")
    pooled["band"] = ["small" if value < 50 else "large" for value in pooled["size"]]
    tables = {table["name"]: table for table in statistics.tables}
    counts = pooled.groupby("kind").size()
    fines = pooled.assign(f=(pooled["fine"] * 100).round()).groupby("kind")["f"].sum()
    means = pooled.assign(d=pooled["days"] * 10).groupby("kind")["d"].mean()
    deviations = pooled.assign(d=pooled["days"] * 10).groupby("kind")["d"].std(ddof=0)
    cross = pooled.groupby(["kind", "band"]).size()
    seen = 0
    for name, expected in (("by-kind", counts), ("fines", fines), ("delay", means)):
        for cell in tables[name]["cells"]:
            if cell["state"] == "published" and cell["at"] != ["*"]:
                assert abs(cell["value"] - expected[cell["at"][0]]) <= (0.5 if name == "delay" else 0), cell
                if name == "delay":
                    assert abs(cell["deviation"] - deviations[cell["at"][0]]) <= 1
                seen += 1
    for cell in tables["kind-by-size"]["cells"]:
        if cell["state"] == "published" and "*" not in cell["at"]:
            assert cell["value"] == cross.get(tuple(cell["at"]), 0)
            seen += 1
    assert seen >= 6
    by_kind = {cell["at"][0]: cell for cell in tables["by-kind"]["cells"]}
    assert by_kind["c"] == {"at": ["c"], "value": None, "state": "suppressed", "reason": "threshold"}
    assert by_kind["*"]["value"] == len(pooled)
    assert sum(1 for cell in by_kind.values() if cell["state"] == "suppressed") >= 2
    assert statistics.facts["suppressed"] == sum(table["suppressed"] for table in statistics.tables)
    closed = require(session.close())["node-east"]
    assert closed.body["contributors"] == 3
    assert closed.body["outputs"] == [{"name": "tables.json", "sha256": sha256_hex(statistics.tables_bytes)}]
    assert closed.body["sum_sha256"] == [sha256_hex(part) for part in statistics.sums]


def test_rounded_counts_are_multiples_of_the_base_and_each_suppression_says_why(world: World) -> None:
    statistics = world.compute()
    reasons = canonical.loads(statistics.tables_bytes, size_max=10**6)["reasons"]
    for table in statistics.tables:
        for cell in table["cells"]:
            if table["kind"] in {"count", "crosstab"} and cell["value"] is not None:
                assert cell["value"] % 5 == 0
            told = {"reason"} if cell["state"] == "suppressed" else set()
            assert set(cell) - {"deviation"} == {"at", "value", "state"} | told
            assert not told or {"zh", "en"} == set(reasons[cell["reason"]])
            assert cell["state"] in {"published", "suppressed", "empty"}


def test_the_operator_sees_no_plain_figure_and_unlike_ciphertexts_for_equal_rows(world: World) -> None:
    world.compute()
    first = _ciphertexts(world)["node-east"]
    world.compute()
    assert _ciphertexts(world)["node-east"] != first
    assert repr(world.service) == "DecryptionService(agency)"
    assert base64.b64encode(first[0]) not in repr(world.service).encode()


def _keys(world: World) -> list[Path]:
    return sorted((world.home / "keys" / CKKS_SUMS.name).iterdir())


def test_a_secret_key_that_others_may_read_stops_the_service(world: World) -> None:
    with pytest.raises(RuntimeError):
        world.compute(session=_stopping(world))
    public, secret = _keys(world)
    assert (public.suffix, secret.suffix) == (".public", ".secret")
    assert secret.stat().st_mode & 0o777 == 0o600
    secret.chmod(0o640)
    body, parts = world.stopped
    with pytest.raises(DecryptionKeyError, match="0600"):
        world.service.handle_decrypt(world.query("he.decrypt", body, parts), parts)


def test_a_session_whose_key_is_lost_gets_no_other(world: World) -> None:
    world.call("he.public_key", {"session_id": "s-1"}, ())
    for path in _keys(world):
        path.unlink()
    with pytest.raises(DecryptionKeyError, match="lost"):
        world.call("he.public_key", {"session_id": "s-1"}, ())


def test_each_session_has_a_key_of_its_own_that_is_destroyed_when_its_sum_is_open(world: World) -> None:
    one, again, two = (world.call("he.public_key", {"session_id": name}, ()) for name in ("s-1", "s-1", "s-2"))
    assert one.attachments[1] == again.attachments[1] != two.attachments[1]
    before = _keys(world)
    session = world.session()
    world.compute(session=session)
    assert _keys(world) == before
    with pytest.raises(DecryptionRefusedError) as refused:
        world.call("he.public_key", {"session_id": session.session_id}, ())
    assert refused.value.refusal_code == "session.closed"


def test_a_key_that_was_not_used_in_time_is_destroyed(world: World) -> None:
    world.call("he.public_key", {"session_id": "s-1"}, ())
    world.clock += timedelta(days=3)
    world.call("he.public_key", {"session_id": "s-2"}, ())
    assert len(_keys(world)) == 4
    world.clock += timedelta(seconds=1)
    world.call("he.public_key", {"session_id": "s-2"}, ())
    assert len(_keys(world)) == 2


def test_a_sum_that_comes_after_its_keys_time_stays_closed(world: World) -> None:
    later = world.clock + timedelta(days=9)
    world.set_grant(not_after=later)
    world.service.actors = lambda: Actors(
        actors=tuple(actor.model_copy(update={"not_after": later}) for actor in world.actors.actors)
    )
    with pytest.raises(RuntimeError):
        world.compute(session=_stopping(world))
    (body, parts), made_at = world.stopped, world.clock
    envelopes = parts[GRANTS : GRANTS + 3]
    world.clock = made_at + timedelta(days=3, seconds=1)
    fresh = []
    for node, envelope in zip(sorted(NODES), envelopes, strict=True):
        stated = parse(SumAttestation, Envelope.from_bytes(envelope).payload)
        stated = stated.model_copy(update={"attested_at": world.clock})
        key = world.trial.parties[node].key
        fresh.append(sign(key, SumAttestation.payload_type, stated.to_payload()).to_bytes())
    late = (*parts[:GRANTS], *fresh, *parts[GRANTS + 3 :])
    with pytest.raises(DecryptionRefusedError) as refused:
        world.service.handle_decrypt(world.query("he.decrypt", body, late), late)
    assert refused.value.refusal_code == "session.closed"
    assert _keys(world) == []


def test_a_key_without_a_session_and_a_sum_without_a_key_are_refused(world: World) -> None:
    for body in ({}, {"session_id": ""}, {"session_id": 1}, {"session_id": "s", "more": 1}, {"session_id": "../s"}):
        with pytest.raises(DecryptionRefusedError) as refused:
            world.call("he.public_key", body, ())
        assert refused.value.refusal_code == "request.malformed"
    assert world.refused(lambda body, parts: (body | {"session_id": "s-none"}, parts)) == "session.unknown"


def test_bytes_that_are_no_ciphertext_of_the_set_are_refused(world: World) -> None:
    scheme = Scheme(CKKS_SUMS.name)
    public = world.call("he.public_key", {"session_id": "s-1"}, ()).attachments[1]
    good = encrypt(scheme, public, [[1] * 4096])[0]
    for bad in (b"", good[:-1], good + b"x", public, bytes(len(good)), b"x" * 400_000):
        with pytest.raises(BadCiphertextError):
            scheme.add([good, bad])
    with pytest.raises(BadCiphertextError):
        Scheme("ckks-1024-toy")


def test_a_grant_struck_by_its_digest_or_signed_by_a_struck_registrar_is_refused(world: World) -> None:
    registrar = world.registrars[0]
    for kind, subject, code in (
        ("grant", sha256_hex(world.payload), "grant.revoked"),
        ("actor", registrar.actor.id, "grant.invalid"),
        ("key", registrar.key.public.keyid, "grant.invalid"),
    ):
        world.items = (
            StatusItem(subject_kind=kind, subject=subject, state="revoked", since=world.clock, reason="inspection"),
        )
        assert world.refused(lambda body, parts: (body, parts)) == code


def test_a_second_product_over_a_few_more_rows_hides_what_the_difference_would_tell(world: World) -> None:
    first = {cell["at"][0]: cell["state"] for cell in world.compute().tables[0]["cells"]}
    assert first["*"] == "published"
    east = world.trial.nodes["node-east"].tables
    east["res.fines"] = pd.concat([east["res.fines"], east["res.fines"].head(2)], ignore_index=True)
    world.set_grant(grant_id="g-second")
    second = {cell["at"][0]: cell for cell in world.compute().tables[0]["cells"]}
    assert second["*"]["reason"] == "differencing"
    assert second["b"]["state"] == "published"  # of kind b there are as many as before
