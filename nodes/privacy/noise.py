"""Noise that makes a department's own figures differentially private before they are encrypted.

Privacy:
    Two registers that differ by one row give noisy vectors whose chances differ by a factor of
    at most e to the epsilon, whoever sees them, the agency included. Each department adds noise
    enough for itself and relies on no other.

Source:
    Ghosh, Roughgarden, Sundararajan, "Universally Utility-Maximizing Privacy Mechanisms", STOC 2009 (discrete
    Laplace); the sampler is OpenDP's, exact and from a cryptographic generator.
"""

import importlib.util
from collections.abc import Sequence

from nodes.contract.tasks.sums import VALUE_MAX, SumsParameters, layout
from nodes.errors import MissingPartError


def require() -> None:
    """Check that noise can be made.

    Raises:
        MissingPartError: the extra ``dp`` is not installed.
    """
    if importlib.util.find_spec("opendp") is None:
        raise MissingPartError("expected OpenDP for noise; install it: pip install 'shufang[dp]'")


def noised(values: Sequence[int], parameters: SumsParameters) -> list[int]:
    """Return the vector with noise on every number.

    Args:
        values: counts and sums in the order of ``layout``.
        parameters: with ``privacy``.
    """
    import opendp.prelude as dp

    dp.enable_features("contrib")
    components = layout(parameters)
    found = list(values)
    domain, metric = dp.vector_domain(dp.atom_domain(T=int)), dp.l1_distance(T=int)
    for kind in dict.fromkeys((item.measure, item.part) for item in components):
        places = [place for place, item in enumerate(components) if (item.measure, item.part) == kind]
        scale = parameters.noise_scale(kind[1], parameters.measures[kind[0]])
        noisy = dp.m.make_laplace(domain, metric, scale=scale)([found[place] for place in places])
        for place, value in zip(places, noisy, strict=True):
            found[place] = max(-VALUE_MAX, min(VALUE_MAX, int(value)))
    return found
