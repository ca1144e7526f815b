"""Pipeline ``match.voprf``: a private verification, delivered as an OpenAPI document with its method sheet.

The operator opens the session and hands the application unit an invitation; the questions
go from the application unit to the department, sealed, and the operator carries bytes.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from factory.client.gateway import openapi_document
from factory.client.match import Invitation
from factory.federation.session import Answer, Session, require
from factory.pipelines.build import BuildError, Built, Learns, Mechanism, close_session, require_nodes, uses_of
from factory.pipelines.pipeline import Building, Pipeline
from factory.pipelines.recipe import Recipe, RecipeError
from nodes.contract.messages import Refusal, RefusalCode
from nodes.contract.tasks.match import BUCKET_ROWS_MIN, SUITE, TAG_BYTES, TASK, MatchParameters

NAME = TASK

MECHANISMS = (Mechanism("voprf", "RFC 9497, VOPRF mode, ristretto255-SHA512", SUITE),)

LEARNS = (
    Learns(
        "application_unit",
        "每次核验只得到是或否；另得所在分桶的标签（伪随机值，不含任何登记内容）。",
        "yes or no per question, and the pseudorandom tags of its bucket, which say nothing of the register.",
    ),
    Learns(
        "node",
        f"只知道有一次核验及其分桶编号（同桶至少 {BUCKET_ROWS_MIN} 条；登记不足此数时不分桶），"
        "不知道问的是谁，也不知道答案。",
        f"that a question was asked and its bucket (shared by at least {BUCKET_ROWS_MIN} records; a smaller "
        "register has none), neither whom it was about nor the answer.",
    ),
    Learns(
        "operator",
        "只转发密封字节：知道谁在何时问了几次，不知道问题与答案。",
        "relays sealed bytes: who asked how often and when, neither question nor answer.",
    ),
)


PREPARING_RETRY_S = 3.0
"""How often a department is asked whether its register is ready, in seconds."""
PREPARING_S_MAX = 7200.0
"""Longest wait for a register, in seconds; ten million rows take about twelve minutes on two cores."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What the application unit reports of its trial; neither records nor single answers.

    Attributes:
        asked: how many records; how many matched stays with the application unit.
        p50_ms, p95_ms: time per question.
        timing: ``timing_auc`` figures of how far times tell hits from misses; empty where that was not measured.
    """

    asked: int
    p50_ms: int
    p95_ms: int
    timing: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def reported(cls, facts: Mapping[str, Any]) -> "Trial":
        """Return what ``factory.client.ask`` printed."""
        timing = {name: int(facts[name]) for name in facts if name.startswith("timing_auc")}
        return cls(facts["asked"], facts["p50_ms"], facts["p95_ms"], timing)


def parameters_of(recipe: Recipe) -> MatchParameters:
    """Read the recipe's parameters.

    Raises:
        RecipeError: a parameter is missing, unknown or wrong, or there is not one table and one application unit.
    """
    try:
        parameters = MatchParameters.model_validate(recipe.parameters, strict=False)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:4])
        raise RecipeError(f"the parameters of {NAME} are wrong: {found}") from error
    if len(recipe.parties) != 1 or len(recipe.clients) != 1:
        raise RecipeError("expected one table and one application unit for a verification")
    asked = {field.column for field in parameters.fields} | ({parameters.band.column} if parameters.band else set())
    missing = sorted(asked - set(recipe.parties[0].columns))
    if missing:
        raise RecipeError(f"expected the columns {', '.join(missing)} at {recipe.parties[0].node}")
    return parameters


def build(
    recipe: Recipe,
    recipe_bytes: bytes,
    session: Session,
    *,
    now: Callable[[], datetime],
    trial: Callable[[Invitation], Trial],
    progress: Callable[[str], None] = lambda _: None,
) -> Built:
    """Open the service once, let the application unit try it, and return the product's files.

    Args:
        recipe: of form ``verification``.
        recipe_bytes: the recipe file.
        session: not yet open, with the application unit among its clients.
        now: clock.
        trial: the application unit's trial with an invitation; runs in its own process.
        progress: gets a short text after every stage.

    Raises:
        FactoryError: the node refused, or the trial failed.
    """
    parameters = parameters_of(recipe)
    started = now()
    node = recipe.parties[0].node
    answers = require(open_prepared(session, parameters, recipe, now=now, progress=progress))
    progress("register prepared")
    result = trial(Invitation(session.order_envelopes[node], answers[node].envelope))
    progress(f"{result.asked} questions answered")
    runs = close_session(session)
    require_nodes(runs, (node,))
    document = openapi_document(
        parameters,
        title=recipe.product.name_zh,
        description=f"{recipe.product.summary_zh}\n\n{recipe.product.summary_en}",
        version=recipe.product.version,
    )
    method = _method(recipe, parameters)
    files = {
        "openapi.json": _json(document),
        "method.json": _json(method),
        "method.md": _markdown(recipe, parameters).encode("utf-8"),
    }
    return Built(
        recipe=recipe,
        recipe_bytes=recipe_bytes,
        files=files,
        metrics={"asked": result.asked, "p50_ms": result.p50_ms, "p95_ms": result.p95_ms, **result.timing},
        participants=(node,),
        sessions=(session.session_id,),
        node_runs=runs,
        mechanisms=MECHANISMS,
        learns=LEARNS,
        cell_min=recipe.thresholds.cell_min,
        round_base=recipe.thresholds.round_base,
        suppressed=0,
        started_at=started,
        finished_at=now(),
        headline=(
            (
                f"应用单位试用 {result.asked} 次，中位 {result.p50_ms} 毫秒；问题与答案只有应用单位知道",
                f"{result.asked} trial questions, median {result.p50_ms} ms; only the application unit knows them",
            ),
        ),
    )


def open_prepared(
    session: Session,
    parameters: MatchParameters,
    recipe: Recipe,
    *,
    now: Callable[[], datetime],
    progress: Callable[[str], None] = lambda _: None,
    retry_s: float = PREPARING_RETRY_S,
) -> dict[str, Answer]:
    """Send the order until the department has prepared its register, which takes a minute for a million rows.

    Args:
        session: not yet open.
        parameters: of the recipe.
        recipe: names the table.
        now: clock.
        progress: told how far the department is.
        retry_s: how often it is asked.
    """
    ends_at = now() + timedelta(seconds=PREPARING_S_MAX)
    while True:
        answers = session.open(TASK, parameters.model_dump(mode="json"), uses_of(recipe))
        waiting = [
            answer.message
            for answer in answers.values()
            if isinstance(answer, Refusal) and answer.code == RefusalCode.RESOURCE_PREPARING
        ]
        if not waiting or now() > ends_at:
            return answers
        progress(waiting[0])
        time.sleep(retry_s)


def _method(recipe: Recipe, parameters: MatchParameters) -> dict[str, object]:
    return {
        "version": 1,
        "protocol": {"name": "VOPRF", "suite": parameters.suite, "source": "RFC 9497"},
        "fields": [{"column": field.column, "rules": list(field.rules)} for field in parameters.fields],
        "band": None if parameters.band is None else parameters.band.model_dump(mode="json"),
        "batch_max": parameters.batch_max,
        "minute_max": parameters.minute_max,
        "bucket_rows_min": BUCKET_ROWS_MIN,
        "false_positive": f"at most n / 2**{8 * TAG_BYTES} for a register of n records",
        "learns": [{"party": item.party, "what_zh": item.what_zh, "what_en": item.what_en} for item in LEARNS],
        "purpose": recipe.scenario.purpose,
    }


def _markdown(recipe: Recipe, parameters: MatchParameters) -> str:
    fields = "、".join(field.column for field in parameters.fields)
    lines = [
        f"# {recipe.product.name_zh}",
        "",
        f"{recipe.product.summary_zh}",
        "",
        f"- 核验字段：{fields}（全部一致才为“是”）",
        f"- 协议：RFC 9497 可验证的不经意伪随机函数（{parameters.suite}），应答附零知识证明",
        f"- 误判：登记 n 条时，不在登记中的记录被判为“是”的概率不超过 n / 2^{8 * TAG_BYTES}",
        "",
        "## 各方能知道什么",
        "",
        *[f"- **{item.party}**：{item.what_zh}" for item in LEARNS],
        "",
        "---",
        "",
        f"# {recipe.product.name_en}",
        "",
        f"{recipe.product.summary_en}",
        "",
        f"- Fields: {', '.join(field.column for field in parameters.fields)}; all must agree for a yes",
        f"- Protocol: VOPRF of RFC 9497 ({parameters.suite}); every answer comes with its proof",
        f"- Error: a record that is not among n matches with probability at most n / 2^{8 * TAG_BYTES}",
        "",
        "## What each party learns",
        "",
        *[f"- **{item.party}**: {item.what_en}" for item in LEARNS],
        "",
    ]
    return "\n".join(lines)


def _json(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode("utf-8")


def _build(on: Building) -> Built:
    if on.trial is None:
        raise BuildError(f"expected the trial of an application unit for {NAME}; name one in the recipe")
    return build(on.recipe, on.recipe_bytes, on.session, now=on.now, trial=on.trial, progress=on.progress)


PIPELINE = Pipeline(NAME, parameters_of, _build, use_unit="query", asks=True, meets=True)
