"""The polynomial that stands for the logistic function where rows are encrypted. Pure, the same at every party.

σ(z) ≈ ½ + Σ c_k·(z/R)^k over odd k, the least squares fit on [-R, R]. Each of P parties clips its own
part of a row's score to ±R/P before it encrypts or adds it, so no row ever leaves the interval,
whatever the weights do; R grows with the number of parties.

Source:
    Kim, Song, Wang, Xia, Jiang, "Secure Logistic Regression Based on Homomorphic Encryption",
    JMIR Med. Inform. 6(2), 2018, section "Polynomial approximation" (least squares, degree 3 and 7 on [-8, 8]).
"""

import functools
import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OddPolynomial:
    """``p(u) = Σ c_k·u^k`` over odd k, with ``u = z / half_width`` in [-1, 1].

    Attributes:
        half_width: R.
        coefficients: of u, u³, u⁵ …
        levels: multiplications one after the other that evaluating it takes.
    """

    half_width: int
    coefficients: tuple[float, ...]
    levels: int

    def at(self, logit: float) -> float:
        """Return the value at one point; the approximation of σ is this plus one half."""
        unit = logit / self.half_width
        return sum(c * unit ** (2 * place + 1) for place, c in enumerate(self.coefficients))


def _fit(half_width: int, terms: int) -> tuple[float, ...]:
    """Return the least squares fit of σ(R·u) - ½ on a fixed grid, by normal equations in plain float64."""
    grid = [place / 400 for place in range(1, 401)]
    powers = [[u ** (2 * term + 1) for term in range(terms)] for u in grid]
    wanted = [1.0 / (1.0 + math.exp(-half_width * u)) - 0.5 for u in grid]
    rows = [
        [
            *(math.fsum(p[i] * p[j] for p in powers) for j in range(terms)),
            math.fsum(p[i] * w for p, w in zip(powers, wanted, strict=True)),
        ]
        for i in range(terms)
    ]
    for pivot in range(terms):
        head = rows[pivot]
        for row in rows[pivot + 1 :]:
            factor = row[pivot] / head[pivot]
            for column in range(pivot, terms + 1):
                row[column] -= factor * head[column]
    solved = [0.0] * terms
    for place in reversed(range(terms)):
        rest = rows[place][terms] - math.fsum(rows[place][j] * solved[j] for j in range(place + 1, terms))
        solved[place] = rest / rows[place][place]
    return tuple(solved)


_SHARE = {3: 3, 7: 4}
"""Of each party, in logits, by degree: narrow enough that the polynomial of two parties stays close to σ."""


@functools.cache
def sigmoid(degree: int, parties: int) -> OddPolynomial:
    """Return the polynomial of this degree for so many parties.

    For two parties the error stays below 0.09 with degree 3 on ±6, and below 0.04 with degree 7 on ±8.
    """
    half_width = _SHARE[degree] * parties
    return OddPolynomial(half_width, _fit(half_width, (degree + 1) // 2), {3: 2, 7: 3}[degree])


def identity(parties: int) -> OddPolynomial:
    """Return the polynomial of a linear regression: the score itself."""
    return OddPolynomial(half_width=4 * parties, coefficients=(4.0 * parties,), levels=1)
