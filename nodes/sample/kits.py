"""Kits: for each sample or open table its catalogue entry and its quality suite, ready to be written.

A kit is what a department would have written by hand: titles, types and grades of the columns,
the update promise, and the rules with their GB/T 36344 indicator and severity. ``write_kit`` puts
``catalogue/<resource>.toml`` and ``suites/<resource>.json`` into a node's home.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from nodes.catalogue_entries import CatalogueEntry, file_name, parse_entry
from nodes.sample.errors import SampleError
from nodes.sample.registers import DISTRICTS
from quality.suite import ColumnType, Rule, Severity, Suite, document, parse

KitName: TypeAlias = Literal[
    "persons", "enterprises", "employed", "clinic", "diabetes", "heart", "tax_penalty", "hightech"
]


@dataclass(frozen=True, slots=True)
class KitColumn:
    """A column: type, titles, whether it points to one person or body, and its protection grade."""

    name: str
    type: ColumnType
    zh: str
    en: str
    identifier: bool = False
    grade: Literal["general", "important", "core"] = "general"
    personal: Literal["none", "personal", "sensitive"] = "none"


@dataclass(frozen=True, slots=True)
class Kit:
    """Catalogue entry and suite of one kind of table.

    Attributes:
        zh: name of the resource.
        en: the same in English.
        data_class: of the catalogue entry.
        grade: of the catalogue entry.
        days: promised update frequency.
        columns: in the table's sequence.
        rules: of the suite.
        null_values: texts that mean an empty cell, beside the empty text.
    """

    zh: str
    en: str
    data_class: str
    grade: Literal["general", "important", "core"]
    days: int
    columns: tuple[KitColumn, ...]
    rules: tuple[Rule, ...]
    null_values: tuple[str, ...] = field(default=("",))


def kit_suite(kit: KitName, *, name: str = "") -> Suite:
    """Return the suite of a kit, under the name of a resource."""
    made = KITS[kit]
    draft = Suite(
        name or kit, "1.0.0", {column.name: column.type for column in made.columns}, made.rules, made.null_values
    )
    # Through the file's own parser, so that the digest is the one the written file has.
    return parse(json.loads(json.dumps(document(draft))))


def kit_entry(
    kit: KitName,
    *,
    resource: str,
    owner: str,
    table: Path | str,
    version: int = 1,
    encoding: Literal["utf-8", "gb18030"] = "utf-8",
    name_zh: str = "",
    name_en: str = "",
) -> CatalogueEntry:
    """Return the catalogue entry of a kit; arguments as in ``write_kit``.

    Raises:
        SampleError: no such kit.
    """
    if kit not in KITS:
        raise SampleError(f"expected one of the kits {', '.join(KITS)}")
    made, path = KITS[kit], Path(table)
    return parse_entry(
        {
            "id": resource,
            "version": version,
            "name_zh": name_zh or made.zh,
            "name_en": name_en or made.en,
            "owner": owner,
            "class": made.data_class,
            "grade": made.grade,
            "update_frequency_days": made.days,
            "operation_attribute": "conditional",
            "eligibility": {"checked_by": "法规处", "checked_on": "2026-01-05", "found": []},
            "storage": {
                "path": str(path),
                "format": "parquet" if path.suffix == ".parquet" else "csv",
                "encoding": encoding,
            },
            "columns": [
                {
                    "name": column.name,
                    "type": column.type,
                    "title_zh": column.zh,
                    "title_en": column.en,
                    "identifier": column.identifier,
                    "grade": column.grade,
                    "personal": column.personal,
                }
                for column in made.columns
            ],
        },
        source=f"kit {kit}",
    )


def write_kit(
    kit: KitName,
    home: Path,
    *,
    resource: str,
    owner: str,
    table: Path | str,
    version: int = 1,
    encoding: Literal["utf-8", "gb18030"] = "utf-8",
    name_zh: str = "",
    name_en: str = "",
) -> tuple[Path, Path]:
    """Write the catalogue entry and the suite of a kit into a node's home.

    Args:
        kit: which.
        home: the node's folder.
        resource: catalogue id.
        owner: id of the department.
        table: the table's file, absolute or relative to ``home``.
        version: of the entry.
        encoding: of a CSV.
        name_zh: name of the resource; the kit's if not given.
        name_en: the same in English.

    Returns:
        Paths of the entry and of the suite.
    """
    entry = kit_entry(
        kit, resource=resource, owner=owner, table=table, version=version, encoding=encoding,
        name_zh=name_zh, name_en=name_en,
    )  # fmt: skip
    catalogue = home / "catalogue" / file_name(resource)
    suite = home / "suites" / f"{resource}.json"
    for target, text in (
        (catalogue, entry.to_toml()),
        (suite, json.dumps(document(kit_suite(kit, name=resource)), ensure_ascii=False, indent=2) + "\n"),
    ):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return catalogue, suite


def _rule(  # noqa: PLR0917 - a table of rules reads best as rows
    rule_id: str, kind: str, kwargs: Mapping[str, Any], indicator: str, severity: Severity, zh: str, en: str
) -> Rule:
    nulls: Literal["skip", "distinct"] = "distinct" if kind.startswith("expect_compound") else "skip"
    return Rule(rule_id, kind, dict(kwargs), indicator, severity, zh, en, nulls)


def _filled(rule_id: str, column: str, zh: str, en: str, *, mostly: float = 1, severity: Severity = "major") -> Rule:
    kwargs: dict[str, Any] = {"column": column} if mostly == 1 else {"column": column, "mostly": mostly}
    return _rule(
        rule_id, "expect_column_values_to_not_be_null", kwargs, "0201", severity, f"{zh}已填写", f"{en} is filled in"
    )


def _once(rule_id: str, column: str, zh: str, en: str, *, mostly: float, severity: Severity) -> Rule:
    kwargs = {"column": column, "mostly": mostly}
    kind = "expect_column_values_to_be_unique"
    return _rule(rule_id, kind, kwargs, "0304", severity, f"{zh}不重复", f"{en} occurs once")


def _among(rule_id: str, column: str, values: Sequence[Any], zh: str, en: str, *, mostly: float = 0.99) -> Rule:
    kwargs = {"column": column, "value_set": list(values), "mostly": mostly}
    return _rule(
        rule_id,
        "expect_column_values_to_be_in_set",
        kwargs,
        "0101",
        "major",
        f"{zh}取值在代码表内",
        f"{en} is a listed code",
    )


def _range(  # noqa: PLR0917 - as above
    rule_id: str, column: str, low: float | None, high: float | None, zh: str, en: str
) -> Rule:
    kwargs: dict[str, Any] = {"column": column, "mostly": 0.98}
    if low is not None:
        kwargs["min_value"] = low
    if high is not None:
        kwargs["max_value"] = high
    return _rule(
        rule_id, "expect_column_values_to_be_between", kwargs, "0104", "major", f"{zh}在合理范围", f"{en} is plausible"
    )


def _delivered(days: int) -> Rule:
    kind = "expect_table_delivery_to_be_within_days"
    return _rule("R-TIME", kind, {"days": days}, "0502", "critical", "按承诺周期交付", "Delivered within the promise")


def _fresh(column: str, days: int) -> Rule:
    kind, kwargs = "expect_column_max_to_be_within_days", {"column": column, "days": days}
    return _rule("R-TIME", kind, kwargs, "0502", "critical", "按承诺频率更新", "Updated as often as promised")


def _rows(low: int) -> Rule:
    kind = "expect_table_row_count_to_be_between"
    return _rule(
        "R-ROWS", kind, {"min_value": low}, "0202", "critical", "记录数达到应有规模", "As many records as expected"
    )


_DIVISION = KitColumn("division", "text", "行政区划代码", "Division code")
_DISTRICT = KitColumn("district", "text", "行政区", "District")
_RECORD = KitColumn("record_no", "text", "登记号", "Record number", identifier=True)
_DISTRICT_RULE = _rule(
    "R-REGION",
    "expect_column_pair_values_to_be_in_set",
    {
        "column_A": "district",
        "column_B": "division",
        "value_pairs_set": [[name, code] for name, code in DISTRICTS.items()],
        "mostly": 0.99,
    },
    "0402",
    "major",
    "行政区与区划代码一致",
    "District and division code agree",
)


def _ordered(later: str, earlier: str, zh: str, en: str) -> Rule:
    return _rule(
        "R-ORDER",
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": later, "column_B": earlier, "or_equal": True, "mostly": 0.99},
        "0503",
        "major",
        zh,
        en,
    )


_PERSONS = Kit(
    zh="人口登记信息",
    en="Register of persons",
    data_class="population",
    grade="important",
    days=30,
    columns=(
        _RECORD,
        KitColumn("name", "text", "姓名", "Name", identifier=True, grade="important", personal="personal"),
        KitColumn(
            "id_no", "text", "公民身份号码", "Identity number", identifier=True, grade="important", personal="personal"
        ),
        KitColumn("sex", "text", "性别", "Sex"),
        KitColumn("birth_date", "date", "出生日期", "Date of birth", grade="important", personal="personal"),
        KitColumn(
            "mobile", "text", "手机号码", "Mobile number", identifier=True, grade="important", personal="personal"
        ),
        _DIVISION,
        _DISTRICT,
        KitColumn("registered_on", "date", "登记日期", "Registered on"),
        KitColumn("updated_on", "date", "更新日期", "Updated on"),
        KitColumn("status", "text", "状态", "Status"),
    ),
    rules=(
        _rows(100),
        _filled("R-KEY", "record_no", "登记号", "Record number", severity="critical"),
        _once("R-KEY-1", "record_no", "登记号", "Record number", mostly=0.99, severity="major"),
        _filled("R-NAME", "name", "姓名", "Name", mostly=0.99),
        _rule(
            "R-NAME-1",
            "expect_column_value_lengths_to_be_between",
            {"column": "name", "min_value": 2, "max_value": 30},
            "0302",
            "minor",
            "姓名长度合规",
            "The name has a plausible length",
        ),
        _filled("R-ID", "id_no", "公民身份号码", "Identity number", mostly=0.99, severity="critical"),
        _rule(
            "R-ID-1",
            "expect_column_values_to_be_valid_resident_ids",
            {"column": "id_no", "mostly": 0.99},
            "0301",
            "critical",
            "公民身份号码有效（GB 11643）",
            "Identity number is valid (GB 11643)",
        ),
        _once("R-ID-2", "id_no", "公民身份号码", "Identity number", mostly=0.99, severity="critical"),
        _rule(
            "R-ID-3",
            "expect_birth_dates_to_match_resident_ids",
            {"column_A": "id_no", "column_B": "birth_date", "mostly": 0.99},
            "0402",
            "major",
            "出生日期与身份号码一致",
            "Date of birth agrees with the identity number",
        ),
        _rule(
            "R-ID-4",
            "expect_sexes_to_match_resident_ids",
            {"column_A": "id_no", "column_B": "sex", "mostly": 0.99},
            "0402",
            "major",
            "性别与身份号码一致",
            "Sex agrees with the identity number",
        ),
        _among("R-SEX", "sex", ["男", "女"], "性别", "Sex"),
        _rule(
            "R-BIRTH",
            "expect_column_values_to_be_between",
            {"column": "birth_date", "min_value": "1900-01-01", "mostly": 0.999},
            "0104",
            "major",
            "出生日期在合理范围",
            "Date of birth is plausible",
        ),
        _filled("R-MOB", "mobile", "手机号码", "Mobile number", mostly=0.95, severity="minor"),
        _rule(
            "R-MOB-1",
            "expect_column_values_to_be_mobile_numbers",
            {"column": "mobile", "mostly": 0.99},
            "0302",
            "minor",
            "手机号码格式合规",
            "Mobile number has the right format",
        ),
        _among("R-DIV", "division", list(DISTRICTS.values()), "行政区划代码", "Division code"),
        _DISTRICT_RULE,
        _ordered("updated_on", "registered_on", "更新不早于登记", "Not updated before it was registered"),
        _among("R-STATUS", "status", ["在册", "注销", "迁出"], "状态", "Status"),
        _fresh("updated_on", 30),
    ),
)

_ENTERPRISES = Kit(
    zh="市场主体登记信息",
    en="Register of enterprises",
    data_class="legal-entity",
    grade="general",
    days=30,
    columns=(
        _RECORD,
        KitColumn("name", "text", "企业名称", "Name", identifier=True),
        KitColumn("uscc", "text", "统一社会信用代码", "Unified social credit code", identifier=True),
        KitColumn("legal_form", "text", "类型", "Legal form"),
        KitColumn("capital", "number", "注册资本（万元）", "Registered capital (10,000 yuan)"),
        _DIVISION,
        _DISTRICT,
        KitColumn("established_on", "date", "成立日期", "Established on"),
        KitColumn("updated_on", "date", "更新日期", "Updated on"),
        KitColumn("status", "text", "登记状态", "Status"),
    ),
    rules=(
        _rows(100),
        _filled("R-KEY", "record_no", "登记号", "Record number", severity="critical"),
        _once("R-KEY-1", "record_no", "登记号", "Record number", mostly=0.99, severity="major"),
        _filled("R-NAME", "name", "企业名称", "Name", mostly=0.99),
        _filled("R-CODE", "uscc", "统一社会信用代码", "Credit code", mostly=0.99, severity="critical"),
        _rule(
            "R-CODE-1",
            "expect_column_value_lengths_to_equal",
            {"column": "uscc", "value": 18, "mostly": 0.99},
            "0302",
            "major",
            "统一社会信用代码为 18 位",
            "Credit code has 18 characters",
        ),
        _rule(
            "R-CODE-2",
            "expect_column_values_to_be_valid_usccs",
            {"column": "uscc", "mostly": 0.99},
            "0301",
            "critical",
            "统一社会信用代码有效（GB 32100）",
            "Credit code is valid (GB 32100)",
        ),
        _once("R-CODE-3", "uscc", "统一社会信用代码", "Credit code", mostly=0.99, severity="critical"),
        _among(
            "R-FORM", "legal_form", ["有限责任公司", "股份有限公司", "个人独资企业", "合伙企业"], "类型", "Legal form"
        ),
        _range("R-CAP", "capital", 0, None, "注册资本", "Registered capital"),
        _among("R-DIV", "division", list(DISTRICTS.values()), "行政区划代码", "Division code"),
        _DISTRICT_RULE,
        _ordered("updated_on", "established_on", "更新不早于成立", "Not updated before it was established"),
        _among("R-STATUS", "status", ["存续", "注销", "吊销"], "登记状态", "Status"),
        _fresh("updated_on", 30),
    ),
)

_MEASURES = (
    ("radius", "半径"),
    ("texture", "纹理"),
    ("perimeter", "周长"),
    ("area", "面积"),
    ("smoothness", "平滑度"),
    ("compactness", "紧密度"),
    ("concavity", "凹度"),
    ("concave_points", "凹点"),
    ("symmetry", "对称性"),
    ("fractal_dimension", "分形维数"),
)
_PATIENT = KitColumn("patient_no", "text", "就诊编号", "Patient number", identifier=True, grade="important")


def _clinic_columns() -> tuple[KitColumn, ...]:
    groups = (
        ("mean_{}", "{}均值", "Mean {}"),
        ("{}_error", "{}标准误", "Error of {}"),
        ("worst_{}", "{}最差值", "Worst {}"),
    )
    measured = tuple(
        KitColumn(name.format(key), "number", zh.format(title), en.format(key.replace("_", " ")))
        for name, zh, en in groups
        for key, title in _MEASURES
    )
    return (_PATIENT, *measured, KitColumn("malignant", "integer", "是否恶性", "Malignant", grade="important"))


_CLINIC = Kit(
    zh="乳腺检查登记",
    en="Breast examinations",
    data_class="health",
    grade="important",
    days=90,
    columns=_clinic_columns(),
    rules=(
        _rows(30),
        _filled("R-KEY", "patient_no", "就诊编号", "Patient number", severity="critical"),
        _once("R-KEY-1", "patient_no", "就诊编号", "Patient number", mostly=1, severity="critical"),
        _filled("R-Y", "malignant", "是否恶性", "Malignant", severity="critical"),
        _among("R-Y-1", "malignant", [0, 1], "是否恶性", "Malignant", mostly=1),
        *(
            _filled(f"R-X{index:02d}", f"mean_{key}", f"{zh}均值", f"Mean {key}", mostly=0.99)
            for index, (key, zh) in enumerate(_MEASURES)
        ),
        _range("R-RADIUS", "mean_radius", 1, 60, "半径均值", "Mean radius"),
        _range("R-AREA", "mean_area", 10, 5_000, "面积均值", "Mean area"),
        _range("R-SMOOTH", "mean_smoothness", 0, 1, "平滑度均值", "Mean smoothness"),
        _rule(
            "R-WORST",
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": "worst_radius", "column_B": "mean_radius", "or_equal": True, "mostly": 0.99},
            "0402",
            "major",
            "最差半径不小于平均半径",
            "The worst radius is not below the mean",
        ),
        _rule(
            "R-DUP",
            "expect_compound_columns_to_be_unique",
            {"column_list": ["mean_radius", "mean_texture", "mean_area", "worst_area"], "mostly": 0.99},
            "0303",
            "major",
            "同一检查未重复登记",
            "No examination is entered twice",
        ),
        _delivered(90),
    ),
)

_DIABETES_COLUMNS: tuple[tuple[str, ColumnType, str, str], ...] = (
    ("age", "integer", "年龄", "Age"),
    ("sex", "integer", "性别", "Sex"),
    ("bmi", "number", "体重指数", "Body mass index"),
    ("bp", "number", "平均血压", "Mean blood pressure"),
    ("s1", "number", "总胆固醇", "Total cholesterol"),
    ("s2", "number", "低密度脂蛋白", "Low-density lipoproteins"),
    ("s3", "number", "高密度脂蛋白", "High-density lipoproteins"),
    ("s4", "number", "胆固醇比值", "Cholesterol ratio"),
    ("s5", "number", "甘油三酯对数", "Log of triglycerides"),
    ("s6", "number", "血糖", "Blood sugar"),
    ("progression", "number", "一年后病情进展", "Progression after a year"),
)
_DIABETES = Kit(
    zh="糖尿病随访登记",
    en="Diabetes follow-up",
    data_class="health",
    grade="important",
    days=90,
    columns=(_PATIENT, *(KitColumn(name, kind, zh, en) for name, kind, zh, en in _DIABETES_COLUMNS)),
    rules=(
        _rows(30),
        _filled("R-KEY", "patient_no", "就诊编号", "Patient number", severity="critical"),
        _once("R-KEY-1", "patient_no", "就诊编号", "Patient number", mostly=1, severity="critical"),
        *(
            _filled(f"R-X{index:02d}", name, zh, en, mostly=0.98)
            for index, (name, _, zh, en) in enumerate(_DIABETES_COLUMNS)
        ),
        _among("R-SEX", "sex", [1, 2], "性别", "Sex", mostly=1),
        _range("R-AGE", "age", 0, 120, "年龄", "Age"),
        _range("R-BMI", "bmi", 10, 70, "体重指数", "Body mass index"),
        _range("R-BP", "bp", 30, 200, "平均血压", "Mean blood pressure"),
        _rule(
            "R-LIPID",
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": "s1", "column_B": "s2", "mostly": 0.99},
            "0402",
            "major",
            "总胆固醇高于低密度脂蛋白",
            "Total cholesterol is above its low-density part",
        ),
        _rule(
            "R-DUP",
            "expect_compound_columns_to_be_unique",
            {"column_list": ["age", "sex", "bmi", "bp", "s1", "s2"], "mostly": 0.99},
            "0303",
            "major",
            "同一随访未重复登记",
            "No visit is entered twice",
        ),
        _delivered(90),
    ),
)

_HEART = Kit(
    zh="冠心病检查登记",
    en="Heart disease examinations",
    data_class="health",
    grade="important",
    days=365,
    columns=(
        KitColumn("row", "integer", "序号", "Row", identifier=True),
        KitColumn("age", "integer", "年龄", "Age"),
        KitColumn("sex", "integer", "性别", "Sex"),
        KitColumn("cp", "integer", "胸痛类型", "Chest pain"),
        KitColumn("trestbps", "number", "静息血压", "Resting blood pressure"),
        KitColumn("chol", "number", "血清胆固醇", "Cholesterol"),
        KitColumn("fbs", "integer", "空腹血糖偏高", "High fasting blood sugar"),
        KitColumn("restecg", "integer", "静息心电图", "Resting ECG"),
        KitColumn("thalach", "number", "最大心率", "Maximum heart rate"),
        KitColumn("exang", "integer", "运动诱发心绞痛", "Exercise angina"),
        KitColumn("oldpeak", "number", "ST 段压低", "ST depression"),
        KitColumn("slope", "integer", "ST 段斜率", "ST slope"),
        KitColumn("ca", "integer", "着色血管数", "Coloured vessels"),
        KitColumn("thal", "integer", "铊扫描", "Thallium scan"),
        KitColumn("num", "integer", "诊断分级", "Diagnosis", grade="important"),
        KitColumn("flamby_split", "text", "划分", "Split"),
    ),
    rules=(
        _rows(50),
        _filled("R-KEY", "row", "序号", "Row", severity="critical"),
        _once("R-KEY-1", "row", "序号", "Row", mostly=1, severity="critical"),
        _filled("R-AGE", "age", "年龄", "Age", severity="critical"),
        _range("R-AGE-1", "age", 0, 120, "年龄", "Age"),
        _filled("R-SEX", "sex", "性别", "Sex"),
        _among("R-SEX-1", "sex", [0, 1], "性别", "Sex"),
        _filled("R-CP", "cp", "胸痛类型", "Chest pain"),
        _among("R-CP-1", "cp", [1, 2, 3, 4], "胸痛类型", "Chest pain"),
        _filled("R-BP", "trestbps", "静息血压", "Resting blood pressure", mostly=0.7, severity="minor"),
        _range("R-BP-1", "trestbps", 50, 250, "静息血压", "Resting blood pressure"),
        _filled("R-HR", "thalach", "最大心率", "Maximum heart rate", mostly=0.7, severity="minor"),
        _range("R-HR-1", "thalach", 40, 230, "最大心率", "Maximum heart rate"),
        _range("R-ST", "oldpeak", -5, 10, "ST 段压低", "ST depression"),
        _filled("R-Y", "num", "诊断分级", "Diagnosis", severity="critical"),
        _among("R-Y-1", "num", [0, 1, 2, 3, 4], "诊断分级", "Diagnosis", mostly=1),
        _rule(
            "R-DUP",
            "expect_compound_columns_to_be_unique",
            {"column_list": ["age", "sex", "cp", "trestbps", "chol", "thalach", "oldpeak", "num"], "mostly": 0.95},
            "0303",
            "minor",
            "同一检查未重复登记",
            "No examination is entered twice",
        ),
        _delivered(365),
    ),
)

_TAX = Kit(
    zh="税务行政处罚信息",
    en="Tax penalties",
    data_class="tax",
    grade="general",
    days=365,
    columns=(
        KitColumn("纳税人识别号", "text", "纳税人识别号", "Taxpayer number", identifier=True),
        KitColumn("纳税人名称", "text", "纳税人名称", "Taxpayer", identifier=True),
        KitColumn("处罚类别", "text", "处罚类别", "Kind of penalty"),
        KitColumn("处罚事由", "text", "处罚事由", "Reason"),
        KitColumn("罚款元", "number", "罚款（元）", "Fine (yuan)"),
        KitColumn("处罚机构", "text", "处罚机构", "Authority"),
        KitColumn("区", "text", "区", "District"),
        KitColumn("处罚日期", "date", "处罚日期", "Date"),
    ),
    rules=(
        _rows(100),
        _filled("R-KEY", "纳税人识别号", "纳税人识别号", "Taxpayer number", severity="critical"),
        _rule(
            "R-KEY-1",
            "expect_column_values_to_match_regex",
            {
                "column": "纳税人识别号",
                "regex": "^([0-9A-Z]{15}|[0-9A-Z]{17}|[0-9A-HJ-NPQRTUWXY]{18})$",
                "mostly": 0.98,
            },
            "0302",
            "critical",
            "纳税人识别号格式合规",
            "Taxpayer number has the right format",
        ),
        _filled("R-NAME", "纳税人名称", "纳税人名称", "Taxpayer", mostly=0.99),
        _filled("R-FINE", "罚款元", "罚款", "Fine", mostly=0.99, severity="critical"),
        _range("R-FINE-1", "罚款元", 0, 1_000_000_000, "罚款", "Fine"),
        _among("R-KIND", "处罚类别", ["一般程序处罚", "税务行政处罚"], "处罚类别", "Kind of penalty"),
        _filled("R-REGION", "区", "区", "District", mostly=0.7, severity="minor"),
        _filled("R-DATE", "处罚日期", "处罚日期", "Date", mostly=0.99),
        _rule(
            "R-DATE-1",
            "expect_column_values_to_be_between",
            {"column": "处罚日期", "min_value": "2000-01-01", "mostly": 0.99},
            "0501",
            "major",
            "处罚日期在合理范围",
            "The date is plausible",
        ),
        _rule(
            "R-DUP",
            "expect_compound_columns_to_be_unique",
            {"column_list": ["纳税人识别号", "处罚事由", "罚款元", "处罚日期"], "mostly": 0.95},
            "0303",
            "minor",
            "同一处罚未重复登记",
            "No penalty is entered twice",
        ),
        _delivered(365),
    ),
)

_HIGHTECH = Kit(
    zh="高新技术企业认定信息",
    en="High-tech certificates",
    data_class="science",
    grade="general",
    days=365,
    columns=(
        KitColumn("统一社会信用代码", "text", "统一社会信用代码", "Unified social credit code", identifier=True),
        KitColumn("法人单位名称", "text", "法人单位名称", "Name", identifier=True),
        KitColumn("所属园区", "text", "所属园区", "Park"),
        KitColumn("所属技术领域", "text", "所属技术领域", "Field"),
        KitColumn("证书编号", "text", "证书编号", "Certificate", identifier=True),
    ),
    rules=(
        _rows(100),
        _filled("R-CODE", "统一社会信用代码", "统一社会信用代码", "Credit code", severity="critical"),
        _rule(
            "R-CODE-1",
            "expect_column_values_to_match_regex",
            {"column": "统一社会信用代码", "regex": "^[0-9A-HJ-NPQRTUWXY]{18}$", "mostly": 0.99},
            "0302",
            "critical",
            "统一社会信用代码格式合规",
            "Credit code has the right format",
        ),
        _rule(
            "R-CODE-2",
            "expect_column_values_to_be_valid_usccs",
            {"column": "统一社会信用代码", "mostly": 0.999},
            "0301",
            "critical",
            "统一社会信用代码有效（GB 32100）",
            "Credit code is valid (GB 32100)",
        ),
        _once("R-CODE-3", "统一社会信用代码", "统一社会信用代码", "Credit code", mostly=1, severity="critical"),
        _filled("R-NAME", "法人单位名称", "法人单位名称", "Name"),
        _filled("R-FIELD", "所属技术领域", "所属技术领域", "Field", mostly=0.99),
        _once("R-CERT", "证书编号", "证书编号", "Certificate", mostly=0.99, severity="major"),
        _rule(
            "R-CERT-1",
            "expect_column_values_to_match_regex",
            {"column": "证书编号", "regex": "^20[0-9]{12}$", "mostly": 0.99},
            "0302",
            "minor",
            "证书编号格式合规",
            "Certificate has the right format",
        ),
        _delivered(365),
    ),
)

# The register of persons that is linked to one of enterprises: employer, income, insurance, e-mail.
_EMPLOYED = replace(
    _PERSONS,
    zh="人口与就业登记信息",
    en="Register of persons and their employment",
    columns=(
        *_PERSONS.columns,
        KitColumn("employer", "text", "工作单位统一社会信用代码", "Credit code of the employer", grade="important"),
        KitColumn("income", "number", "月收入", "Monthly income", grade="important"),
        KitColumn("insured_months", "integer", "参保月数", "Months of insurance"),
        KitColumn("email", "text", "电子邮箱", "E-mail", identifier=True, grade="important"),
    ),
    rules=(
        *_PERSONS.rules,
        _rule(
            "R-REG-ID",
            "expect_resident_id_regions_to_have_existed",
            {"column": "id_no", "mostly": 0.99},
            "0105",
            "minor",
            "号码中的行政区划在出生时或之后有效（GB/T 2260）",
            "The region of the number was in force at the birth or later (GB/T 2260)",
        ),
        _rule(
            "R-EMP",
            "expect_column_values_to_be_valid_usccs",
            {"column": "employer", "mostly": 0.99},
            "0301",
            "major",
            "工作单位信用代码有效（GB 32100）",
            "The employer's credit code is valid (GB 32100)",
        ),
        _rule(
            "R-EMP-1",
            "expect_column_values_to_be_in_resource",
            {"column": "employer", "resource": "res.sample.enterprises", "other_column": "uscc", "mostly": 0.99},
            "0401",
            "major",
            "工作单位在市场主体登记中",
            "The employer is in the register of enterprises",
        ),
        _range("R-INC", "income", 0, 10_000_000, "月收入", "Monthly income"),
        _rule(
            "R-INC-1",
            "expect_column_drift_to_be_at_most",
            {"column": "income", "max_psi": 0.25},
            "0501",
            "minor",
            "月收入分布较上次交付稳定",
            "Monthly income is distributed as in the delivery before",
        ),
        _range("R-INS", "insured_months", 0, 600, "参保月数", "Months of insurance"),
        _rule(
            "R-MAIL",
            "expect_column_values_to_match_regex",
            {"column": "email", "regex": "^[a-z0-9.]+@[a-z0-9.]+[.][a-z]+$", "mostly": 0.99},
            "0302",
            "minor",
            "电子邮箱格式合规",
            "E-mail address has the right format",
        ),
        _rule(
            "R-GROW",
            "expect_table_row_count_to_change_by_at_most",
            {"percent": 20},
            "0202",
            "minor",
            "记录数较上次交付稳定",
            "About as many records as in the delivery before",
        ),
    ),
)

KITS: Mapping[str, Kit] = {
    "persons": _PERSONS,
    "enterprises": _ENTERPRISES,
    "employed": _EMPLOYED,
    "clinic": _CLINIC,
    "diabetes": _DIABETES,
    "heart": _HEART,
    "tax_penalty": _TAX,
    "hightech": _HIGHTECH,
}
