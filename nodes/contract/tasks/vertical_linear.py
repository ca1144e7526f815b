"""Parameters and product of ``linear.vertical``: a regression over departments with different columns of the same rows.

One node holds the label, one or more others hold further features. Rows are matched by a private
join (``nodes.privacy.psi``), in a random order; no party sees another's value, label or score of any row.
The model's parts stay with their owners; each node vouches for its own part by digest.

One round, for label side A and feature holders B1 … Bk (E_X: encrypted under X's fresh key):

    A → B1 → … → Bk    E_A(scores so far); each adds its own, clipped. Bk evaluates the polynomial sigmoid,
                        subtracts E_A(label) and hands E_A(residuals) to the other holders
    B1 → … → Bk → A    E_B1(scores so far); A adds its own and its labels
    Bi → A, A → B1      masked inner products of own columns with the residuals, see ``nodes.privacy.vertical_ckks``
    A → Bi, B1 → A      the masked sums, opened
    everybody           takes its own mask off, makes an accelerated step in its own block, says how far it moved
    A → Bi              go on, or stop

Source:
    Nesterov, Soviet Math. Dokl. 27, 1983 (acceleration); Böhning & Lindsay, Ann. Inst. Statist. Math. 40,
    1988 (¼·XᵀX bounds the Hessian); Richtárik & Takáč, Math. Program. 156, 2016 (a block-diagonal bound
    for parties that step at the same time).
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nodes.contract import canonical
from nodes.contract.messages import Condition, Name, Part, Text
from nodes.contract.parameters import CKKS_VERTICAL, MICRO
from nodes.contract.tasks.linear import SplitColumn
from nodes.contract.tasks.match import MatchField
from nodes.contract.tasks.sigmoid import OddPolynomial, identity, sigmoid

TASK = "linear.vertical"

ROWS_MAX = 2**22
"""Most joint training rows."""

SCORE_BINS = 24
"""Bins of each party's score in the joint histogram behind the metrics."""

SCORE_WIDTHS = 8
"""Bins per sum of the two parties' spreads (standard deviations of their scores)."""

SCORED_ROWS_MAX = 8192
"""Most training rows, and most test rows, in the joint histogram: the first of the joint order, which is random."""


class VerticalLinearParameters(Part):
    """What an order for ``linear.vertical`` may say; the same for all nodes of the session.

    Attributes:
        parameter_set: the only one of this release.
        model: ``logistic``, or ``linear`` for a numeric target.
        label_party: node with the label.
        label: logistic: a row is positive when this holds. Linear: names the target column, the rest is ignored.
        keys: per node, the fields by which rows are matched; with the same rules in the same place at every node.
        features: per node its numeric columns, in the model's order; the label party may have none.
        zero_is_missing: features in which zero stands for "not recorded".
        rounds: most training rounds.
        degree: of the polynomial sigmoid.
        l1_micro, l2_micro: weights of ``λ₁·|w|₁`` and ``½·λ₂·|w|²`` beside the mean loss, in millionths.
        balanced: both classes weigh the same.
        tolerance_micro: training ends when the decrease that is left, by each party's own estimate, is below it.
        winsor_milli: standardised features are clipped to ± this many thousandths.
        metrics: compute the joint score histogram behind AUC and loss on the test rows.
        test_permille: share of rows kept for testing, chosen by ``seed`` and place in the joint order.
        seed: of that choice.
        split: test rows by a column of the label party instead.
    """

    parameter_set: Literal["ckks-16384-vertical-v1"] = "ckks-16384-vertical-v1"
    model: Literal["logistic", "linear"] = "logistic"
    label_party: Name
    label: Condition
    keys: dict[Name, Annotated[tuple[MatchField, ...], Field(min_length=1, max_length=8, strict=False)]]
    features: Annotated[dict[Name, tuple[Text, ...]], Field(min_length=2, max_length=16, strict=False)]
    zero_is_missing: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    rounds: Annotated[int, Field(ge=1, le=60)] = 10
    degree: Literal[3, 7] = 7
    l1_micro: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    l2_micro: Annotated[int, Field(ge=1, le=10_000_000)] = 1_000
    balanced: bool = False
    tolerance_micro: Annotated[int, Field(ge=0, le=1_000_000)] = 2
    winsor_milli: Annotated[int, Field(ge=1_000, le=10_000)] = 3_000
    metrics: bool = True
    test_permille: Annotated[int, Field(ge=50, le=500)] = 200
    seed: Annotated[int, Field(ge=0, le=2**32)] = 0
    split: SplitColumn | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "VerticalLinearParameters":
        if set(self.keys) != set(self.features) or self.label_party not in self.features:
            raise ValueError("keys and features name the same nodes, the label party among them")
        if len({tuple(field.rules for field in fields) for fields in self.keys.values()}) != 1:
            raise ValueError("the same rules of keys at every node, field by field")
        for node, columns in self.features.items():
            if len(set(self.columns_of(node))) != len(self.columns_of(node)):
                raise ValueError("each column of a node once: key, feature, label or split")
            if len(columns) > 200 or not (columns or node == self.label_party):
                raise ValueError("1 to 200 features at each feature holder, at most 200 at the label party")
        if self.model == "linear" and self.balanced:
            raise ValueError("class weights belong to a logistic model")
        if self.answers > CKKS_VERTICAL.answers_max:
            raise ValueError(f"rounds times features of a key holder at most {CKKS_VERTICAL.answers_max}")
        return self

    @property
    def holders(self) -> tuple[str, ...]:
        """Feature holders, in the order in which scores pass through them."""
        return tuple(node for node in self.features if node != self.label_party)

    @property
    def polynomial(self) -> OddPolynomial:
        """What stands for the sigmoid."""
        parties = len(self.features)
        return identity(parties) if self.model == "linear" else sigmoid(self.degree, parties)

    @property
    def has_metrics(self) -> bool:
        """Whether the joint score histogram is computed: for a logistic model of two parties."""
        return self.metrics and self.model == "logistic" and len(self.features) == 2

    @property
    def levels(self) -> int:
        """Multiplications between fresh scores and residuals."""
        return self.polynomial.levels + int(self.balanced)

    @property
    def winsor(self) -> float:
        """Largest absolute value of a standardised feature."""
        return self.winsor_milli / 1000

    @property
    def answers(self) -> int:
        """Most products that one party opens under its key."""
        mine = len(self.features[self.label_party]) + 1
        others = sum(len(columns) for node, columns in self.features.items() if node != self.label_party)
        return self.rounds * max(mine, others) + 8 * SCORE_BINS

    @property
    def block_factor(self) -> float:
        """By how much each party's own block of the Hessian's bound is scaled.

        As many parties step at once, so many times the block bounds the whole; three quarters
        of that still converged in every case tried and is faster.
        """
        return max(1.0, 0.75 * len(self.features))

    def key_columns(self, node: str) -> tuple[str, ...]:
        """Columns of the node's key."""
        return tuple(field.column for field in self.keys[node])

    def columns_of(self, node: str) -> tuple[str, ...]:
        """Columns that ``node`` reads."""
        split = () if self.split is None else (self.split.column,)
        own = (self.label.column, *split) if node == self.label_party else ()
        return (*self.key_columns(node), *self.features[node], *own)

    def rows_min(self, least: int) -> int:
        """Fewest training rows for which what a party sees over all rounds cannot determine any row.

        Privacy:
            A party gets one linear figure of the residuals per own feature and round. With fewer such
            figures than rows, and the other party's columns and weights unknown, the residual of no
            row follows from them.
        """
        widest = max(len(columns) for columns in self.features.values()) + 1
        return max(least, self.rounds * widest + 1)


def part_document(
    parameters: VerticalLinearParameters,
    node: str,
    *,
    means: list[float],
    scales: list[float],
    weights: list[float],
    intercept: float = 0.0,
    target: tuple[float, float] = (0.0, 1.0),
) -> bytes:
    """Return the canonical bytes of one node's part of the model; it stays at that node.

    The score is the sum over nodes of ``intercept + Σ weight·clip((x - mean)/scale)``, a missing
    ``x`` counts as the mean; only the label party's intercept is not zero. A linear prediction is
    that score times the second number of ``target`` plus the first, again at the label party alone.
    Numbers are C99 hexadecimal floats in text.
    """
    return canonical.dumps(
        {
            "version": 1,
            "kind": f"{parameters.model}-regression-part",
            "node": node,
            "intercept": float(intercept).hex(),
            "target": [float(value).hex() for value in target],
            "winsor_milli": parameters.winsor_milli,
            "features": [
                {
                    "name": name,
                    "mean": float(mean).hex(),
                    "scale": float(scale).hex(),
                    "weight": float(weight).hex(),
                    "zero_is_missing": name in parameters.zero_is_missing,
                }
                for name, mean, scale, weight in zip(parameters.features[node], means, scales, weights, strict=True)
            ],
        }
    )


def micro(value: float) -> int:
    """Return a fraction in millionths."""
    return round(value * MICRO)
