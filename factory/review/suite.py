"""All automated tests of one product in one call.

Privacy: reads the product's files and planted values at the operator; the findings that come
out hold names, counts, digests and figures over all contributing nodes alone.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from factory.law.profile import ReviewRules
from factory.review.attacks import check_index, check_model, check_verification
from factory.review.canary import check_canaries
from factory.review.counts import check_counts
from factory.review.declared import check_declared
from factory.review.finding import Finding
from factory.review.identifiers import check_identifiers
from factory.review.tables_attack import check_bounds, check_linkage, check_one_class
from products.forms import Form


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the tests.

    Attributes:
        cell_min, round_base: of published counts.
        attacks: how far an attack may succeed, from the profile.
        allow_credit_codes: the product is about public enterprise information.
    """

    cell_min: int
    round_base: int
    attacks: ReviewRules
    allow_credit_codes: bool = False


def run_tests(
    form: Form,
    files: Mapping[str, bytes],
    *,
    metrics: Mapping[str, int | str],
    limits: Limits,
    canaries: Collection[str] = (),
    canary_digests: Collection[str] = (),
    declared: Mapping[str, int] | None = None,
    earlier: Mapping[str, Mapping[str, bytes]] | None = None,
    sensitive: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Finding, ...]:
    """Test a built product.

    Args:
        form: of the product.
        files: every file that will be delivered, product and metadata.
        metrics: what the pipeline measured.
        limits: limits of the tests.
        canaries: planted values, where the deployment may see them.
        canary_digests: digests of planted values.
        declared: least value per metric that the recipe declares.
        earlier: files of products released before that read one of the same resources, by product.
        sensitive: sensitive columns by table, as the recipe declares them.

    Returns:
        One finding per test; any that is not ok sends the product back to *building*.
    """
    findings = [check_identifiers(files, allow_credit_codes=limits.allow_credit_codes)]
    if canaries or canary_digests:
        findings.insert(0, check_canaries(files, values=canaries, digests=canary_digests))
    cell_min, round_base = limits.cell_min, limits.round_base
    if "tables.json" in files:
        before = _with(earlier or {}, "tables.json")
        findings += [
            check_counts(files, cell_min=cell_min, round_base=round_base),
            check_bounds(files, cell_min=cell_min, round_base=round_base),
            check_linkage(files, before, cell_min=cell_min),
            check_one_class(files, sensitive=sensitive or {}),
        ]
    if form == "model":
        findings += check_model(metrics, files, limits.attacks)
    elif form == "index":
        findings += check_index(files, _with(earlier or {}, "method.json", "sensitivity.json"), limits.attacks)
    elif form == "verification":
        findings += check_verification(metrics, files, limits.attacks)
    return (*findings, *check_declared(metrics, declared or {}))


def _with(earlier: Mapping[str, Mapping[str, bytes]], name: str, *beside: str) -> dict[str, bytes]:
    """Return one file of each earlier product that holds it, and what else tells its form."""
    return {product: files[name] for product, files in earlier.items() if {name, *beside} <= set(files)}
