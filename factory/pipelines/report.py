"""Pipeline ``sums.ckks``: cross-department statistics as a report with its tables."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from factory.agency.tables import TOTAL
from factory.federation import sums
from factory.federation.session import Session
from factory.pipelines.build import Built, Learns, Mechanism, close_session, require_nodes, uses_of
from factory.pipelines.pages import (
    Cell,
    Fact,
    Page,
    Table,
    is_pdf_available,
    report_html,
    report_pdf,
    tables_csv,
    tables_json,
)
from factory.pipelines.pipeline import Building, Pipeline
from factory.pipelines.recipe import PresentationSection, Recipe, RecipeError
from factory.pipelines.study_tables import study_table
from nodes.contract import canonical
from nodes.contract.canonical import JsonObject
from nodes.contract.signing import Envelope, sha256_hex
from nodes.contract.tasks.sums import CONTRIBUTORS_MIN, OTHER, TASK, SumsParameters

NAME = TASK

MECHANISMS = (
    Mechanism(
        "co-signed-encrypted-sums",
        "CKKS: Cheon et al., ASIACRYPT 2017; flooding before disclosure: Li and Micciancio, EUROCRYPT 2021",
        "ckks-8192-sums-v1",
    ),
    Mechanism(
        "cell-suppression-and-controlled-rounding",
        "Willenborg and de Waal 2001, chapters 4 to 6; Cox and Ernst, INFOR 20, 1982",
        "disclosure-v1",
    ),
)

LEARNS = (
    Learns(
        "operator",
        "只见密文和机构已做披露控制的合计表；看不到任何一个部门的数字。",
        "ciphertexts, and the joint tables after the agency's disclosure control; no department's figure.",
    ),
    Learns(
        "agency",
        "解密经全体贡献方共同签认的合计；从不接收单个部门的密文。",
        "the joint sums that all contributors co-signed; it never receives a single department's ciphertext.",
    ),
    Learns(
        "node",
        "其他部门的密文(无法解读)与最终公布的表。",
        "the other departments' ciphertexts, which it cannot read, and the published tables.",
    ),
    Learns(
        "operator+agency",
        "若运营机构与机构合谋，可解密单个部门的密文；两者须为不同机构，且每次解密均留痕。",
        "together, operator and agency could decrypt single ciphertexts; they are different bodies and every "
        "decryption is on record.",
    ),
)

_EMPTY = ("0", "—")
"""What an empty cell shows: no entities, or no mean of none."""
_DEFAULT = PresentationSection(title_zh="统计表", title_en="Table")


def parameters_of(recipe: Recipe) -> SumsParameters:
    """Read the recipe's parameters.

    Raises:
        RecipeError: a parameter is missing, unknown or wrong, or a table is shown that is not measured.
    """
    try:
        parameters = SumsParameters.model_validate(
            {"departments": max(CONTRIBUTORS_MIN, len(recipe.nodes)), **recipe.parameters}, strict=False
        )
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:4])
        raise RecipeError(f"the parameters of {NAME} are wrong: {found}") from error
    for party in recipe.parties:
        missing = sorted(set(parameters.columns) - set(party.columns))
        if missing:
            raise RecipeError(f"expected the columns {', '.join(missing)} at {party.node}, as the measures name them")
    names = {measure.name for measure in parameters.measures} | {study.name for study in parameters.studies}
    unknown = sorted(set(recipe.presentation) - names)
    if unknown:
        raise RecipeError(f"presentation of {', '.join(unknown)}: no measure or study has this name")
    return parameters


def build(
    recipe: Recipe,
    recipe_bytes: bytes,
    session: Session,
    *,
    now: Callable[[], datetime],
    agency_call: sums.AgencyCall,
    grant_envelopes: Sequence[Envelope],
    progress: Callable[[str], None] = lambda _: None,
) -> Built:
    """Compile the report in ``session`` and return the product's files.

    Args:
        recipe: of form ``report``.
        recipe_bytes: the recipe file.
        session: not yet open, under a grant for this recipe.
        now: clock.
        agency_call: reaches the agency's key service.
        grant_envelopes: the signed grant, for the agency to check.
        progress: gets a short text after every stage.

    Raises:
        FactoryError: too few contributors, or a node or the agency refused.
    """
    parameters = parameters_of(recipe)
    started = now()
    statistics = sums.compute(
        session,
        parameters,
        uses_of(recipe),
        agency_call,
        grant_envelopes=grant_envelopes,
        progress=lambda stage, done, of: progress(f"{stage} {done}/{of}"),
    )
    runs = close_session(session)
    require_nodes(runs, statistics.contributors)
    periods = {category.column for category in parameters.categories if category.period is not None}
    tables = tuple(page_table(table, recipe.presentation, periods=periods) for table in statistics.tables)
    tables += tuple(
        study_table(study, recipe.presentation.get(study["name"], _DEFAULT)) for study in statistics.document["studies"]
    )
    suppressed = int(statistics.facts["suppressed"])
    page = _page(recipe, tables, statistics, suppressed)
    return Built(
        recipe=recipe,
        recipe_bytes=recipe_bytes,
        files={
            "tables.json": statistics.tables_bytes,
            "tables.csv": tables_csv(tables),
            "report.json": tables_json(tables),
            "evidence.json": _evidence(parameters, statistics),
            "report.html": report_html(page),
            **({"report.pdf": report_pdf(page)} if is_pdf_available() else {}),
        },
        metrics={"tables": len(tables), "suppressed": suppressed, "contributors": len(statistics.contributors)},
        participants=statistics.contributors,
        sessions=(session.session_id,),
        node_runs=runs,
        mechanisms=MECHANISMS,
        learns=LEARNS,
        cell_min=int(statistics.facts["cell_min"]),
        round_base=int(statistics.facts["round_base"]),
        suppressed=suppressed,
        started_at=started,
        finished_at=now(),
        headline=(
            (
                f"{len(statistics.contributors)} 个节点共同签认后解密；{len(tables)} 张表，隐去 {suppressed} 个单元格",
                f"co-signed by {len(statistics.contributors)} nodes; {len(tables)} tables, {suppressed} cells hidden",
            ),
        ),
        evidence={"agency_result": statistics.agency_result.to_bytes()},
    )


def page_table(
    table: Mapping[str, Any],
    presentation: Mapping[str, PresentationSection],
    *,
    periods: Collection[str] = frozenset(),
) -> Table:
    """Return one of the agency's tables in the form of a page.

    Args:
        table: see ``factory.agency.tables.protected_tables``.
        presentation: titles, units and labels by name.
        periods: columns whose categories are periods of time: drawn as a line.
    """
    shown = presentation.get(table["name"], _DEFAULT)
    scale = int(table["scale"])
    found = {tuple(cell["at"]): cell for cell in table["cells"]}
    axes = [tuple(axis) for axis in table["axes"]]
    rows = (*axes[0], TOTAL) if axes else ()
    columns = (*axes[1], TOTAL) if len(axes) > 1 else ()

    def cell(*at: str) -> Cell:
        value = found[at]
        if value["value"] is None:
            return (
                Cell(None, value["reason"]) if value["state"] == "suppressed" else Cell(_EMPTY[table["kind"] == "mean"])
            )
        return Cell(_scaled(int(value["value"]), scale))

    if not axes:
        titles: tuple[str, ...] = ("合计 Total",)
        cells: tuple[tuple[Cell, ...], ...] = ((cell(),),)
    elif not columns:
        titles = tuple(_label(row, shown) for row in rows)
        cells = tuple((cell(row),) for row in rows)
    else:
        titles = tuple(_label(row, shown) for row in rows)
        cells = tuple(tuple(cell(row, column) for column in columns) for row in rows)
    heads = tuple(_label(column, shown) for column in columns) or (f"{shown.unit_zh} {shown.unit_en}".strip() or "值",)
    if not columns and any("deviation" in value for value in found.values()):
        heads = ("均值 mean", "标准差 standard deviation")
        places = [(row,) for row in rows] if rows else [()]
        cells = tuple((*one, _deviation(found[at], scale)) for one, at in zip(cells, places, strict=True))
    keep = [place for place, row in enumerate(rows or ("",)) if row != OTHER or not _is_all_zero(cells[place])]
    if columns and OTHER in columns and all(row[columns.index(OTHER)].value == "0" for row in cells):
        drop = columns.index(OTHER)
        heads = tuple(head for place, head in enumerate(heads) if place != drop)
        cells = tuple(tuple(cell for place, cell in enumerate(row) if place != drop) for row in cells)
    return Table(
        name=table["name"],
        title_zh=shown.title_zh,
        title_en=shown.title_en,
        unit_zh=shown.unit_zh,
        unit_en=shown.unit_en,
        row_titles=tuple(titles[place] for place in keep),
        column_titles=heads,
        cells=tuple(cells[place] for place in keep),
        chart="none" if len(axes) != 1 else "line" if table["by"][0] in periods else "bars",
        error_zh=_error(table, shown)[0],
        error_en=_error(table, shown)[1],
    )


def _error(table: Mapping[str, Any], shown: PresentationSection) -> tuple[str, str]:
    most = _scaled(int(table["error"]), int(table["scale"]))
    if most == "0":
        return "与合并数据的计数一致", "none: as counted on the pooled rows"
    zh = f"每个数与合并数据相差不超过 {most} {shown.unit_zh}".strip()
    return zh, f"every number is within {most} {shown.unit_en} of the pooled one".replace("  ", " ")


def _deviation(value: Mapping[str, Any], scale: int) -> Cell:
    if value["state"] == "published":
        return Cell(_scaled(int(value["deviation"]), scale))
    return Cell(None, value["reason"]) if value["state"] == "suppressed" else Cell("—")


def _is_all_zero(cells: Sequence[Cell]) -> bool:
    return all(cell.value in _EMPTY for cell in cells)


def _scaled(value: int, scale: int) -> str:
    if scale == 1:
        return str(value)
    return format((Decimal(value) / Decimal(scale)).normalize(), "f")


def _label(text: str, shown: PresentationSection) -> str:
    if text == TOTAL:
        return "合计 Total"
    if text == OTHER:
        return shown.labels.get(OTHER, "其他 other")
    return shown.labels.get(text, text)


def _evidence(parameters: SumsParameters, statistics: sums.Statistics) -> bytes:
    """What an auditor compares: rules, parameters, contributors, and what was suppressed by which rule.

    Session, keys and signatures stand in the node statements and the agency's signed answer; nothing here changes
    from one run over the same tables to the next.
    """
    by_reason: dict[str, dict[str, int]] = {}
    for table in statistics.tables:
        codes = [cell["reason"] for cell in table["cells"] if cell["state"] == "suppressed"]
        by_reason[table["name"]] = {code: codes.count(code) for code in sorted(set(codes))}
    for study in statistics.document["studies"]:
        by_reason[study["name"]] = {study["reason"]: 1} if study["reason"] else {}
    suppressed: JsonObject = {name: dict(found) for name, found in by_reason.items()}
    return canonical.dumps(
        {
            "version": 1,
            "rules": statistics.document["rules"],
            "reasons": statistics.document["reasons"],
            "parameters": parameters.model_dump(mode="json"),
            "parameters_sha256": parameters.sha256,
            "contributors": list(statistics.contributors),
            "tables_sha256": sha256_hex(statistics.tables_bytes),
            "suppressed": suppressed,
        }
    )


def _privacy_facts(privacy: Mapping[str, Any] | None) -> list[Fact]:
    if privacy is None:
        return []
    epsilon = f"{privacy['epsilon_micro'] / 1_000_000:g}"
    return [
        Fact(
            "差分隐私",
            "Differential privacy",
            f"每个部门在加密前给自己的每个数加离散拉普拉斯噪声，本次合计 ε = {epsilon}（增减一行）；"
            "损失记入该部门不可重置的隐私账。误差为 95% 区间的近似半宽。",
            f"Each department adds discrete Laplace noise to every number before encryption, ε = {epsilon} in all (one "
            "row more or less); the loss stands in its privacy ledger, which cannot be reset. Errors are approximate "
            "half-widths of 95 % intervals.",
        )
    ]


def _rules_zh(rules: Mapping[str, Any]) -> str:
    parts = [f"规则集 {rules['name']}：少于 {rules['cell_min']} 个主体的数字不公布"]
    parts += [f"最大的 {count} 个主体合计超过 {limit / 10_000:g}% 的金额不公布" for count, limit in rules["shares"]]
    if rules["ratio_micro"] is not None:
        parts.append(f"除最大两个主体外的余额低于最大者 {rules['ratio_micro'] / 10_000:g}% 的金额不公布")
    if rules["class_micro"] is not None:
        parts.append(f"敏感列中一组主体有 {rules['class_micro'] / 10_000:g}% 落入同一类别的不公布")
    parts.append(f"模型的剩余自由度不少于 {rules['dof_min']}")
    parts.append("不公布最小值与最大值")
    parts.append("可据以推算的数字一并隐去，并与以往发布逐一比对差额")
    return "；".join(parts) + f"。公布的计数取整到 {rules['round_base']} 的倍数。"


def _rules_en(rules: Mapping[str, Any]) -> str:
    parts = [f"Rule set {rules['name']}: no number about fewer than {rules['cell_min']} entities"]
    parts += [f"no amount of which the {k} largest make up over {limit / 10_000:g} %" for k, limit in rules["shares"]]
    if rules["ratio_micro"] is not None:
        share = f"{rules['ratio_micro'] / 10_000:g} %"
        parts.append(f"no amount whose rest without the two largest is below {share} of the largest")
    if rules["class_micro"] is not None:
        parts.append(f"no group of which {rules['class_micro'] / 10_000:g} % fall into one class of a sensitive column")
    parts.append(f"models with {rules['dof_min']} residual degrees of freedom or more")
    parts.append("no minimum and no maximum")
    parts.append("what would let one be worked out goes, too, and differences to earlier releases are checked")
    return "; ".join(parts) + f". Published counts are multiples of {rules['round_base']}."


def _page(recipe: Recipe, tables: tuple[Table, ...], statistics: sums.Statistics, suppressed: int) -> Page:
    rules = statistics.document["rules"]
    cells = sum(len(table.row_titles) * len(table.column_titles) for table in tables)
    return Page(
        title_zh=recipe.product.name_zh,
        title_en=recipe.product.name_en,
        summary_zh=recipe.product.summary_zh,
        summary_en=recipe.product.summary_en,
        headline=(
            (str(len(statistics.contributors)), "参与部门", "departments"),
            (str(len(tables)), "统计表", "tables"),
            (str(cells - suppressed), "公布的数字", "published numbers"),
            (str(suppressed), "隐去的单元格", "suppressed cells"),
        ),
        tables=tables,
        method=(
            Fact(
                "计算",
                "Computation",
                "各部门在本地把登记转换为合计并加密；运营机构只做密文相加；全体贡献方重新计算并签认密文之和，机构才解密这一个和。",
                "Each department turns its register into sums and encrypts them; the operator adds ciphertexts; all "
                "contributors recompute and sign the encrypted sum, and the agency decrypts that sum alone.",
            ),
            Fact(
                "披露控制",
                "Disclosure control",
                _rules_zh(rules),
                _rules_en(rules),
            ),
            *_privacy_facts(statistics.document.get("privacy")),
            Fact(
                "为何用加密合计",
                "Why encrypted sums",
                "这些统计都由一次合计得出，且运营机构看到数字之前须先做披露控制，所以用同态加密，由机构解密并保护；"
                "需要多轮迭代的训练另用两两掩码的安全聚合。",
                "All of these follow from one opened sum, and disclosure control must come before the operator sees a "
                "number: hence encryption, which the agency opens and protects. Training in many rounds uses pairwise "
                "masks instead.",
            ),
            *(Fact(f"{item.party} 得知", f"{item.party} learns", item.what_zh, item.what_en) for item in LEARNS),
        ),
        edition=f"{recipe.product.id}@{recipe.product.version}",
    )


def _build(on: Building) -> Built:
    return build(
        on.recipe,
        on.recipe_bytes,
        on.session,
        now=on.now,
        agency_call=on.agency_call,
        grant_envelopes=on.grant_envelopes,
        progress=on.progress,
    )


PIPELINE = Pipeline(NAME, parameters_of, _build, needs_key_service=True)
