"""Declared quality of a product: what it measures has to reach what its recipe declares (Q-PRODUCT).

Privacy: compares published figures with published limits.

Source:
    JL-运营管理-29.
"""

from collections.abc import Mapping

from factory.review.finding import Finding


def check_declared(metrics: Mapping[str, int | str], declared: Mapping[str, int]) -> tuple[Finding, ...]:
    """Compare measured metrics with the least values that are declared, in the unit of the metric.

    A metric that was declared and not measured fails.
    """
    findings = []
    for name, least in sorted(declared.items()):
        value = metrics.get(name)
        measured = value if isinstance(value, int) else -1
        findings.append(
            Finding(
                test=f"declared.{name}",
                title_zh=f"声明的质量指标 {name} 不低于下限",
                title_en=f"declared metric {name} reaches its least value",
                value=measured,
                limit=least,
                is_ok=isinstance(value, int) and measured >= least,
                unit="micro" if name.endswith("_micro") else "count",
                evidence={"measured": isinstance(value, int)},
            )
        )
    return tuple(findings)


def below(metrics: Mapping[str, int], declared: Mapping[str, int]) -> tuple[str, ...]:
    """Return the declared metrics that are not measured, or below their least value."""
    return tuple(finding.test.partition(".")[2] for finding in check_declared(metrics, declared) if not finding.is_ok)
