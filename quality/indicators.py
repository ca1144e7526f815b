"""The six dimensions and twenty indicators that scores are made of.

Source:
    GB/T 36344-2018 "Information technology - Evaluation indicators for data quality": each
    indicator is ``X = A/B`` over the evaluated elements. 0303 (duplication) and 0305 (dirty
    data) count what is wrong; here every ratio counts what is right, so they enter as ``1 - X``.
    The standard sets no weights and no thresholds: those are in the profile.
"""

from dataclasses import dataclass

CONFORMITY = "conformity"
COMPLETENESS = "completeness"
ACCURACY = "accuracy"
CONSISTENCY = "consistency"
TIMELINESS = "timeliness"
ACCESSIBILITY = "accessibility"


@dataclass(frozen=True, slots=True)
class Dimension:
    """One of the six dimensions.

    Attributes:
        name: key in reports and profiles.
        prefix: first two digits of its indicators.
        zh: Chinese name of the standard.
        en: English name.
    """

    name: str
    prefix: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Indicator:
    """One of the twenty indicators.

    Attributes:
        code: four digits of the standard.
        dimension: name of its dimension.
        zh: Chinese name of the standard.
        en: English name.
    """

    code: str
    dimension: str
    zh: str
    en: str


DIMENSIONS: tuple[Dimension, ...] = (
    Dimension(CONFORMITY, "01", "规范性", "Conformity"),
    Dimension(COMPLETENESS, "02", "完整性", "Completeness"),
    Dimension(ACCURACY, "03", "准确性", "Accuracy"),
    Dimension(CONSISTENCY, "04", "一致性", "Consistency"),
    Dimension(TIMELINESS, "05", "时效性", "Timeliness"),
    Dimension(ACCESSIBILITY, "06", "可访问性", "Accessibility"),
)

_NAMES: tuple[tuple[str, str, str], ...] = (
    ("0101", "数据标准", "Data standard"),
    ("0102", "数据模型", "Data model"),
    ("0103", "元数据", "Metadata"),
    ("0104", "业务规则", "Business rule"),
    ("0105", "权威参考数据", "Authoritative reference data"),
    ("0106", "安全规范", "Security specification"),
    ("0201", "数据元素完整性", "Element completeness"),
    ("0202", "数据记录完整性", "Record completeness"),
    ("0301", "数据内容正确性", "Content correctness"),
    ("0302", "数据格式合规性", "Format compliance"),
    ("0303", "数据重复率", "Duplication (as 1 - X)"),
    ("0304", "数据唯一性", "Uniqueness"),
    ("0305", "脏数据出现率", "Dirty data (as 1 - X)"),
    ("0401", "相同数据一致性", "Same-data consistency"),
    ("0402", "关联数据一致性", "Associated-data consistency"),
    ("0501", "基于时间段的正确性", "Correctness by period"),
    ("0502", "基于时间点及时性", "Timeliness at a point"),
    ("0503", "时序性", "Sequence"),
    ("0601", "可访问", "Accessible"),
    ("0602", "可用性", "Availability"),
)

_BY_PREFIX = {dimension.prefix: dimension.name for dimension in DIMENSIONS}
INDICATORS: dict[str, Indicator] = {code: Indicator(code, _BY_PREFIX[code[:2]], zh, en) for code, zh, en in _NAMES}
