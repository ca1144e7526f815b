"""From added power sums back to the largest contributions; the agency's half of ``nodes.contract.tasks.tops``.

Privacy:
    What comes out is a set of values without owners, for the dominance rules alone; it is
    neither stored nor sent.

Source:
    Newton's identities; roots over a prime field: Cantor and Zassenhaus, "A new algorithm for
    factoring polynomials over finite fields", Math. Comp. 36, 1981.
"""

import random
from collections.abc import Sequence

from factory.agency.errors import AgencyError
from nodes.contract.tasks.tops import PRIME

Polynomial = list[int]
"""Coefficients modulo ``PRIME``, lowest first, no leading zero."""


class NotASetError(AgencyError):
    """The numbers are no power sums of as many values: a contributor did not keep to the protocol."""

    code = "agency.not_a_set"


def largest(sums: Sequence[int]) -> list[int]:
    """Return the values behind power sums 1, 2, 3 …, largest first; zeros are left out.

    Args:
        sums: added power sums, not yet reduced; as many as there are values at most.

    Raises:
        NotASetError: they belong to no such set.
    """
    elementary = [1]
    for degree in range(1, len(sums) + 1):
        total = sum(
            (-1) ** (place - 1) * elementary[degree - place] * sums[place - 1] for place in range(1, degree + 1)
        )
        elementary.append(total * pow(degree, -1, PRIME) % PRIME)
    polynomial = [(-1) ** place * value % PRIME for place, value in enumerate(elementary)][::-1]
    while len(polynomial) > 1 and polynomial[0] == 0:
        polynomial.pop(0)
    found: list[int] = []
    # Which random splits are tried does not matter for the result, so that a fixed seed keeps runs alike.
    for root in _roots(_linear_part(polynomial), random.Random(0)):  # noqa: S311
        while True:
            quotient, rest = _divide(polynomial, [-root % PRIME, 1])
            if rest:
                break
            found.append(root)
            polynomial = quotient
    if len(polynomial) != 1:
        raise NotASetError("expected power sums of the largest contributions")
    return sorted(found, reverse=True)


def _linear_part(polynomial: Polynomial) -> Polynomial:
    """Return the product of the distinct linear factors."""
    if len(polynomial) == 1:
        return polynomial
    power = _minus(_power([0, 1], PRIME, polynomial), [0, 1])
    return _common(polynomial, power)


def _roots(polynomial: Polynomial, rng: random.Random) -> list[int]:
    """Roots of a product of distinct linear factors."""
    if len(polynomial) == 1:
        return []
    if len(polynomial) == 2:
        return [-polynomial[0] * pow(polynomial[1], -1, PRIME) % PRIME]
    while True:
        shifted = _power([rng.randrange(PRIME), 1], (PRIME - 1) // 2, polynomial)
        part = _common(polynomial, _minus(shifted, [1]))
        if 1 < len(part) < len(polynomial):
            return _roots(part, rng) + _roots(_divide(polynomial, part)[0], rng)


def _trim(polynomial: Polynomial) -> Polynomial:
    while polynomial and polynomial[-1] == 0:
        polynomial.pop()
    return polynomial


def _minus(left: Polynomial, right: Polynomial) -> Polynomial:
    size = max(len(left), len(right))
    pairs = zip(left + [0] * (size - len(left)), right + [0] * (size - len(right)), strict=True)
    return _trim([(one - other) % PRIME for one, other in pairs])


def _divide(top: Polynomial, bottom: Polynomial) -> tuple[Polynomial, Polynomial]:
    rest, inverse, size = list(top), pow(bottom[-1], -1, PRIME), len(bottom)
    quotient = [0] * max(len(top) - size + 1, 0)
    for place in range(len(quotient) - 1, -1, -1):
        factor = rest[place + size - 1] * inverse % PRIME
        quotient[place] = factor
        if factor:
            for offset, value in enumerate(bottom):
                rest[place + offset] = (rest[place + offset] - factor * value) % PRIME
    return _trim(quotient), _trim(rest)


def _power(base: Polynomial, exponent: int, modulus: Polynomial) -> Polynomial:
    result, factor = [1], _divide(base, modulus)[1]
    while exponent:
        if exponent & 1:
            result = _times(result, factor, modulus)
        factor = _times(factor, factor, modulus)
        exponent >>= 1
    return result


def _times(left: Polynomial, right: Polynomial, modulus: Polynomial) -> Polynomial:
    product = [0] * max(len(left) + len(right) - 1, 0)
    for place, value in enumerate(left):
        for offset, other in enumerate(right):
            product[place + offset] += value * other
    return _divide(_trim([value % PRIME for value in product]), modulus)[1]


def _common(left: Polynomial, right: Polynomial) -> Polynomial:
    while right:
        left, right = right, _divide(left, right)[1]
    inverse = pow(left[-1], -1, PRIME)
    return [value * inverse % PRIME for value in left]
