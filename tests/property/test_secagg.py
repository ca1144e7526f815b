"""Laws of secure aggregation: masks cancel, shares recombine, a single vector says nothing."""

from itertools import combinations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.federation import secagg as operator_half
from nodes.contract import masking
from nodes.contract.parameters import SECAGG
from nodes.contract.tasks import linear
from nodes.privacy import shamir
from tests.secagg_group import QUESTION, Group, raw_sum

LIMIT = 2**SECAGG.value_bits
entries = st.lists(st.integers(-LIMIT, LIMIT), min_size=1, max_size=5)
few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@few
@given(st.binary(min_size=48, max_size=48), st.integers(2, 6), st.data())
def test_any_threshold_of_shares_rebuilds_the_secret(secret, holders, data):
    threshold = data.draw(st.integers(2, holders))
    shares = dict(enumerate(shamir.split(secret, threshold, holders), start=1))
    chosen = data.draw(st.permutations(sorted(shares)))[:threshold]
    assert operator_half.combine({place: shares[place] for place in chosen}, 48) == secret


def test_shares_below_the_threshold_differ_each_time_and_do_not_rebuild():
    secret = bytes(range(48))
    shares = shamir.split(secret, 3, 4)
    assert operator_half.combine({1: shares[0], 2: shares[1]}, 48) != secret
    assert shamir.split(secret, 3, 4) != shares


@few
@given(entries)
def test_integers_survive_the_ring(values):
    assert masking.from_ring(masking.to_ring(values)) == values


@few
@given(st.lists(st.floats(-1e15, 1e15), min_size=1, max_size=20))
def test_moments_survive_their_digits(values):
    total = [0] * linear.LIMBS
    for value in values:
        total = [a + b for a, b in zip(total, linear.digits(value), strict=True)]
    exact = sum(map(float, values))
    assert abs(linear.from_digits(total) - exact) <= 1e-9 * max(1.0, *map(abs, values))


@few
@given(st.integers(3, 5), st.data())
def test_masks_cancel_once_the_self_masks_are_taken_off(count, data):
    length = data.draw(st.integers(1, 4))
    vector = st.lists(st.integers(-LIMIT, LIMIT), min_size=length, max_size=length)
    group = Group.of(count, sums=1).ready()
    values = {name: data.draw(vector) for name in group.names}
    masked = group.mask(0, values)
    total = raw_sum(masked, length)
    roster = masking.roster_sha256(group.adverts)
    where = masking.context("s-group", roster, 0, group.names, QUESTION)
    for name, node in group.nodes.items():
        total -= masking.self_mask(node._seeds[0], name, where, length)
    assert masking.from_ring(total) == [sum(values[name][i] for name in values) for i in range(length)]


def test_every_threshold_of_three_survivors_opens_the_same_sum():
    group = Group.of(sums=1).ready()
    values = {"node-a": [7], "node-b": [-9], "node-c": [2**50]}
    masked = group.mask(0, values)
    signed = list(group.confirm(0, masked).values())
    given_away = {name: node.unmask(0, signed)[0] for name, node in group.nodes.items()}
    where = masking.context("s-group", masking.roster_sha256(group.adverts), 0, group.names, QUESTION)
    for pair in combinations(group.names, 2):
        total = raw_sum(masked, 1)
        for name in group.names:
            shares = {group.names.index(h) + 1: bytes.fromhex(given_away[h][name]) for h in pair}
            total -= masking.self_mask(operator_half.combine(shares, 16), name, where, 1)
        assert masking.from_ring(total) == [2**50 - 2]


def test_a_masked_vector_looks_uniform_and_changes_with_the_same_input():
    group = Group.of(sums=2).ready()
    length = 4096
    values = {name: [5] * length for name in group.names}
    first = masking.from_bytes(group.mask(0, values)["node-a"], length)
    second = masking.from_bytes(group.mask(1, values)["node-a"], length)
    assert not np.any(first == second)
    for vector in (first, second):
        ones = sum(int(value).bit_count() for value in vector)
        assert abs(ones - 32 * length) < 6 * np.sqrt(16 * length)
        counts = np.bincount(vector.astype("<u8").view(np.uint8), minlength=256)
        chi_square = float(np.sum((counts - 128.0) ** 2 / 128.0))
        assert 120 < chi_square < 420


def test_different_questions_leave_the_sum_masked():
    group = Group.of(sums=1).ready()
    values = {name: masking.to_ring([1]) for name in group.names}
    masked = {
        name: group.nodes[name].mask(0, group.names, "0" * 63 + str(place), values[name])
        for place, name in enumerate(group.names)
    }
    total = raw_sum(masked, 1)
    roster = masking.roster_sha256(group.adverts)
    for place, (name, node) in enumerate(group.nodes.items()):
        where = masking.context("s-group", roster, 0, group.names, "0" * 63 + str(place))
        total -= masking.self_mask(node._seeds[0], name, where, 1)
    assert masking.from_ring(total) != [3]
