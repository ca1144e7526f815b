"""The model card: what a model is, how it was made, how well it does, what it reveals.

Two forms of the same facts: canonical JSON for machines and Markdown for people, Chinese
first. Counts are rounded down to the grant's base and left out below its minimum.

Privacy: metrics are over all contributing nodes together; per node only what that node
gave away itself (two metrics in hundredths), or that it withheld them.
"""

from collections.abc import Mapping
from typing import Any

from factory.federation.linear import LinearModel
from nodes.contract import canonical
from nodes.contract.grant import Thresholds
from nodes.contract.messages import Condition
from nodes.contract.parameters import SECAGG
from nodes.contract.signing import sha256_hex

_SIGNS = {"eq": "=", "ne": "≠", "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "in": "∈"}

_OPERATOR_ZH = (
    "运营机构只看到全部参与节点之和：行数与正例数、各特征的有效值个数、均值与二阶矩、"
    "每轮按行数加权的平均权重、64 档得分直方图；看不到任何一个节点的数值。"
    "若 k 个参与节点中有 k-1 个与运营机构串通，则可推出余下一个节点的数值。"
)
_OPERATOR_EN = (
    "The operator sees sums over all contributing nodes: rows and positives, per feature the count, mean and "
    "second moments, per round the average weights, score histograms of 64 bins; no figure of a single node. "
    "If k - 1 of k contributors collude with it, they learn the last one's figures."
)
_NODES_ZH = (
    "各节点自行复核每一个和值，因而同样看到全部参与节点之和（得分直方图除外），看不到其他单个节点的数值；"
    "但只有两个参与节点时，每个节点都能从和值中减去自己的部分。"
)
_NODES_EN = (
    "Each node checks every sum for itself and so sees the same sums over all contributors (without the score "
    "histograms); no figure of another single node, but with two contributors each can take its own part off."
)
_RECIPIENT_ZH = "模型使用者得到每个特征的均值、尺度和权重；成员推断的实测区分度见指标。"
_RECIPIENT_EN = (
    "Whoever receives the model gets a mean, a scale and a weight per feature; the metrics state the measured "
    "membership inference."
)
LEARNS = (
    ("operator", _OPERATOR_ZH, _OPERATOR_EN),
    ("nodes", _NODES_ZH, _NODES_EN),
    ("recipient", _RECIPIENT_ZH, _RECIPIENT_EN),
)
"""What each party learns, in Chinese and English; the privacy accounting repeats it."""

_LIMIT_ZH = "系数描述相关而非因果；仅对与训练数据相近的人群有效；未加差分隐私噪声。"
_LIMIT_EN = (
    "Coefficients describe association, not cause; valid for populations like the training data; "
    "no differential-privacy noise is added."
)

_METRIC_TITLES = {
    "auc_test_micro": ("测试集 AUC", "AUC on test rows"),
    "auc_low_test_micro": ("测试集 AUC 下界", "AUC on test rows, lower bound"),
    "auc_high_test_micro": ("测试集 AUC 上界", "AUC on test rows, upper bound"),
    "accuracy_test_micro": ("测试集准确率", "Accuracy on test rows"),
    "log_loss_test_micro": ("测试集对数损失", "Log loss on test rows"),
    "auc_train_micro": ("训练集 AUC", "AUC on training rows"),
    "accuracy_train_micro": ("训练集准确率", "Accuracy on training rows"),
    "log_loss_train_micro": ("训练集对数损失", "Log loss on training rows"),
    "membership_auc_micro": ("成员推断 AUC（0.5 为无法区分）", "Membership inference AUC (0.5: none)"),
    "membership_advantage_micro": ("成员推断优势（0 为无法区分）", "Membership advantage (0: none)"),
    "lira_auc_micro": ("成员推断 AUC，似然比攻击", "Membership inference AUC, likelihood ratio"),
    "lira_auc_low_micro": ("同上，95% 区间下界", "The same, lower end of the 95 % interval"),
    "lira_auc_high_micro": ("同上，95% 区间上界", "The same, upper end of the 95 % interval"),
    "lira_tpr_micro": ("误判 1% 时认出的成员比例", "Members told at 1 % false positives"),
    "attribute_advantage_micro": ("属性推断优势（训练行减其他行）", "Attribute inference, training rows above others"),
}


def card(model: LinearModel, *, name_zh: str, name_en: str, purpose: str, thresholds: Thresholds) -> dict[str, Any]:
    """Return the facts of the card as JSON without floats.

    Args:
        model: as trained.
        name_zh: of the product, in Chinese.
        name_en: in English.
        purpose: what the grant allows it for.
        thresholds: of the grant; they decide which counts may be shown.
    """
    rows = int(model.metrics["train_rows"])
    shown = rows // thresholds.round_base * thresholds.round_base if rows >= thresholds.cell_min else None
    return {
        "version": 1,
        "name_zh": name_zh,
        "name_en": name_en,
        "form": "model",
        "kind": "logistic-regression",
        "purpose": purpose,
        "model_sha256": sha256_hex(model.document),
        "label": model.parameters.label.model_dump(mode="json"),
        "features": [
            {
                "name": name,
                "mean": float(mean).hex(),
                "scale": float(scale).hex(),
                "weight": float(weight).hex(),
                "zero_is_missing": name in model.parameters.zero_is_missing,
            }
            for name, mean, scale, weight in zip(model.features, model.means, model.scales, model.weights, strict=True)
        ],
        "training": {
            "method": "federated averaging with secure aggregation",
            "sources": ["McMahan et al., AISTATS 2017", SECAGG.source],
            "parameter_set": SECAGG.name,
            "security_bits": SECAGG.security_bits,
            "parties": list(model.parties),
            "dropped": [{"node": node, "stage": stage} for node, stage in sorted(model.dropped.items())],
            "contributors_min": model.contributors_min,
            "rounds": [
                {"contributors": list(item.contributors), "moved_micro": item.moved_micro} for item in model.rounds
            ],
            "local_steps": model.parameters.local_steps,
            "l2_micro": model.parameters.l2_micro,
            "rows": shown,
            "missing_values": "joint mean",
            "split": _split(model),
        },
        "metrics": {key: value for key, value in model.metrics.items() if key != "train_rows"},
        "baselines": {node: dict(facts) for node, facts in sorted(model.baselines.items())},
        "learns": [{"party": party, "what_zh": zh, "what_en": en} for party, zh, en in LEARNS],
        "limits": [
            {"what_zh": _LIMIT_ZH, "what_en": _LIMIT_EN},
        ],
    }


def to_json(facts: Mapping[str, Any]) -> bytes:
    """Return the card as canonical JSON bytes."""
    return canonical.dumps(dict(facts))


def to_markdown(facts: Mapping[str, Any]) -> str:
    """Return the card for people, Chinese first, then English."""
    return "\n".join([*_chinese(facts), "", "---", "", *_english(facts), ""])


def _chinese(facts: Mapping[str, Any]) -> list[str]:
    training = facts["training"]
    rows = "低于最小披露数" if training["rows"] is None else f"约 {training['rows']}"
    return [
        f"# 模型卡：{facts['name_zh']}",
        "",
        f"- 形态：逻辑回归模型（ONNX），用途：{facts['purpose']}",
        f"- 正例定义：{_label(facts)}",
        f"- 参与节点：{'、'.join(training['parties'])}；每轮至少 {training['contributors_min']} 个节点",
        f"- 中途退出：{_dropped(training) or '无'}",
        f"- 训练：联邦平均 {len(training['rounds'])} 轮，每轮本地 {training['local_steps']} 步；训练行数{rows}",
        f"- 隐私机制：安全聚合 `{training['parameter_set']}`（{training['security_bits']} 位）",
        f"- `model.json` 的 SHA-256：`{facts['model_sha256']}`",
        "",
        "## 指标",
        "",
        *_metrics(facts, "指标", "数值", 0),
        "",
        "## 与各节点单独训练比较（各自的测试集）",
        "",
        *_baselines(facts, ("节点", "单独 AUC", "联合 AUC", "单独准确率", "联合准确率"), "未提供（行数或类别不足）"),
        "",
        "## 特征",
        "",
        *_features(facts, ("特征", "均值", "尺度", "权重（每一尺度）", "零表示缺失")),
        "",
        "## 各方能知道什么",
        "",
        *[f"- **{item['party']}**：{item['what_zh']}" for item in facts["learns"]],
        "",
        "## 局限",
        "",
        *[f"- {item['what_zh']}" for item in facts["limits"]],
    ]


def _english(facts: Mapping[str, Any]) -> list[str]:
    training = facts["training"]
    rows = "below the minimum count" if training["rows"] is None else f"about {training['rows']}"
    return [
        f"# Model card: {facts['name_en']}",
        "",
        f"- Form: logistic regression (ONNX); purpose: {facts['purpose']}",
        f"- Positive when: {_label(facts)}",
        f"- Nodes: {', '.join(training['parties'])}; at least {training['contributors_min']} in every round",
        f"- Dropped out: {_dropped(training) or 'none'}",
        f"- Training: federated averaging, {len(training['rounds'])} rounds of {training['local_steps']} local steps",
        f"- Training rows: {rows}",
        f"- Privacy mechanism: secure aggregation `{training['parameter_set']}` ({training['security_bits']} bits)",
        f"- SHA-256 of `model.json`: `{facts['model_sha256']}`",
        "",
        "## Metrics",
        "",
        *_metrics(facts, "Metric", "Value", 1),
        "",
        "## Compared with each node alone (on its own test rows)",
        "",
        *_baselines(
            facts,
            ("Node", "AUC alone", "AUC federated", "Accuracy alone", "Accuracy federated"),
            "withheld (too few rows or one class)",
        ),
        "",
        "## Features",
        "",
        *_features(facts, ("Feature", "Mean", "Scale", "Weight per scale", "Zero is missing")),
        "",
        "## What each party learns",
        "",
        *[f"- **{item['party']}**: {item['what_en']}" for item in facts["learns"]],
        "",
        "## Limits",
        "",
        *[f"- {item['what_en']}" for item in facts["limits"]],
    ]


def _split(model: LinearModel) -> dict[str, Any]:
    if model.parameters.split is not None:
        return {"by": "column", **model.parameters.split.model_dump(mode="json")}
    return {"by": "hash", "seed": model.parameters.seed, "test_permille": model.parameters.test_permille}


def _label(facts: Mapping[str, Any]) -> str:
    condition = Condition.model_validate(facts["label"])
    values = ", ".join(str(value) for value in condition.values)
    return f"`{condition.column} {_SIGNS[condition.operator]} {values}`"


def _dropped(training: Mapping[str, Any]) -> str:
    return ", ".join(f"{item['node']} ({item['stage']})" for item in training["dropped"])


def _metrics(facts: Mapping[str, Any], left: str, right: str, language: int) -> list[str]:
    known = [(titles[language], facts["metrics"].get(key)) for key, titles in _METRIC_TITLES.items()]
    lines = [f"| {title} | {value / 1_000_000:.4f} |" for title, value in known if value is not None]
    return [f"| {left} | {right} |", "|---|---|", *lines]


def _baselines(facts: Mapping[str, Any], heads: tuple[str, ...], withheld: str) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for node, item in facts["baselines"].items():
        if item["withheld"]:
            lines.append(f"| {node} | {withheld} | | | |")
            continue
        cells = [item[key] for key in ("alone_auc_x100", "federated_auc_x100", "alone_accuracy_x100")]
        cells.append(item["federated_accuracy_x100"])
        lines.append(f"| {node} | {' | '.join(f'{cell / 100:.2f}' for cell in cells)} |")
    return lines


def _features(facts: Mapping[str, Any], heads: tuple[str, ...]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for item in facts["features"]:
        numbers = " | ".join(f"{float.fromhex(item[key]):.6g}" for key in ("mean", "scale", "weight"))
        lines.append(f"| {item['name']} | {numbers} | {'✓' if item['zero_is_missing'] else ''} |")
    return lines
