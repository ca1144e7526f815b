"""All automated tests of one product in one call.

Privacy: reads the product's files and planted values at the operator; the findings that come
out hold names, counts and digests alone.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from factory.review.canary import check_canaries
from factory.review.counts import check_counts
from factory.review.declared import check_declared
from factory.review.finding import Finding
from factory.review.identifiers import check_identifiers
from factory.review.membership import AUC_LIMIT_MICRO, check_membership_metrics
from products.forms import Form


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the tests.

    Attributes:
        cell_min, round_base: of published counts.
        membership_auc_micro: largest area of the membership attack.
        allow_credit_codes: the product is about public enterprise information.
    """

    cell_min: int
    round_base: int
    membership_auc_micro: int = AUC_LIMIT_MICRO
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

    Returns:
        One finding per test; any that is not ok sends the product back to *building*.
    """
    findings = [check_identifiers(files, allow_credit_codes=limits.allow_credit_codes)]
    if canaries or canary_digests:
        findings.insert(0, check_canaries(files, values=canaries, digests=canary_digests))
    if "tables.json" in files:
        findings.append(check_counts(files, cell_min=limits.cell_min, round_base=limits.round_base))
    if form == "model":
        findings.append(check_membership_metrics(dict(metrics), limit_micro=limits.membership_auc_micro))
    return (*findings, *check_declared(metrics, declared or {}))
