"""Pipeline ``index.ckks``: a composite index over departments, with its ranking, method sheet and sensitivity."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from factory.federation import sums
from factory.federation.session import require
from factory.pipelines.build import Built, Learns, Mechanism, close_session, require_nodes, uses_of
from factory.pipelines.pages import Cell, Fact, Page, Table, is_pdf_available, report_html, report_pdf, tables_csv
from factory.pipelines.pipeline import Building, Pipeline
from factory.pipelines.recipe import Recipe, RecipeError
from nodes.contract import canonical
from nodes.contract.canonical import JsonObject, JsonValue
from nodes.contract.signing import sha256_hex
from nodes.contract.tasks.index import SENSITIVITY, SHIFT_PERMILLE, TASK, IndexParameters

NAME = TASK

MECHANISMS = (
    Mechanism(
        "co-signed-encrypted-sums",
        "CKKS: Cheon et al., ASIACRYPT 2017; flooding before disclosure: Li and Micciancio, EUROCRYPT 2021",
        "ckks-8192-sums-v1",
    ),
    Mechanism(
        "bounded-number-of-indices",
        "linear equations per entity: with k domains at most k - 2 indices (factory.agency.index)",
        "index-v1",
    ),
)

LEARNS = (
    Learns(
        "operator",
        "只见密文、公布的综合得分，以及每个领域的权重占比和取整后的敏感性数字；看不到任何领域得分。",
        "ciphertexts, the published composite, and of each domain its share of the weight and rounded sensitivity "
        "figures; no domain score.",
    ),
    Learns(
        "agency",
        "解密经全体部门签认的加权合计；从不接收单个部门的密文。",
        "the weighted sums that all departments co-signed; it never receives a single department's ciphertext.",
    ),
    Learns(
        "node",
        "公布的综合得分；减去本领域后得到其余至少两个领域的加权合计。",
        "the published composite; without its own domain that is the weighted sum of at least two others.",
    ),
    Learns(
        "operator+agency",
        "若运营机构与机构合谋，可解密单个部门的密文；两者须为不同机构，且每次解密均留痕。",
        "together, operator and agency could decrypt single ciphertexts; they are different bodies and every "
        "decryption is on record.",
    ),
)

_NORMALISATION = {
    "z": ("标准化（50 + 10z）", "z-scores (50 + 10 z)"),
    "minmax": ("极差标准化（1—100）", "min-max (1 to 100)"),
    "rank": ("位次（1—100）", "ranks (1 to 100)"),
    "exponential": ("指数功效函数（60—100）", "exponential efficacy function (60 to 100)"),
}
_WEIGHTING = {
    "fixed": ("给定权重", "fixed"),
    "equal": ("等权", "equal"),
    "entropy": ("熵权", "entropy"),
    "critic": ("CRITIC", "CRITIC"),
    "pca": ("主成分", "principal component"),
}
_AGGREGATION = {
    "arithmetic": ("算术加权", "weighted arithmetic mean"),
    "geometric": ("几何加权", "weighted geometric mean"),
}
_MISSING = {
    "refuse": ("有缺失即不计算", "none may be missing"),
    "mean": ("以该指标均值补", "filled with the indicator's mean"),
    "zero": ("视为零", "counted as zero"),
    "leave_out": (
        "该主体不计该领域，其余领域按权重放大",
        "the domain is left out for the entity, the others weigh more",
    ),
}
_DIRECTION = {"higher": ("正向", "higher is better"), "lower": ("逆向", "lower is better")}


def parameters_of(recipe: Recipe) -> IndexParameters:
    """Read the recipe's parameters.

    Raises:
        RecipeError: a parameter is missing, unknown or wrong, or a department without a domain or its columns.
    """
    try:
        parameters = IndexParameters.model_validate(recipe.parameters, strict=False)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:4])
        raise RecipeError(f"the parameters of {NAME} are wrong: {found}") from error
    if {domain.node for domain in parameters.domains} != set(recipe.nodes):
        raise RecipeError("expected one domain per party of the recipe, named by its node")
    for party in recipe.parties:
        missing = sorted(set(parameters.columns_of(party.node)) - set(party.columns))
        if missing:
            raise RecipeError(f"expected the columns {', '.join(missing)} at {party.node}, as its domain names them")
    return parameters


def build(on: Building) -> Built:
    """Compile the index in the session and return the product's files.

    Raises:
        FactoryError: a domain is missing, or a node or the agency refused.
    """
    parameters, recipe, session = parameters_of(on.recipe), on.recipe, on.session
    started = on.now()
    statistics = sums.compute(
        session,
        parameters,
        uses_of(recipe),
        on.agency_call,
        grant_envelopes=on.grant_envelopes,
        tables_name="index.json",
        progress=lambda stage, done, of: on.progress(f"{stage} {done}/{of}"),
    )
    told = require(session.step(SENSITIVITY, {node: {} for node in statistics.contributors}))
    sensitivity = {node: dict(reply.body) for node, reply in told.items()}
    runs = close_session(session)
    require_nodes(runs, statistics.contributors)
    document = statistics.document
    tables = (
        _ranking(recipe, document),
        _sensitivity_table(parameters, sensitivity),
        _indicator_table(parameters),
    )
    page = _page(recipe, parameters, tables, document)
    hidden = int(document["suppressed"])
    return Built(
        recipe=recipe,
        recipe_bytes=on.recipe_bytes,
        files={
            "index.json": statistics.tables_bytes,
            "index.csv": tables_csv(tables[:1]),
            "sensitivity.json": _sensitivity_json(parameters, sensitivity),
            "method.json": _method(parameters, statistics),
            "report.html": report_html(page),
            **({"report.pdf": report_pdf(page)} if is_pdf_available() else {}),
        },
        metrics={"entities": len(parameters.entities), "domains": len(parameters.domains), "suppressed": hidden},
        participants=statistics.contributors,
        sessions=(session.session_id,),
        node_runs=runs,
        mechanisms=MECHANISMS,
        learns=LEARNS,
        cell_min=recipe.thresholds.cell_min,
        round_base=recipe.thresholds.round_base,
        suppressed=hidden,
        started_at=started,
        finished_at=on.now(),
        headline=(
            (
                f"{len(parameters.entities)} 个主体，{len(parameters.domains)} 个领域各在本部门评分，合计后解密",
                f"{len(parameters.entities)} entities; {len(parameters.domains)} domains scored where they are",
            ),
        ),
        evidence={"agency_result": statistics.agency_result.to_bytes()},
    )


def _ranking(recipe: Recipe, document: Mapping[str, Any]) -> Table:
    shown = recipe.presentation.get("index")
    rows = sorted(document["rows"], key=lambda row: (row["rank"] is None, row["rank"] or 0, row["entity"]))
    labels = shown.labels if shown else {}

    def cells(row: Mapping[str, Any]) -> tuple[Cell, ...]:
        if row["score_x100"] is None:
            return (Cell(None, row["reason"]),) * 3 + (Cell(str(row["domains"])),)
        score = f"{row['score_x100'] // 100}.{row['score_x100'] % 100:02d}"
        return Cell(score), Cell(str(row["rank"])), Cell(row["band"] or "—"), Cell(str(row["domains"]))

    return Table(
        name="index",
        title_zh=shown.title_zh if shown else "综合得分与位次",
        title_en=shown.title_en if shown else "Composite scores and ranks",
        unit_zh=shown.unit_zh if shown else "分",
        unit_en=shown.unit_en if shown else "points",
        row_titles=tuple(labels.get(row["entity"], row["entity"]) for row in rows),
        column_titles=("得分 score", "位次 rank", "等级 band", "领域数 domains"),
        cells=tuple(cells(row) for row in rows),
        chart="bars" if len(rows) <= 60 else "none",
        error_zh="得分与用合并数据计算的结果相差不超过 0.01 分",
        error_en="scores are within 0.01 points of those from pooled tables",
    )


def _sensitivity_table(parameters: IndexParameters, sensitivity: Mapping[str, Mapping[str, Any]]) -> Table:
    shift = SHIFT_PERMILLE // 10
    heads = (
        "权重 weight %",
        "去掉后位次相关 rank correlation without",
        "去掉后最大位移 largest shift without",
        "去掉后变级 bands changed without",
        f"权重±{shift}% 最低相关 lowest correlation",
        f"权重±{shift}% 最大位移 largest shift",
    )
    rows = []
    for domain in parameters.domains:
        told = sensitivity[domain.node]
        if told["withheld"]:
            rows.append((Cell("—"),) * len(heads))
            continue
        correlation = min(told["more_correlation_x100"], told["less_correlation_x100"])
        rows.append(
            (
                Cell(f"{told['weight_permille'] / 10:.1f}"),
                Cell(f"{told['without_correlation_x100'] / 100:.2f}"),
                Cell(str(told["without_shift_max"])),
                Cell(str(told["without_bands_changed"])),
                Cell(f"{correlation / 100:.2f}"),
                Cell(str(max(told["more_shift_max"], told["less_shift_max"]))),
            )
        )
    return Table(
        name="sensitivity",
        title_zh="敏感性：逐一去掉领域与变动权重",
        title_en="Sensitivity: without one domain, and with its weight moved",
        unit_zh="",
        unit_en="",
        row_titles=tuple(domain.name for domain in parameters.domains),
        column_titles=heads,
        cells=tuple(rows),
        chart="none",
        error_zh="由各部门用公布的得分与本领域得分算得，相关系数取两位小数",
        error_en="worked out by each department from the published scores and its own; correlations have two decimals",
    )


def _indicator_table(parameters: IndexParameters) -> Table:
    rows = [
        (
            f"{domain.name}：{item.name}",
            (
                Cell(" ".join(_DIRECTION[item.direction])),
                Cell(item.aggregate),
                Cell(" ".join(dict.fromkeys(_WEIGHTING[domain.weighting]))),
            ),
        )
        for domain in parameters.domains
        for item in domain.indicators
    ]
    return Table(
        name="indicators",
        title_zh="指标",
        title_en="Indicators",
        unit_zh="",
        unit_en="",
        row_titles=tuple(title for title, _ in rows),
        column_titles=("方向 direction", "汇总 aggregate", "领域内权重 weights within the domain"),
        cells=tuple(cells for _, cells in rows),
        chart="none",
    )


def _sensitivity_json(parameters: IndexParameters, sensitivity: Mapping[str, Mapping[str, Any]]) -> bytes:
    domains: list[JsonValue] = [{"domain": d.name, "node": d.node, **sensitivity[d.node]} for d in parameters.domains]
    return canonical.dumps({"version": 1, "shift_permille": SHIFT_PERMILLE, "domains": domains})


def _method(parameters: IndexParameters, statistics: sums.Statistics) -> bytes:
    learns: list[JsonValue] = [
        {"party": item.party, "what_zh": item.what_zh, "what_en": item.what_en} for item in LEARNS
    ]
    document: JsonObject = {
        "version": 1,
        "parameters": parameters.model_dump(mode="json"),
        "parameters_sha256": parameters.sha256,
        "index_sha256": sha256_hex(statistics.tables_bytes),
        "contributors": [*statistics.contributors],
        "learns": learns,
        "source": "OECD and JRC, Handbook on Constructing Composite Indicators, 2008",
    }
    return canonical.dumps(document)


def _page(recipe: Recipe, parameters: IndexParameters, tables: tuple[Table, ...], document: Mapping[str, Any]) -> Page:
    normalisation, weighting = _NORMALISATION[parameters.normalisation], _WEIGHTING[parameters.domain_weighting]
    aggregation, missing = _AGGREGATION[parameters.aggregation], _MISSING[parameters.missing]
    indicators = sum(len(domain.indicators) for domain in parameters.domains)
    published = len(parameters.entities) - int(document["suppressed"])
    bands_zh = "；".join(f"{band.name}：{band.from_x100 / 100:g} 分起" for band in parameters.bands) or "不分级"
    bands_en = "; ".join(f"{band.name} from {band.from_x100 / 100:g}" for band in parameters.bands) or "no bands"
    return Page(
        title_zh=recipe.product.name_zh,
        title_en=recipe.product.name_en,
        summary_zh=recipe.product.summary_zh,
        summary_en=recipe.product.summary_en,
        headline=(
            (str(published), "已评主体", "entities scored"),
            (str(len(parameters.domains)), "领域（部门）", "domains"),
            (str(indicators), "指标", "indicators"),
        ),
        tables=tables,
        method=(
            Fact(
                "计算",
                "Computation",
                f"各部门在本地把指标无量纲化（{normalisation[0]}）并合成为本领域得分；缺失：{missing[0]}；"
                f"领域之间{weighting[0]}，{aggregation[0]}。加权得分加密相加，全体部门签认后由机构解密合计。",
                f"Each department normalises its indicators ({normalisation[1]}) and makes its domain's score; missing "
                f"values: {missing[1]}; between domains {weighting[1]} weights and a {aggregation[1]}. Weighted scores "
                "are added under encryption; the agency opens the sum that all departments co-signed.",
            ),
            Fact("等级", "Bands", bands_zh, bands_en),
            Fact(
                "保护",
                "Protection",
                f"得分背后少于 {parameters.domains_min} 个领域的主体不公布；同一组领域至多公布 "
                f"{len(parameters.domains) - 2} 种参数的指数，否则可解出领域得分。",
                f"No score with fewer than {parameters.domains_min} domains behind it; of the same domains at most "
                f"{len(parameters.domains) - 2} indices with different parameters, lest domain scores be solved for.",
            ),
            *(Fact(f"{item.party} 得知", f"{item.party} learns", item.what_zh, item.what_en) for item in LEARNS),
        ),
        edition=f"{recipe.product.id}@{recipe.product.version}",
    )


PIPELINE = Pipeline(NAME, parameters_of, build, needs_key_service=True)
