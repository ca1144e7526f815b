"""Largest contributions behind a sum, as power sums: who has them cannot be told, that they dominate can.

A dominance rule asks for the largest contributions to a cell over all departments. Each node
takes its own two largest, and adds to the encrypted vector not the values but their power sums
modulo a prime. Added up, these are the power sums of all departments' values, from which the
key service works out the values as a set without owners (Newton's identities, roots of a
polynomial); ``factory.agency.tops`` is that half.

Privacy:
    The agency learns per cell the two largest contributions of every department, not which
    department has which; the operator and the nodes learn none. Sums of several departments
    alone would not tell whether one contributor dominates.

Source:
    Ruffing, Moreno-Sanchez, Kate, "P2P Mixing and Unlinkable Bitcoin Transactions", NDSS 2017,
    section IV (DiceMix: mixing by power sums in a field); dominance rules: Hundepool et al.,
    "Statistical Disclosure Control", Wiley 2012, section 4.2.
"""

from collections.abc import Sequence

TOPS = 2
"""Contributions per department: what (1,k), (2,k) and p% rules need."""

PRIME = 2**47 - 115
"""Largest prime below 2**47: a power sum of one node fits a component, and 32 nodes stay below 2**53."""


def power_sums(values: Sequence[int], count: int) -> list[int]:
    """Return the power sums 1 to ``count`` of the ``TOPS`` largest of ``values`` modulo ``PRIME``.

    Args:
        values: contributions in scaled units, 0 or more and below ``PRIME``.
        count: how many powers; twice the number of departments and no fewer, so that the set can be found.

    Raises:
        ValueError: a value out of range.
    """
    if any(not 0 <= value < PRIME for value in values):
        raise ValueError(f"expected contributions below {PRIME}; use a smaller scale or bounds")
    largest = sorted(values, reverse=True)[:TOPS]
    return [sum(pow(value, power, PRIME) for value in largest) % PRIME for power in range(1, count + 1)]
