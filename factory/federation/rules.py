"""Rule sets of disclosure control: which numbers of a report must not be published, by whose practice, and why.

A rule set is chosen by name in the recipe, signed by every node with the parameters, and
stands in the report. The grant's own thresholds are a floor beneath each of them: the larger
minimum count and the coarser rounding hold. No rule set publishes a minimum or a maximum.

Privacy:
    Judges figures that only the agency sees; reads and keeps none. What a rule set is called and
    demands is public, and so is the reason of each suppression.

Source:
    opensafely: OpenSAFELY documentation, outputs/sdc (counts of 7 and fewer, rounding to 5);
    abs: Australian Bureau of Statistics, DataLab output clearance rules (10 contributors,
    (1,50) and (2,67), negative values by size, group disclosure, 10 degrees of freedom);
    bundesbank: Deutsche Bundesbank, R package sdcLog 0.5 (5 entities, (2,85));
    acro: SACRO/acro 1.0.2, default.yaml (10, zeros, (2,90), p-ratio 10 %, 10 degrees of freedom);
    strict: the strictest of these, and groups of which 90 % fall into one cell (ESSnet SDC
    guidelines for output checking). Each as read in November 2026.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nodes.contract.canonical import JsonObject
from nodes.contract.grant import Thresholds

MICRO = 1_000_000

REASONS: Mapping[str, tuple[str, str]] = {
    "threshold": ("主体数少于下限", "fewer entities than the minimum"),
    "dominance": ("少数主体占比过高", "few entities make up most of the figure"),
    "class": ("一组主体集中在同一类别", "a group falls into one class"),
    "differencing": ("与已发布结果相减可得少数主体", "the difference to an earlier release is about few entities"),
    "complementary": ("防止由其他数字推算", "kept back so that others cannot be worked out"),
    "domains": ("参与评价的领域过少", "too few domains behind the score"),
    "dof": ("剩余自由度不足", "too few residual degrees of freedom"),
    "tail": ("分位点一侧主体过少", "too few entities on one side of the quantile"),
    "separation": ("某组结果完全一致，估计不存在", "a group has one outcome only: there is no estimate"),
    "collinear": ("变量之间线性相关，估计不存在", "variables depend on one another: there is no estimate"),
}
"""Code of a suppression with its reason in Chinese and English."""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What a number must fulfil to be published.

    Attributes:
        name: of the set.
        cell_min: fewest entities behind a count, and behind any other figure.
        round_base: published counts are multiples of this.
        hides_empty: an empty cell is as telling as a small one.
        shares: (k, millionths): the k largest contributions together may not exceed this share of a sum.
        ratio_micro: least that is left without the two largest, as millionths of the largest (p% rule); None without.
        class_micro: largest share of a group that one class of a sensitive column may have; None without.
        dof_min: fewest residual degrees of freedom of a model.
    """

    name: str
    cell_min: int
    round_base: int
    hides_empty: bool = False
    shares: tuple[tuple[int, int], ...] = ()
    ratio_micro: int | None = None
    class_micro: int | None = None
    dof_min: int = 10

    def dominates(self, total: int, largest: Sequence[int]) -> bool:
        """Whether few contributions make up too much of a sum.

        Args:
            total: sum of the sizes of all contributions.
            largest: the largest sizes, largest first; at least two if there are two.
        """
        for count, limit_micro in self.shares:
            if sum(largest[:count]) * MICRO > limit_micro * total:
                return True
        if self.ratio_micro is None or not largest:
            return False
        return (total - sum(largest[:2])) * MICRO < self.ratio_micro * largest[0]

    def is_one_class(self, parts: Sequence[int]) -> bool:
        """Whether one class has too large a share of a group."""
        total = sum(parts)
        return self.class_micro is not None and total > 0 and max(parts) * MICRO >= self.class_micro * total

    def as_json(self) -> JsonObject:
        """Return the set for the method sheet."""
        return {
            "name": self.name,
            "cell_min": self.cell_min,
            "round_base": self.round_base,
            "hides_empty": self.hides_empty,
            "shares": [[count, limit] for count, limit in self.shares],
            "ratio_micro": self.ratio_micro,
            "class_micro": self.class_micro,
            "dof_min": self.dof_min,
        }


_SETS = {
    "grant": RuleSet("grant", 1, 1, shares=((2, 900_000),), ratio_micro=100_000),
    "opensafely": RuleSet("opensafely", 8, 5),
    "abs": RuleSet("abs", 10, 1, shares=((1, 500_000), (2, 670_000)), class_micro=MICRO),
    "bundesbank": RuleSet("bundesbank", 5, 1, shares=((2, 850_000),)),
    "acro": RuleSet("acro", 10, 5, hides_empty=True, shares=((2, 900_000),), ratio_micro=100_000, class_micro=MICRO),
    "strict": RuleSet(
        "strict",
        10,
        5,
        hides_empty=True,
        shares=((1, 500_000), (2, 670_000)),
        ratio_micro=100_000,
        class_micro=900_000,
    ),
}


def rule_set(name: str, thresholds: Thresholds) -> RuleSet:
    """Return the named set above the floor of the grant's thresholds.

    Args:
        name: one of ``nodes.contract.tasks.sums``' rule sets; ``grant`` has the grant's thresholds and the
            dominance rules of acro.
        thresholds: of the grant.
    """
    chosen = _SETS[name]
    return replace(
        chosen,
        cell_min=max(chosen.cell_min, thresholds.cell_min),
        round_base=math.lcm(chosen.round_base, thresholds.round_base),
    )
