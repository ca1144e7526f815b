"""The model card of a vertical regression: what it is, how well it does, who learns what.

Privacy: metrics are over the joint rows; of a single node only the digest of its part and the
names of its columns, which the grant names too. Weights are not in it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nodes.contract import canonical
from nodes.contract.messages import Condition
from nodes.contract.parameters import CKKS_VERTICAL
from nodes.contract.tasks.vertical_linear import SCORE_BINS, SCORED_ROWS_MAX, VerticalLinearParameters

_BINS = 2 * SCORE_BINS - 1
_LABEL_ZH = (
    "每轮得到自身各特征与残差在全部训练行上的内积；各方每轮的移动量；"
    f"训练与测试各至多 {SCORED_ROWS_MAX} 行按类别分为 {_BINS} 档的联合得分行数。"
    "看不到任何一行的他方特征、得分或残差。与某一特征方串通则可解出逐行残差。"
)
_LABEL_EN = (
    "per round and own feature one sum of column times residual over all training rows; how far each block moved; "
    f"of up to {SCORED_ROWS_MAX} training and as many test rows the counts per class in {_BINS} bins of the joint "
    "score. No feature, score or residual of a single row. In collusion with a feature holder it could decrypt the "
    "residuals of rows."
)
_HOLDERS_ZH = (
    "每轮得到自身各特征与残差在全部训练行上的内积（含淹没噪声）；首轮即自身各特征与标签的内积。"
    "看不到任何一行的标签或得分。不诚实的特征方每个会话至多换得「轮数×特征数」个自选数值。"
)
_HOLDERS_EN = (
    "per round and own feature one sum of column times residual over all training rows, with flooding noise; in the "
    "first round these are sums over labels. No label and no score of a single row. A dishonest holder gets at most "
    "rounds times features numbers of its choice per session."
)
_OPERATOR_ZH = "只看到轮次、每轮损失下降的估计、字节数、指标与各部分模型的摘要；看不到系数。"
_OPERATOR_EN = (
    "rounds, an estimate of each round's decrease of the loss, bytes, metrics and digests of the parts; no coefficient."
)
LEARNS = (
    ("label_party", _LABEL_ZH, _LABEL_EN),
    ("feature_holders", _HOLDERS_ZH, _HOLDERS_EN),
    ("operator", _OPERATOR_ZH, _OPERATOR_EN),
)
"""What each party learns; the product's privacy statement repeats it."""

_TITLES = {
    "auc_test_micro": ("测试集 AUC", "AUC on test rows"),
    "auc_low_test_micro": ("测试集 AUC 下界（分档）", "AUC on test rows, lower bound of the bins"),
    "auc_high_test_micro": ("测试集 AUC 上界（分档）", "AUC on test rows, upper bound of the bins"),
    "accuracy_test_micro": ("测试集准确率", "Accuracy on test rows"),
    "log_loss_test_micro": ("测试集对数损失", "Log loss on test rows"),
    "auc_train_micro": ("训练集 AUC", "AUC on training rows"),
    "accuracy_train_micro": ("训练集准确率", "Accuracy on training rows"),
    "log_loss_train_micro": ("训练集对数损失", "Log loss on training rows"),
    "membership_auc_micro": ("成员推断 AUC（0.5 为无法区分）", "Membership inference AUC (0.5: none)"),
    "membership_advantage_micro": ("成员推断优势（0 为无法区分）", "Membership advantage (0: none)"),
}


def parts_document(parameters: VerticalLinearParameters, digests: Mapping[str, str]) -> bytes:
    """Return the canonical bytes of ``parts.json``: which node keeps which part of the model."""
    return canonical.dumps(
        {
            "version": 1,
            "kind": f"{parameters.model}-regression",
            "label_party": parameters.label_party,
            "label": parameters.label.model_dump(mode="json"),
            "keys": {
                node: [field.model_dump(mode="json") for field in fields] for node, fields in parameters.keys.items()
            },
            "parts": [
                {"node": node, "sha256": digests[node], "features": list(columns)}
                for node, columns in parameters.features.items()
            ],
        }
    )


def card(
    parameters: VerticalLinearParameters,
    *,
    name_zh: str,
    name_en: str,
    purpose: str,
    moved_micro: Sequence[int],
    metrics: Mapping[str, int | str],
) -> dict[str, Any]:
    """Return the facts of the card as JSON without floats."""
    return {
        "version": 1,
        "name_zh": name_zh,
        "name_en": name_en,
        "form": "model",
        "kind": f"{parameters.model}-regression",
        "purpose": purpose,
        "label": parameters.label.model_dump(mode="json"),
        "features": {node: list(columns) for node, columns in parameters.features.items()},
        "training": {
            "method": "accelerated full-batch steps on encrypted residuals, block-diagonal bound of the Hessian",
            "parameter_set": CKKS_VERTICAL.name,
            "security_bits": CKKS_VERTICAL.security_bits,
            "sources": [CKKS_VERTICAL.source, "Nesterov 1983", "Böhning & Lindsay 1988", "Kim et al. 2018"],
            "rounds": len(moved_micro),
            "decrease_micro": list(moved_micro),
            "degree": parameters.degree,
            "l1_micro": parameters.l1_micro,
            "l2_micro": parameters.l2_micro,
            "balanced": parameters.balanced,
            "winsor_milli": parameters.winsor_milli,
            "missing_values": "mean of the own training rows",
        },
        "metrics": dict(metrics),
        "learns": [{"party": party, "what_zh": zh, "what_en": en} for party, zh, en in LEARNS],
        "limits": [
            {
                "what_zh": "系数描述相关而非因果；逐点以多项式代替 S 形函数；各部分模型留在各自节点，须联合评分。",
                "what_en": "Coefficients describe association, not cause; a polynomial stands for the sigmoid; the "
                "parts stay at their nodes and score jointly.",
            }
        ],
    }


def to_markdown(facts: Mapping[str, Any]) -> str:
    """Return the card for people, Chinese first, then English."""
    label = Condition.model_validate(facts["label"])
    values = ", ".join(str(value) for value in label.values)
    training = facts["training"]
    lines = [
        f"# 模型卡：{facts['name_zh']}",
        "",
        f"- 形态：纵向联合回归（{facts['kind']}），用途：{facts['purpose']}",
        f"- 标签：`{label.column} {label.operator} {values}`",
        *(f"- {node}：{'、'.join(columns) or '仅标签'}" for node, columns in facts["features"].items()),
        f"- 训练 {training['rounds']} 轮；参数集 `{training['parameter_set']}`（{training['security_bits']} 位）",
        "- 各部分系数留在各自节点；本产品只含各部分的摘要",
        "",
        *_metrics(facts, ("指标", "数值"), 0),
        "",
        "## 各方能知道什么",
        "",
        *(f"- **{item['party']}**：{item['what_zh']}" for item in facts["learns"]),
        "",
        "## 局限",
        "",
        *(f"- {item['what_zh']}" for item in facts["limits"]),
        "",
        "---",
        "",
        f"# Model card: {facts['name_en']}",
        "",
        f"- Form: vertical {facts['kind']}; purpose: {facts['purpose']}",
        f"- Label: `{label.column} {label.operator} {values}`",
        *(f"- {node}: {', '.join(columns) or 'label only'}" for node, columns in facts["features"].items()),
        f"- {training['rounds']} rounds; set `{training['parameter_set']}` ({training['security_bits']} bits)",
        "- Coefficients stay at their nodes; this product holds the digests of the parts",
        "",
        *_metrics(facts, ("Metric", "Value"), 1),
        "",
        "## What each party learns",
        "",
        *(f"- **{item['party']}**: {item['what_en']}" for item in facts["learns"]),
        "",
        "## Limits",
        "",
        *(f"- {item['what_en']}" for item in facts["limits"]),
        "",
    ]
    return "\n".join(lines)


def _metrics(facts: Mapping[str, Any], heads: tuple[str, str], language: int) -> list[str]:
    known = [(titles[language], facts["metrics"].get(key)) for key, titles in _TITLES.items()]
    lines = [f"| {title} | {value / 1_000_000:.4f} |" for title, value in known if isinstance(value, int)]
    return [f"| {heads[0]} | {heads[1]} |", "|---|---|", *lines]
