"""Parameters and product of ``linear.secagg``: horizontal logistic regression.

Rows stay at the nodes; every figure the operator gets is a sum over at least the grant's
``contributors_min`` nodes, opened by secure aggregation (``nodes.contract.masking``).

Steps, in this order (all from the operator; *sum* marks a masked vector):

    secagg.keys     everybody's signed keys in, sealed shares for everybody out
    secagg.shares   the shares sealed for this node in
    linear.means    sum   rows, positives, and per feature the count and total of present values
    linear.gram     sum   centred second moments, missing values set to the mean
    linear.train    sum   rows and rows·weights after ``local_steps`` steps from the round's point
    linear.score    sum   histograms of scores by class, for the training and test rows, and what attacks on the
                          model achieve on this node's rows (``nodes.tasks.linear_attacks``)
    linear.compare  this node's own model beside the federated one on its own test rows, rounded
    linear.accept   the finished model file; the node vouches for it if it is what it scored
    secagg.confirm, secagg.unmask   after each sum: agree on the survivors, then open

The step of a sum brings the evidence of the one before; each node opens it for itself and
derives the next point with ``nodes.contract.tasks.descent``, as the operator does.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nodes.contract import canonical
from nodes.contract.messages import Condition, Part, Scalar, Text
from nodes.contract.parameters import SECAGG

TASK = "linear.secagg"

LIMB_BITS = 40
"""Second moments travel as signed base-2**40 digits, so that no scale of a column overflows."""

LIMBS = 4
"""Digits per second moment: 2**160 units."""

MOMENT_BITS = 60
"""Unit of moments: 2**-60 of the column's (squared) unit."""

BINS = 64
"""Bins of a score histogram."""

BIN_LOGIT_MAX = 8
"""Histogram range in logits, ±8; scores beyond fall into the outer bins. Zero is a bin edge."""

ROWS_MAX = 2**24
"""Most rows of one node, so that rows·weights stays within ``SECAGG.value_bits``."""

WEIGHT_MAX = 2**6
"""Weights of standardised features are clipped to ±64 before they are masked."""


class SplitColumn(Part):
    """The test rows are those with ``test_value`` in ``column``; the others train."""

    column: Text
    test_value: Scalar


class LinearParameters(Part):
    """What an order for ``linear.secagg`` may say.

    Attributes:
        parameter_set: the only one of this release.
        features: numeric columns, in the model's order.
        label: a row is positive when this condition holds; rows without a label do not count.
        zero_is_missing: features in which zero stands for "not recorded".
        rounds: most training rounds.
        local_steps: full-batch steps of each node per round.
        l2_micro: weight of the penalty ``½·λ·|w|²`` beside the mean loss, in millionths.
        tolerance_micro: training ends when no weight moved by more, in millionths of a standard deviation.
        test_permille: share of rows kept for testing, chosen by ``seed`` and row position.
        seed: of that choice.
        split: test rows by a column instead.
        shadows: models that each node trains on random halves of its rows to attack the joint one.
    """

    parameter_set: Literal["secagg-x25519-chacha20-v1"] = "secagg-x25519-chacha20-v1"
    features: Annotated[tuple[Text, ...], Field(min_length=1, max_length=200, strict=False)]
    label: Condition
    zero_is_missing: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    rounds: Annotated[int, Field(ge=1, le=200)] = 20
    local_steps: Annotated[int, Field(ge=1, le=20)] = 1
    l2_micro: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    tolerance_micro: Annotated[int, Field(ge=0, le=1_000_000)] = 1_000
    test_permille: Annotated[int, Field(ge=50, le=500)] = 250
    seed: Annotated[int, Field(ge=0, le=2**32)] = 0
    split: SplitColumn | None = None
    shadows: Annotated[int, Field(ge=8, le=256)] = 16

    @model_validator(mode="after")
    def _consistent(self) -> "LinearParameters":
        if len(set(self.features)) != len(self.features) or self.label.column in self.features:
            raise ValueError("each feature once, and the label is none of them")
        if not set(self.zero_is_missing) <= set(self.features):
            raise ValueError("zero_is_missing names features")
        if self.split is not None and self.split.column in (*self.features, self.label.column):
            raise ValueError("the split column is neither feature nor label")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the task reads."""
        split = () if self.split is None else (self.split.column,)
        return (*self.features, self.label.column, *split)

    @property
    def sums(self) -> int:
        """How many sums a session may need: means, gram, rounds and score."""
        return self.rounds + 3


def model_document(
    parameters: LinearParameters,
    *,
    means: Sequence[float],
    scales: Sequence[float],
    weights: Sequence[float],
    intercept: float,
) -> bytes:
    """Return the canonical bytes of ``model.json``, the product that nodes vouch for.

    The model is ``σ(intercept + Σ weight·(x - mean)/scale)``, a missing ``x`` counts as the
    mean. Numbers are C99 hexadecimal floats in text: exact, and no float in signed bytes.
    """
    return canonical.dumps(
        {
            "version": 1,
            "kind": "logistic-regression",
            "label": parameters.label.model_dump(mode="json"),
            "intercept": float(intercept).hex(),
            "features": [
                {
                    "name": name,
                    "mean": float(mean).hex(),
                    "scale": float(scale).hex(),
                    "weight": float(weight).hex(),
                    "zero_is_missing": name in parameters.zero_is_missing,
                }
                for name, mean, scale, weight in zip(parameters.features, means, scales, weights, strict=True)
            ],
        }
    )


def digits(value: float) -> list[int]:
    """Return ``value`` in units of 2**-``MOMENT_BITS`` as ``LIMBS`` signed digits, lowest first.

    Raises:
        ValueError: not finite, or beyond the top digit.
    """
    whole = round(Fraction(value) * 2**MOMENT_BITS)
    sign, rest = (-1 if whole < 0 else 1), abs(whole)
    parts = []
    for _ in range(LIMBS - 1):
        parts.append(sign * (rest % 2**LIMB_BITS))
        rest //= 2**LIMB_BITS
    if rest > 2**SECAGG.value_bits:
        raise ValueError("expected a moment within 2**115 units of its column: rescale the column")
    return [*parts, sign * rest]


def from_digits(parts: Sequence[int]) -> float:
    """Return the total that added digits stand for, correctly rounded."""
    whole = sum(part * 2 ** (LIMB_BITS * place) for place, part in enumerate(parts))
    return float(Fraction(whole, 2**MOMENT_BITS))


def means_length(features: int) -> int:
    """Entries of the masked vector of ``linear.means``: rows, positives, and two moments per feature."""
    return 2 + features * (1 + LIMBS)


def gram_length(features: int) -> int:
    """Entries of the masked vector of ``linear.gram``: the upper triangle, row by row."""
    return LIMBS * features * (features + 1) // 2


def train_length(features: int) -> int:
    """Entries of the masked vector of ``linear.train``: rows, rows·intercept, rows·weights."""
    return 2 + features


SCORE_LENGTH = 4 * BINS + 2
"""Entries about scores in the masked vector of ``linear.score``: for the training, then the test rows a histogram
of the negatives, one of the positives; then the two sums of log losses in units of 2**-24."""

RATIO_EDGES = tuple(0.001 * 2 ** (place / 2) for place in range(BINS // 2 - 1))
"""Positive edges of the histogram of log likelihood ratios, from 0.001 to 33, two per doubling; the negative ones
mirror them and zero is an edge, so that there are ``BINS`` bins."""

MEMORISED_MICRO = 250_000
"""A row is memorised when training on it raises the probability of its own label by this much.

Source: Feldman and Zhang, "What Neural Networks Memorize and Why", NeurIPS 2020, section 3 (25 %)."""


def attack_length(features: int) -> int:
    """Entries about attacks in the masked vector of ``linear.score``, after the scores.

    In this order: histograms of the log likelihood ratio of the audited training and test rows; memorised
    training rows; per feature the audited training, then test rows whose value was inferred; training and test
    rows that were rebuilt from the opened sums.
    """
    return 2 * BINS + 1 + 2 * features + 2


def score_length(features: int) -> int:
    """Entries of the masked vector of ``linear.score``."""
    return SCORE_LENGTH + attack_length(features)
