"""Where a training run of ``linear.secagg`` stands: what is asked next, and what an opened sum leads to.

Operator and nodes each keep one ``Descent`` and feed it the same opened sums, so nobody
sends anybody a point, a mean or a preconditioner: after the order the operator has nothing
left to choose. A point made up to single out a row cannot be asked for, and the model a node
vouches for is the one that the nodes' sums lead to.

The arithmetic is plain Python on float64 with correctly rounded sums, so that every machine
and version gets the same bits; the digest of the state enters every mask.

Privacy: works on opened sums alone, each over at least the grant's ``contributors_min`` nodes.

Source:
    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
    Data", AISTATS 2017 (federated averaging); Böhning & Lindsay, Ann. Inst. Statist. Math.
    40, 1988 (¼·XᵀX bounds the Hessian); O'Donoghue & Candès, "Adaptive restart for
    accelerated gradient schemes", Found. Comput. Math. 15, 2015.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from nodes.contract import canonical
from nodes.contract.errors import ContractError
from nodes.contract.parameters import SECAGG
from nodes.contract.signing import sha256_hex
from nodes.contract.tasks import linear
from nodes.contract.tasks.linear import LinearParameters

UNIT = 2**SECAGG.scale_bits
"""A fraction in a masked vector is an integer with this denominator."""


class CannotTrainError(ContractError):
    """The joint rows cannot be learnt from: one class only, or a feature without any value."""

    code = "contract.cannot_train"


@dataclass(slots=True)
class Descent:
    """State of one training run.

    Attributes:
        parameters: as ordered.
        expected: kind of the next sum; ``linear.score`` is the last.
        rows: joint training rows at the start.
        means, scales: per feature, in its unit.
        inverse: of the upper bound of the Hessian, shape ``(1 + features, 1 + features)``, by rows.
        point: where the next round starts, ``1 + features`` weights, intercept first; at the
            end the model.
        moved_micro: per round how far the average was from the point asked, in millionths.
        averages: per round the point asked and the average that came of it: all that the rounds reveal.
    """

    parameters: LinearParameters
    expected: str = "linear.means"
    rows: int = 0
    means: list[float] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)
    inverse: list[list[float]] = field(default_factory=list)
    point: list[float] = field(default_factory=list)
    moved_micro: list[int] = field(default_factory=list)
    averages: list[tuple[list[float], list[float]]] = field(default_factory=list)
    _last: list[float] = field(default_factory=list)
    _age: int = 0
    _inverse_sha256: str = ""

    @property
    def length(self) -> int:
        """Entries of the masked vector that is expected next."""
        count = len(self.parameters.features)
        match self.expected:
            case "linear.means":
                return linear.means_length(count)
            case "linear.gram":
                return linear.gram_length(count)
            case "linear.train":
                return linear.train_length(count)
            case _:
                return linear.score_length(count)

    def question_sha256(self) -> str:
        """Return the digest of what is asked next: the kind and everything the answer depends on."""
        return sha256_hex(
            canonical.dumps(
                {
                    "inverse_sha256": self._inverse_sha256,
                    "kind": self.expected,
                    "means": [value.hex() for value in self.means],
                    "parameters": self.parameters.model_dump(mode="json"),
                    "point": [value.hex() for value in self.point],
                    "round": len(self.moved_micro),
                    "scales": [value.hex() for value in self.scales],
                }
            )
        )

    def take(self, values: Sequence[int]) -> None:
        """Go on with an opened sum of the kind that was expected.

        Raises:
            CannotTrainError: the sum shows that there is nothing to learn.
        """
        match self.expected:
            case "linear.means":
                self._take_means(values)
            case "linear.gram":
                self._take_gram(values)
            case "linear.train":
                self._take_average(values)

    def model_document(self) -> bytes:
        """Return ``model.json`` of the present point."""
        return linear.model_document(
            self.parameters, means=self.means, scales=self.scales, weights=self.point[1:], intercept=self.point[0]
        )

    def _take_means(self, values: Sequence[int]) -> None:
        self.rows, positives, *moments = values
        if not 0 < positives < self.rows:
            raise CannotTrainError("expected training rows of both classes over all nodes, got one class only")
        width = 1 + linear.LIMBS
        for place, name in enumerate(self.parameters.features):
            present, *parts = moments[place * width : (place + 1) * width]
            if present <= 0:
                raise CannotTrainError(f"expected values of {name} at one node at least: leave the feature out")
            self.means.append(linear.from_digits(parts) / present)
        self.expected = "linear.gram"

    def _take_gram(self, values: Sequence[int]) -> None:
        count = len(self.means)
        gram = [[0.0] * count for _ in range(count)]
        at = 0
        for row in range(count):
            for column in range(row, count):
                gram[row][column] = gram[column][row] = linear.from_digits(values[at : at + linear.LIMBS])
                at += linear.LIMBS
        self.scales = [math.sqrt(max(gram[place][place], 0.0) / self.rows) or 1.0 for place in range(count)]
        penalty = self.parameters.l2_micro / 1_000_000
        bound = [[0.25] + [0.0] * count]
        for row in range(count):
            cells = [
                gram[row][column] / (4.0 * self.rows * self.scales[row] * self.scales[column])
                for column in range(count)
            ]
            cells[row] += penalty
            bound.append([0.0, *cells])
        self.inverse = _inverse(bound)
        self._inverse_sha256 = sha256_hex(",".join(value.hex() for row in self.inverse for value in row).encode())
        self.point = [0.0] * (count + 1)
        self._last = self.point
        self.expected = "linear.train"

    def _take_average(self, values: Sequence[int]) -> None:
        number, *totals = values
        if number <= 0:
            raise CannotTrainError("expected training rows at the contributors")
        average = [total / (number * UNIT) for total in totals]
        back = [point - new for point, new in zip(self.point, average, strict=True)]
        step = [new - old for new, old in zip(average, self._last, strict=True)]
        moved = max(map(abs, back))
        self.moved_micro.append(min(round(moved * 1_000_000), 2**53 - 1))
        # Momentum that points uphill is dropped (O'Donoghue & Candès, gradient scheme).
        self._age = 0 if math.fsum(b * s for b, s in zip(back, step, strict=True)) > 0 else self._age + 1
        self._last = average
        self.averages.append((self.point, average))
        if self.moved_micro[-1] <= self.parameters.tolerance_micro or len(self.moved_micro) == self.parameters.rounds:
            self.point = average
            self.expected = "linear.score"
            return
        momentum = self._age / (self._age + 3)
        self.point = [new + momentum * change for new, change in zip(average, step, strict=True)]


def _inverse(matrix: list[list[float]]) -> list[list[float]]:
    """Invert a symmetric positive definite matrix by elimination; no pivots are needed for these."""
    size = len(matrix)
    rows = [[*row, *(1.0 if place == at else 0.0 for place in range(size))] for at, row in enumerate(matrix)]
    for at in range(size):
        pivot = rows[at][at]
        if not pivot > 0:
            raise CannotTrainError("expected a positive definite bound: use a larger penalty")
        rows[at] = [value / pivot for value in rows[at]]
        lead = rows[at]
        for other in range(size):
            factor = rows[other][at]
            if other != at and factor:
                rows[other] = [value - factor * top for value, top in zip(rows[other], lead, strict=True)]
    return [row[size:] for row in rows]
