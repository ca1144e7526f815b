"""What an operator may try between honest nodes, and what each node refuses."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from nodes.contract import canonical, masking
from nodes.contract.masking import Advertisement, Confirmation
from nodes.contract.messages import parse
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.tasks.spec import TaskRefusedError
from tests.federation_harness import signing_key
from tests.secagg_group import Group

VALUES = {"node-a": [1, -2], "node-b": [30, 40], "node-c": [500, 600]}


def refused(match: str):
    return pytest.raises(TaskRefusedError, match=match)


def test_keys_under_another_signing_key_are_refused():
    group = Group.of().advertise()
    stranger = sign(signing_key(), Advertisement.payload_type, group.adverts["node-b"].payload)
    keys = [group.adverts["node-a"].to_bytes(), stranger.to_bytes(), group.adverts["node-c"].to_bytes()]
    with refused("signed by a party"):
        group.nodes["node-a"].share(keys)


def test_keys_whose_bytes_were_changed_are_refused():
    group = Group.of().advertise()
    good = group.adverts["node-b"]
    payload = good.payload.replace(good.payload[-20:-10], b"0" * 10)
    bad = Envelope(good.payload_type, payload, good.keyid, good.signature)
    with refused("signed by a party"):
        group.nodes["node-a"].share([group.keys()[0], bad.to_bytes(), group.keys()[2]])


def test_keys_of_another_session_are_refused():
    old = Group.of(session="s-old").advertise()
    group = Group.of(members=old.members).advertise()
    with refused("node-b for this session"):
        group.nodes["node-a"].share([group.keys()[0], old.keys()[1], group.keys()[2]])


def test_a_node_signing_in_the_name_of_another_is_refused():
    group = Group.of().advertise()
    forged = sign(group.members["node-c"].key, Advertisement.payload_type, group.adverts["node-b"].payload)
    with refused("keys of node-c for this session"):
        group.nodes["node-a"].share([group.keys()[0], forged.to_bytes()])


def test_a_node_that_copies_anothers_keys_is_refused():
    group = Group.of().advertise()
    copied = parse(Advertisement, group.adverts["node-b"].payload).model_copy(update={"node": "node-c"})
    forged = sign(group.members["node-c"].key, Advertisement.payload_type, copied.to_payload())
    with refused("no two nodes to show the same key"):
        group.nodes["node-a"].share([*group.keys()[:2], forged.to_bytes()])


def test_a_roster_without_the_nodes_own_keys_is_refused():
    group = Group.of().advertise()
    with refused("own keys"):
        group.nodes["node-a"].share(group.keys()[1:])


def test_a_roster_with_older_keys_of_the_node_itself_is_refused():
    old = Group.of().advertise()
    group = Group.of(members=old.members).advertise()
    with refused("own keys as it advertised"):
        group.nodes["node-a"].share([old.keys()[0], *group.keys()[1:]])


def test_a_roster_below_the_threshold_is_refused():
    group = Group.of(contributors_min=3).advertise()
    with refused("at least 3 nodes, got 2"):
        group.nodes["node-a"].share(group.keys()[:2])


def test_the_same_node_twice_is_refused():
    group = Group.of().advertise()
    with refused("keys of node-b once"):
        group.nodes["node-a"].share([group.keys()[0], group.keys()[1], group.keys()[1]])


def test_a_second_roster_is_refused():
    group = Group.of().advertise().share()
    with refused("keys once"):
        group.nodes["node-a"].share(group.keys())


def test_swapped_sealed_shares_are_refused():
    group = Group.of().advertise().share()
    with refused("shares that node-b sealed"):
        group.nodes["node-a"].receive(group.names, list(reversed(group.for_("node-a"))))


def test_shares_sealed_for_another_node_are_refused():
    group = Group.of().advertise().share()
    with refused("sealed for this node in this session"):
        group.nodes["node-a"].receive(group.names, [group.sealed["node-b"]["node-c"], group.sealed["node-c"]["node-a"]])


def test_shares_replayed_from_another_session_are_refused():
    old = Group.of(session="s-old").ready()
    group = Group.of(members=old.members).advertise().share()
    with refused("in this session"):
        group.nodes["node-a"].receive(group.names, old.for_("node-a"))


def test_shares_made_for_another_roster_are_refused():
    group = Group.of(4, contributors_min=3).advertise()
    three = group.keys()[:3]
    split = {
        name: group.nodes[name].share(three if name == "node-b" else group.keys())
        for name in ("node-a", "node-b", "node-c")
    }
    with refused("node-b made for the same roster"):
        group.nodes["node-a"].receive(["node-a", "node-b", "node-c"], [split["node-b"][0], split["node-c"][0]])


def test_fewer_holders_than_the_threshold_are_refused():
    group = Group.of(contributors_min=3).advertise().share()
    with refused("holders at least 3"):
        group.nodes["node-a"].receive(["node-a", "node-b"], group.for_("node-a")[:1])


def test_a_sum_before_the_shares_is_refused():
    group = Group.of().advertise().share()
    with refused("shares before a sum"):
        group.mask(0, {"node-a": [1]})


@pytest.mark.parametrize("number", [-1, 3, 1000])
def test_a_sum_number_that_was_not_prepared_is_refused(number):
    group = Group.of().ready()
    with refused("a sum number above -1 and below 3"):
        group.mask(number, VALUES)


def test_a_second_masked_vector_for_the_same_sum_is_refused():
    group = Group.of().ready()
    group.mask(0, VALUES)
    with refused("a sum number above 0"):
        group.mask(0, VALUES)


def test_active_nodes_below_the_threshold_are_refused():
    group = Group.of(5).ready()
    with refused("active nodes at least 4 nodes, got 2"):
        group.mask(0, {"node-a": [1], "node-b": [1]})


def test_a_survivor_list_without_the_node_itself_is_refused():
    group = Group.of().ready()
    masked = group.mask(0, VALUES)
    listed = {name: sha256_hex(masked[name]) for name in ("node-b", "node-c")}
    with refused("this node among the survivors"):
        group.nodes["node-a"].confirm(0, listed)


def test_a_survivor_list_with_another_vector_of_the_node_is_refused():
    group = Group.of().ready()
    listed = {name: sha256_hex(b"other") for name in group.mask(0, VALUES)}
    with refused("masked vector as it sent it"):
        group.nodes["node-a"].confirm(0, listed)


def test_survivors_below_the_threshold_are_refused():
    group = Group.of(contributors_min=3).ready()
    masked = group.mask(0, VALUES)
    del masked["node-c"]
    with refused("survivors at least 3 nodes, got 2"):
        group.confirm(0, masked)


def test_a_second_survivor_list_for_the_same_sum_is_refused():
    group = Group.of().ready()
    masked = group.mask(0, VALUES)
    group.confirm(0, masked)
    with refused("one survivor list per sum"):
        group.confirm(0, {name: masked[name] for name in ("node-a", "node-b")})


def test_a_survivor_that_was_not_active_is_refused():
    group = Group.of(4).ready()
    masked = group.mask(0, {name: [1] for name in ("node-a", "node-b", "node-c")})
    with refused("survivors sorted, each once, all of them still in the session"):
        group.confirm(0, masked | {"node-d": b"later"})


def test_opening_without_a_threshold_of_confirmations_is_refused():
    group = Group.of().ready()
    signed = group.confirm(0, group.mask(0, VALUES))
    with refused("at least 2 equal confirmations, got 1"):
        group.nodes["node-a"].unmask(0, [signed["node-b"], signed["node-b"]])


def test_two_survivor_lists_shown_to_two_nodes_open_nothing():
    group = Group.of().ready()
    masked = group.mask(0, VALUES)
    listed = {name: sha256_hex(part) for name, part in masked.items()}
    without_c = {name: listed[name] for name in ("node-a", "node-b")}
    one = group.nodes["node-a"].confirm(0, without_c).to_bytes()
    two = group.nodes["node-b"].confirm(0, listed).to_bytes()
    three = group.nodes["node-c"].confirm(0, listed).to_bytes()
    with refused("the same survivors"):
        group.nodes["node-a"].unmask(0, [one, two])
    with refused("the same survivors"):
        group.nodes["node-b"].unmask(0, [one, two])
    seeds, keys = group.nodes["node-b"].unmask(0, [two, three])
    assert (sorted(seeds), keys) == (["node-a", "node-b", "node-c"], {})


def test_an_operator_with_one_of_five_nodes_cannot_have_two_survivor_lists_confirmed():
    group = Group.of(5).ready()
    masked = group.mask(0, {name: [1] for name in group.names})
    digests = {name: sha256_hex(part) for name, part in masked.items()}
    # node-e would confirm both; shares of both secrets of node-c and node-d would come together.
    for honest in (("node-a", "node-b"), ("node-c", "node-d")):
        for name in honest:
            with refused("survivors at least 4 nodes, got 3"):
                group.nodes[name].confirm(0, {other: digests[other] for other in (*honest, "node-e")})


@pytest.mark.parametrize("nodes", range(4, 201))
def test_two_thirds_leave_no_room_for_two_lists_when_a_third_of_the_nodes_collude(nodes):
    least = masking.threshold(nodes, 1)
    colluding = nodes // 3
    assert 2 * (least - colluding) > nodes - colluding
    assert least <= nodes - 1


def test_of_three_nodes_two_suffice_unless_the_grant_wants_all():
    assert (masking.threshold(3, 1), masking.threshold(3, 2), masking.threshold(3, 3)) == (2, 2, 3)


LOW_ORDER = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)
NOT_CANONICAL = (
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0900000000000000000000000000000000000000000000000000000000000080",
)


@pytest.mark.parametrize("key", (*LOW_ORDER, *NOT_CANONICAL))
def test_a_node_that_advertises_a_key_without_a_secret_is_refused_before_anything_is_shared(key):
    group = Group.of().advertise()
    good = canonical.loads(group.adverts["node-b"].payload)
    payload = canonical.dumps(good | {"public_keys": [key, *good["public_keys"][1:]]})
    bad = sign(group.members["node-b"].key, Advertisement.payload_type, payload)
    with refused("signed by a party"):
        group.nodes["node-a"].share([group.keys()[0], bad.to_bytes(), group.keys()[2]])


@pytest.mark.parametrize("key", LOW_ORDER)
def test_the_listed_keys_are_those_for_which_no_secret_is_agreed(key):
    with pytest.raises(ValueError, match="shared key"):
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(key)))


def test_one_node_never_gives_both_shares_of_a_peer_in_one_sum():
    group = Group.of().ready()
    masked = group.mask(0, VALUES)
    del masked["node-c"]
    signed = group.confirm(0, masked)
    seeds, keys = group.nodes["node-a"].unmask(0, list(signed.values()))
    assert sorted(seeds) == ["node-a", "node-b"]
    assert sorted(keys) == ["node-c"]
    with refused("open each sum once"):
        group.nodes["node-a"].unmask(0, list(signed.values()))


def test_confirmations_of_another_sum_are_refused():
    group = Group.of().ready()
    first = group.confirm(0, group.mask(0, VALUES))
    for node in group.nodes.values():
        node.unmask(0, list(first.values()))
    group.confirm(1, group.mask(1, VALUES))
    with refused("the same survivors of the same sum"):
        group.nodes["node-a"].unmask(1, list(first.values()))


def test_confirmations_signed_by_a_stranger_are_refused():
    group = Group.of().ready()
    signed = group.confirm(0, group.mask(0, VALUES))
    payload = Envelope.from_bytes(signed["node-b"]).payload
    stranger = sign(signing_key(), Confirmation.payload_type, payload).to_bytes()
    with refused("nodes that are active"):
        group.nodes["node-a"].unmask(0, [signed["node-a"], stranger])


def test_confirmations_under_another_question_are_refused():
    group = Group.of().ready()
    active = group.names
    masked = {
        name: group.nodes[name].mask(0, active, sha256_hex(name.encode()), masking.to_ring([1, 2])) for name in active
    }
    signed = group.confirm(0, masked)
    with refused("the same survivors of the same sum"):
        group.nodes["node-a"].unmask(0, list(signed.values()))


def test_a_node_that_dropped_stays_out():
    group = Group.of().ready()
    masked = group.mask(0, VALUES)
    del masked["node-c"]
    signed = group.confirm(0, masked)
    for name in masked:
        group.nodes[name].unmask(0, list(signed.values()))
    with refused("still in the session"):
        group.nodes["node-a"].mask(1, group.names, sha256_hex(b"q"), np.zeros(1, dtype=np.uint64))


def test_after_closing_nothing_is_left_to_ask_for():
    group = Group.of().ready()
    group.nodes["node-a"].close()
    with refused("shares before a sum"):
        group.nodes["node-a"].mask(0, group.names, sha256_hex(b"q"), np.zeros(1, dtype=np.uint64))


def test_the_state_of_a_node_shows_no_secret():
    group = Group.of().ready()
    assert repr(group.nodes["node-a"]).startswith("<nodes.privacy.secagg.MaskedSums object")
