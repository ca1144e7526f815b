"""Masked inner products under another party's key: right sums, uniform integers, and what the key's holder refuses."""

import numpy as np
import pytest

from nodes.contract.errors import BadCiphertextError
from nodes.contract.parameters import CKKS_VERTICAL
from nodes.contract.tasks.sigmoid import identity, sigmoid
from nodes.privacy import vertical_ckks as ckks
from nodes.privacy.vertical_ckks import Calculator, Columns, Holder

ROWS = 700
RNG = np.random.default_rng(5)


def both(levels: int, *, answers: int = 50) -> tuple[Holder, Calculator]:
    fixed = ckks.agree(rows=ROWS, levels=levels, column_max=3.0, residual_max=1.6)
    holder = Holder(fixed, answers=answers)
    return holder, Calculator(fixed, holder.public_bytes)


@pytest.fixture(scope="module")
def flat() -> tuple[Holder, Calculator]:
    return both(0, answers=100)


def clear(polynomial, logits) -> np.ndarray:
    return np.array([polynomial.at(value) for value in logits])


@pytest.mark.parametrize("polynomial", [identity(2), sigmoid(3, 2), sigmoid(7, 2)], ids=["1", "3", "7"])
def test_sums_over_rows_are_those_of_the_clear_computation(polynomial):
    holder, calculator = both(polynomial.levels)
    share = polynomial.half_width / 2
    mine, theirs = (np.clip(RNG.normal(size=ROWS) * 2, -share, share) for _ in range(2))
    labels = RNG.integers(0, 2, ROWS) - 0.5
    columns = np.clip(RNG.normal(size=(ROWS, 4)), -3, 3)
    blocks = calculator.read(holder.encrypt(mine / polynomial.half_width), ROWS)
    calculator.add(blocks, theirs / polynomial.half_width)
    residuals = calculator.polynomial(polynomial, blocks)
    sealed = calculator.read(holder.encrypt(-labels, spent=polynomial.levels), ROWS, spent=polynomial.levels)
    calculator.add_encrypted(residuals, sealed)
    products, masks = calculator.products(residuals, Columns(columns))
    sums = calculator.unmask(holder.open(products, 4), masks)
    expected = columns.T @ (clear(polynomial, mine + theirs) - labels)
    assert np.abs(sums - expected).max() < 0.5  # flooding has a standard deviation of 0.06


def test_weights_of_rows_multiply_residuals(monkeypatch):
    holder, calculator = both(2)
    values, weights, own = RNG.uniform(-1, 1, ROWS), RNG.uniform(0.5, 2, ROWS), RNG.uniform(0.5, 2, ROWS)
    blocks = calculator.read(holder.encrypt(values), ROWS)
    sealed = calculator.read(holder.encrypt(weights), ROWS)
    weighted = calculator.times(calculator.times_encrypted(blocks, sealed), own, spent=1)
    products, masks = calculator.products(weighted, Columns(np.ones((ROWS, 1))))
    assert calculator.unmask(holder.open(products, 1), masks)[0] == pytest.approx(
        (values * weights * own).sum(), abs=0.5
    )


def test_a_joint_histogram_counts_rows_by_the_sum_of_two_bins(flat):
    holder, calculator = flat
    theirs, mine = RNG.integers(0, 3, ROWS), RNG.integers(0, 4, ROWS)
    by_bin = [calculator.read(holder.encrypt((theirs == place).astype(float)), ROWS) for place in range(3)]
    products, masks = calculator.histogram(by_bin, Columns(np.eye(4)[mine]))
    counts = calculator.unmask(holder.open(products, 6), masks)
    assert np.abs(counts - np.bincount(theirs + mine, minlength=6)).max() < 0.5


def test_what_the_holder_decrypts_is_uniform_whatever_the_columns(flat):
    holder, calculator = flat
    blocks = calculator.read(holder.encrypt(np.ones(ROWS)), ROWS)
    products, _ = calculator.products(blocks, Columns(np.ones((ROWS, 40))))
    size = ckks.products_bytes(1)
    words = [int.from_bytes(products[at : at + 8], "little") for at in range(0, len(products), size)]
    opened = [
        int.from_bytes(holder.open(products[at : at + size], 1), "little") for at in range(0, len(products), size)
    ]
    for values in (words, opened):
        assert len(set(values)) == 40
        assert (
            8 <= sum(value >> (CKKS_VERTICAL.base_bits - 1) & 1 for value in values) <= 32
        )  # fails once in 10**4 … by chance


def test_the_part_of_the_ciphertext_that_meets_the_columns_is_fresh_each_time(flat):
    holder, calculator = flat
    blocks = calculator.read(holder.encrypt(np.ones(ROWS)), ROWS)
    same = Columns(np.ones((ROWS, 2)))
    products, _ = calculator.products(blocks, same)
    size = ckks.products_bytes(1)
    first, second = (np.frombuffer(products[at + 8 : at + size], dtype="<u8") for at in (0, size))
    assert np.mean(first == second) < 0.01


def test_an_opened_value_carries_flooding_noise():
    fixed = ckks.agree(rows=ROWS, levels=0, column_max=3.0, residual_max=1.6)
    bound = 2.0 ** (fixed.column_scale_bits + CKKS_VERTICAL.noise_bits - CKKS_VERTICAL.drop_bits) * 3.0
    assert fixed.flooding >= 8 * bound * 2**20 * (24 * CKKS_VERTICAL.answers_max) ** 0.5
    holder, calculator = both(0)
    blocks = calculator.read(holder.encrypt(np.ones(ROWS)), ROWS)
    products, masks = calculator.products(blocks, Columns(np.zeros((ROWS, 30))))
    sums = calculator.unmask(holder.open(products, 30), masks)
    assert len(set(sums)) == 30
    assert 0.01 < sums.std() < 0.3


class TestRefused:
    """The holder is no decryption service."""

    def test_more_products_than_announced(self):
        holder, calculator = both(0, answers=1)
        blocks = calculator.read(holder.encrypt(np.ones(ROWS)), ROWS)
        products, _ = calculator.products(blocks, Columns(np.ones((ROWS, 2))))
        with pytest.raises(BadCiphertextError, match="at most 1 more"):
            holder.open(products, 2)
        holder.open(products[: ckks.products_bytes(1)], 1)
        with pytest.raises(BadCiphertextError, match="at most 0 more"):
            holder.open(products[ckks.products_bytes(1) :], 1)

    def test_a_product_that_was_opened_before(self, flat):
        holder, calculator = flat
        blocks = calculator.read(holder.encrypt(np.ones(ROWS)), ROWS)
        products, _ = calculator.products(blocks, Columns(np.ones((ROWS, 1))))
        holder.open(products, 1)
        other = (int.from_bytes(products[:8], "little") // 2).to_bytes(8, "little") + products[8:]
        with pytest.raises(BadCiphertextError, match="seen"):
            holder.open(other, 1)

    def test_a_product_that_hides_nothing(self, flat):
        with pytest.raises(BadCiphertextError, match="hides nothing"):
            flat[0].open(bytes(ckks.products_bytes(1)), 1)

    def test_an_integer_or_a_ring_part_beyond_the_modulus(self, flat):
        for content in (
            b"\xff" * 8 + b"\x01" * (ckks.products_bytes(1) - 8),
            bytes(8) + b"\xff" * (ckks.products_bytes(1) - 8),
        ):
            with pytest.raises(BadCiphertextError):
                flat[0].open(content, 1)

    def test_bytes_of_another_length(self, flat):
        with pytest.raises(BadCiphertextError, match="bytes of 1 products"):
            flat[0].open(bytes(ckks.products_bytes(1) + 1), 1)


def test_a_calculator_refuses_ciphertexts_of_another_level_number_or_set(flat):
    holder, calculator = both(2)
    low = holder.encrypt(np.ones(ROWS), spent=1)
    with pytest.raises(BadCiphertextError, match="level"):
        calculator.read(low, ROWS)
    with pytest.raises(BadCiphertextError, match="expected 2 parts"):
        calculator.read(low, ROWS + ckks.SLOTS)
    with pytest.raises(BadCiphertextError):
        calculator.read(flat[0].encrypt(np.ones(ROWS)), ROWS)
    with pytest.raises(BadCiphertextError):
        Calculator(ckks.agree(rows=ROWS, levels=2, column_max=3.0, residual_max=1.6), flat[0].public_bytes)


def test_more_answers_or_rows_than_the_set_allows_are_refused():
    fixed = ckks.agree(rows=ROWS, levels=0, column_max=3.0, residual_max=1.6)
    with pytest.raises(ValueError, match="answers"):
        Holder(fixed, answers=CKKS_VERTICAL.answers_max + 1)
    with pytest.raises(ValueError, match="fewer rows"):
        ckks.agree(rows=2**26, levels=0, column_max=3.0, residual_max=1.6)


def test_the_parameter_set_keeps_to_the_standard():
    assert sum(CKKS_VERTICAL.modulus_bits(CKKS_VERTICAL.levels_max)) <= 438
    assert 2**CKKS_VERTICAL.flooding_bits >= (24 * CKKS_VERTICAL.answers_max) ** 0.5 * 2**20
    with pytest.raises(ValueError, match="levels"):
        CKKS_VERTICAL.modulus_bits(CKKS_VERTICAL.levels_max + 1)
