"""Private set intersection between two processes: equal to the plain one, and refused where a peer breaks the rules."""

import hashlib
import math
import os
import random
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from nodes.contract.errors import BadElementError
from nodes.contract.tasks.match import MatchField
from nodes.privacy import kernels, psi, psi_kkrt, psi_prepared, psi_union
from nodes.privacy.keys import keyed_rows
from nodes.privacy.normalise import inputs
from nodes.privacy.ot import random_choices, receive_seeds, send_seeds
from nodes.privacy.psi_cardinality import answer_count, ask_count
from nodes.privacy.psi_kkrt import Items, Plan, receive_intersection, send_intersection
from tests.party_pairs import pair

SIZES = ((1, 1, 1), (1, 1, 0), (100, 80, 40), (569, 569, 284), (3000, 3001, 1500), (7, 2000, 5), (2000, 7, 6))


def drawn(receiver: int, sender: int, common: int) -> tuple[list[bytes], list[bytes]]:
    numbers = random.Random(receiver * 7 + sender).sample(range(10**12), receiver + sender - common)
    items = [b"%018d" % number for number in numbers]
    return items[:receiver], items[receiver - common :]


def test_the_receiver_finds_exactly_the_common_items_at_odd_sizes():
    sets = [drawn(*sizes) for sizes in SIZES]

    def receive(party):
        return [receive_intersection(party, Items.of(mine)).shared.tolist() for mine, _ in sets]

    def send(party):
        return [send_intersection(party, Items.of(theirs)).theirs for _, theirs in sets]

    receiver, sender = pair(receive, send)
    assert receiver.value == [[item in set(theirs) for item in mine] for mine, theirs in sets]
    assert sender.value == [len(mine) for mine, _ in sets]


@pytest.mark.parametrize("keep", [100, 10_000])
def test_many_buckets_give_the_same_as_one(monkeypatch, keep):
    monkeypatch.setattr(psi_kkrt, "BUCKET_ITEMS", 256)  # sizes, not rules: real buckets take seconds
    monkeypatch.setattr(psi_kkrt, "KEEP_ITEMS", keep)
    mine, theirs = drawn(3000, 2500, 1200)
    receiver, _ = pair(
        lambda party: receive_intersection(party, Items.of(mine)).shared.tolist(),
        lambda party: send_intersection(party, Items.of(theirs)),
    )
    assert receiver.value == [item in set(theirs) for item in mine]
    labels = [label for label, _ in receiver.sent]
    assert labels.count("psi.matrix") == 12


def test_cardinality_counts_and_nothing_tells_which():
    mine, theirs = drawn(60, 90, 33)
    asker, other = pair(
        lambda party: ask_count(party, Items.of(mine)),
        lambda party: answer_count(party, Items.of(theirs)),
        keep_received=True,
    )
    assert (asker.value, other.value) == (33, 60)
    received = dict(asker.received)
    images = [received["psica.shuffled"][start : start + 32] for start in range(0, 60 * 32, 32)]
    tags = [received["psica.tags"][start : start + 16] for start in range(0, 90 * 16, 16)]
    assert images == sorted(images)
    assert tags == sorted(tags)


@pytest.mark.parametrize("role", ["receiver", "sender"])
def test_an_item_that_occurs_twice_is_the_callers_mistake(role):
    with pytest.raises(ValueError, match="each item once"):
        psi_kkrt._require_distinct(
            kernels.digest_items(*_parts([b"a", b"b", b"a"] if role == "receiver" else [b"x", b"x"]), bytes(32))
        )


def _parts(items: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    made = Items.of(items)
    return made.data, made.offsets


# What a peer may send instead


class Twisted:
    """A channel that changes what this side sends under one label."""

    def __init__(self, party, label: str, change) -> None:
        self.party, self.label, self.change, self.peer = party, label, change, party.peer

    def send(self, label, data):
        self.party.send(label, self.change(bytes(data)) if label == self.label else data)

    def receive(self, label, *, size_max):
        return self.party.receive(label, size_max=size_max)


@pytest.mark.parametrize(
    ("label", "change"),
    [
        ("psi.matrix", lambda data: data[:-8]),
        ("psi.matrix", lambda data: data + bytes(8)),
        ("psi.hello", lambda data: (2**40).to_bytes(8, "big") + data[8:]),
        ("psi.hello", lambda data: bytes(8) + data[8:]),
        ("ot.point", lambda data: bytes(32)),
        ("ot.point", lambda data: b"\xff" * 32),
    ],
)
def test_a_sender_refuses_a_malformed_receiver(label, change):
    mine, theirs = drawn(50, 60, 20)
    _, sender = pair(
        lambda party: receive_intersection(Twisted(party, label, change), Items.of(mine)),
        lambda party: send_intersection(party, Items.of(theirs)),
    )
    assert sender.value is None
    assert sender.error[1] in {"task.protocol", "request.too_large", "contract.bad_element"}


@pytest.mark.parametrize(
    ("label", "change"),
    [
        ("psi.tags", lambda data: data[:-1]),
        ("psi.tags", lambda data: data + b"0"),
        ("ot.chosen", lambda data: bytes(32) + data[32:]),
        ("ot.chosen", lambda data: b"\xff" * 32 + data[32:]),
        ("ot.chosen", lambda data: data[:-32]),
    ],
)
def test_a_receiver_refuses_a_malformed_sender(label, change):
    mine, theirs = drawn(50, 60, 20)
    receiver, _ = pair(
        lambda party: receive_intersection(party, Items.of(mine)),
        lambda party: send_intersection(Twisted(party, label, change), Items.of(theirs)),
    )
    assert receiver.value is None
    assert receiver.error[1] in {"task.protocol", "request.too_large", "contract.bad_element"}


@pytest.mark.parametrize(
    ("asking", "label", "change"),
    [
        (True, "psica.blinded", lambda data: data[:32] * (len(data) // 32)),  # the same element again and again
        (True, "psica.blinded", lambda data: bytes(32) + data[32:]),
        (False, "psica.tags", lambda data: data[:16] * (len(data) // 16)),
        (False, "psica.shuffled", lambda data: data[32:]),
    ],
)
def test_a_malformed_count_is_refused(asking, label, change):
    mine, theirs = drawn(20, 30, 10)
    asker, other = pair(
        lambda party: ask_count(Twisted(party, label, change) if asking else party, Items.of(mine)),
        lambda party: answer_count(party if asking else Twisted(party, label, change), Items.of(theirs)),
    )
    refusing = other if asking else asker
    assert refusing.value is None
    assert refusing.error[1] in {"task.protocol", "contract.bad_element"}


# Joining for training


def table(keys: list[bytes]):
    return keyed_rows(pd.DataFrame({"id": [key.decode() for key in keys]}), (MatchField(column="id"),))


def test_both_sides_end_with_the_same_rows_in_an_order_that_is_no_tables():
    mine, theirs = drawn(400, 300, 200)
    leader, follower = pair(
        lambda party: psi.lead(party, table(mine), minimum=10).tolist(),
        lambda party: psi.follow(party, "node-a", table(theirs), minimum=10).tolist(),
    )
    joined = [mine[row] for row in leader.value]
    assert joined == [theirs[row] for row in follower.value]
    assert set(joined) == set(mine) & set(theirs)
    assert leader.value != sorted(leader.value)
    assert follower.value != sorted(follower.value)


def test_too_few_common_rows_end_the_session_before_an_order_is_told():
    mine, theirs = drawn(100, 100, 9)
    leader, follower = pair(
        lambda party: psi.lead(party, table(mine), minimum=10),
        lambda party: psi.follow(party, "node-a", table(theirs), minimum=10),
    )
    assert leader.error[1] == "resource.rows"
    assert "9" not in leader.error[2]
    assert "psi.order" not in dict(leader.sent)
    assert follower.value is None


def test_a_follower_holds_its_own_minimum():
    mine, theirs = drawn(100, 100, 12)
    _, follower = pair(
        lambda party: psi.lead(party, table(mine), minimum=1),
        lambda party: psi.follow(party, "node-a", table(theirs), minimum=13),
    )
    assert follower.error[1] == "resource.rows"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: os.urandom(16) + data[16:],
        lambda data: data[16:32] + data[16:],  # a name twice: the row would weigh double
        lambda data: data[:-1],
    ],
)
def test_a_follower_refuses_names_that_are_not_its_rows(change):
    mine, theirs = drawn(100, 100, 50)

    class Leading:
        def __init__(self, party) -> None:
            self.party, self.peers = party, party.peers

        def channel(self, peer):
            return Twisted(self.party, "psi.order", change)

    _, follower = pair(
        lambda party: psi.lead(Leading(party), table(mine), minimum=1).tolist(),
        lambda party: psi.follow(party, "node-a", table(theirs), minimum=1),
    )
    assert follower.error[1] == "task.protocol"


# Bounds and building blocks


def test_two_codes_differ_enough_for_every_session():
    # KKRT16, section 4: codes of items in one bin must differ in at least 128 of 448 places; per pair Binomial(448, 1/2).
    tail = sum(math.comb(psi_kkrt.COLUMNS, places) for places in range(128)) / 2**psi_kkrt.COLUMNS
    pairs = 3 * 2**20
    assert math.log2(tail * pairs) < -40


def test_a_bucket_overflows_with_negligible_probability():
    size, buckets = 2**20, 8
    rows = psi_kkrt._bucket_rows(size, buckets)
    mean = size / buckets
    excess = rows - mean
    assert math.log2(buckets) - (excess**2 / (2 * mean + 2 * excess / 3)) / math.log(2) <= -40 + 0.01


def test_a_tag_is_long_enough_for_the_whole_session():
    plan = Plan.of(2**20, 2**20, mine=2**20, theirs=2**20)
    comparisons = math.log2(2**20) + math.log2(plan.sender_rows)
    assert 8 * plan.tag_bytes - comparisons >= 40


def test_compiled_hashes_are_blake2b():
    items = [os.urandom(length) for length in (0, 1, 18, 127, 128, 129, 1000)]
    found = kernels.digest_items(*_parts(items), b"k" * 32)
    assert [row.tobytes() for row in found] == [hashlib.blake2b(item, key=b"k" * 32).digest() for item in items]
    rows = np.frombuffer(os.urandom(56 * 9), np.uint64).reshape(9, 7)
    bins = np.arange(9)[::-1].copy()
    digests = [
        hashlib.blake2b(row.tobytes() + int(place).to_bytes(8, "little"), digest_size=16).digest()
        for row, place in zip(rows, bins, strict=True)
    ]
    assert [row.tobytes() for row in kernels.digest_rows(rows, bins)] == digests


def test_transposition_is_the_matrix_transposed():
    rows = np.frombuffer(os.urandom(56 * 128), np.uint64).reshape(128, 7)
    columns = kernels.to_columns(rows)
    bits = np.unpackbits(rows.view(np.uint8), axis=1, bitorder="little")
    assert (np.unpackbits(columns.view(np.uint8), axis=1, bitorder="little") == bits.T).all()
    assert (kernels.to_rows(columns) == rows).all()


def test_transfers_give_the_chosen_seed_and_no_other():
    choices = random_choices(64)
    sender, receiver = pair(lambda party: send_seeds(party, 64), lambda party: receive_seeds(party, choices))
    assert receiver.value == [both[choice] for both, choice in zip(sender.value, choices.tolist(), strict=True)]
    assert not any(
        seed == both[1 - choice]
        for seed, both, choice in zip(receiver.value, sender.value, choices.tolist(), strict=True)
    )


def test_keys_are_the_bytes_of_private_verification():
    frame = pd.DataFrame(
        {
            "id": ["110101900307447", "11010119900307447X", " ａｂ1", None, "x", "x", ""],
            "name": ["甲•乙", "丙", "（丁）", "戊", "己", "己", "庚"],
            "number": [1.0, 2.5, 3.0, 4.0, 5.0, 5.0, 6.0],
        }
    )
    fields = (
        MatchField(column="id", rules=("width", "trim", "id18", "upper")),
        MatchField(column="name", rules=("brackets", "name_dots")),
        MatchField(column="number", rules=()),
    )
    keyed = keyed_rows(frame, fields)
    items = [
        keyed.items.data[keyed.items.offsets[row] : keyed.items.offsets[row + 1]].tobytes()
        for row in range(len(keyed.items))
    ]
    expected, empty = inputs(frame, fields)
    assert sorted(items) == sorted(expected)
    assert (keyed.rows.tolist(), keyed.repeated, keyed.empty) == ([0, 1, 2, 4], 1, empty)


def test_a_point_that_is_no_element_is_refused():
    from nodes.contract import voprf

    with pytest.raises(BadElementError):
        voprf.require_element(b"\xff" * 32)


# One side prepared


def test_a_prepared_holder_answers_and_its_tags_are_fetched_once(tmp_path):
    mine, theirs = drawn(40, 300, 17)
    prepared = psi_prepared.prepare(Items.of(theirs), bytes(32), None)

    def asked(party):
        return [psi_prepared.ask(party, Items.of(mine), tmp_path / "copy" / "tags").tolist() for _ in range(2)]

    asker, holder = pair(
        asked, lambda party: [psi_prepared.answer(party, prepared.key, prepared.tags.tobytes()) for _ in range(2)]
    )
    assert asker.value == [[item in set(theirs) for item in mine]] * 2
    assert holder.value == [40, 40]
    assert [label for label, _ in holder.sent].count("psip.tags") == 1


def test_only_new_items_are_evaluated_and_what_was_stored_is_read_again(tmp_path):
    _, theirs = drawn(1, 100, 1)
    before = psi_prepared.prepare(Items.of(theirs), bytes(32), None)
    psi_prepared.store(tmp_path / "folder" / "file", before)
    again = psi_prepared.load(tmp_path / "folder" / "file")
    assert again is not None
    assert (tmp_path / "folder" / "file").stat().st_mode & 0o777 == 0o600
    after = psi_prepared.prepare(Items.of([*theirs[:-1], b"new"]), bytes(32), again)
    kept = {tag.tobytes() for tag in before.tags} & {tag.tobytes() for tag in after.tags}
    assert (after.key, len(kept)) == (before.key, 99)
    other = psi_prepared.prepare(Items.of([b"%d" % number for number in range(100)]), bytes(32), again)
    assert other.key != before.key
    assert repr(again) == "Prepared()"


@pytest.mark.parametrize(
    ("asking", "label", "change", "code"),
    [
        (False, "psip.tags", lambda data: bytes(12) + data[12:], "task.protocol"),
        (False, "psip.evaluated", lambda data: bytes(32) + data[32:], "contract.bad_element"),
        (False, "psip.evaluated", lambda data: data[32:], "task.protocol"),
        (False, "psip.hello", lambda data: data[:32] + (2**60).to_bytes(8, "big"), "task.protocol"),
        (True, "psip.blinded", lambda data: b"\xff" * 32 + data[32:], "contract.bad_element"),
        (True, "psip.blinded", lambda data: data[:-1], "task.protocol"),
        (True, "psip.blinded", lambda data: b"", "task.protocol"),
    ],
)
def test_a_malformed_prepared_comparison_is_refused(tmp_path, asking, label, change, code):
    mine, theirs = drawn(5, 20, 3)
    prepared = psi_prepared.prepare(Items.of(theirs), bytes(32), None)
    asker, holder = pair(
        lambda party: psi_prepared.ask(
            Twisted(party, label, change) if asking else party, Items.of(mine), tmp_path / "f" / "tags"
        ),
        lambda party: psi_prepared.answer(
            party if asking else Twisted(party, label, change), prepared.key, prepared.tags.tobytes()
        ),
    )
    assert (holder if asking else asker).error[1] == code


# One list for all rows


def test_a_union_has_one_order_and_a_dummy_where_a_side_has_no_row():
    mine, theirs = drawn(40, 30, 12)
    one, other = pair(
        lambda party: psi_union.join_union(party, table(mine)), lambda party: psi_union.join_union(party, table(theirs))
    )
    left, right = one.value.rows.tolist(), other.value.rows.tolist()
    assert (one.value.common, other.value.common, len(left), len(right)) == (12, 12, 58, 58)
    both = [(mine[a], theirs[b]) for a, b in zip(left, right, strict=True) if a >= 0 and b >= 0]
    assert len(both) == 12
    assert all(a == b for a, b in both)
    assert sorted(row for row in left if row >= 0) == list(range(40))
    assert sorted(row for row in right if row >= 0) == list(range(30))
    assert all(a >= 0 or b >= 0 for a, b in zip(left, right, strict=True))


def test_nothing_a_side_receives_is_the_image_of_a_row_of_its_own_in_the_clear():
    # What would tell which rows are common: an element of the peer's that this side can tie to one row of its own.
    mine, theirs = drawn(20, 20, 10)
    one, _ = pair(
        lambda party: psi_union.join_union(party, table(mine)),
        lambda party: psi_union.join_union(party, table(theirs)),
        keep_received=True,
    )
    received = dict(one.received)
    assert received["psiu.mixed"] == b"".join(sorted(received["psiu.mixed"][at : at + 32] for at in range(0, 640, 32)))
    foreign = {received["psiu.foreign"][at : at + 32] for at in range(0, len(received["psiu.foreign"]), 32)}
    named = {received["psiu.named"][at : at + 32] for at in range(0, 640, 32)}
    assert len(foreign) == 10
    assert not foreign & named


@pytest.mark.parametrize(
    ("label", "change", "code"),
    [
        ("psiu.own", lambda data: data[:32] + data[:-32], "task.protocol"),
        ("psiu.own", lambda data: b"\xff" * 32 + data[32:], "contract.bad_element"),
        ("psiu.named", lambda data: data[32:], "task.protocol"),
        ("psiu.named", lambda data: data[:32] + data[:-32], "task.protocol"),
        ("psiu.foreign", lambda data: data[32:], "task.protocol"),
        ("psiu.finished", lambda data: data[:32] + data[:-32], "task.protocol"),
    ],
)
def test_a_malformed_union_is_refused(label, change, code):
    mine, theirs = drawn(12, 10, 4)
    one, _ = pair(
        lambda party: psi_union.join_union(party, table(mine)),
        lambda party: psi_union.join_union(Twisted(party, label, change), table(theirs)),
    )
    assert one.error[1] == code


def test_without_the_extra_the_error_names_it():
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from nodes.errors import MissingPartError\n"
        "try:\n    import nodes.privacy.kernels\n"
        "except MissingPartError as error:\n    print(error.code, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("node.missing_part expected the extra `vertical`")
