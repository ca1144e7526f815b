"""Attacks on a product: what each achieved, against the limits of the jurisdiction's profile.

The rows that an attack on a model needs lie at the departments, so the nodes attack and only
sums over all of them come here (``nodes.tasks.linear_attacks``); a verification's times are
measured by the application unit. Tables, indices and interfaces are attacked here, with what
a recipient holds.

A figure that scatters much is judged by the lower end of its interval: that fails when the
attack certainly succeeds more often than the limit. The title of the finding says so.

Privacy:
    Findings hold figures over all contributing nodes, counts of cells and of questions.

Source:
    Limits: ``review.*`` of the profile, see docs/decisions/0027-review-by-attack.md.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from factory.client.watching import WINDOW, Watch
from factory.law.profile import ReviewRules
from factory.review.finding import Finding, examined
from nodes.contract.canonical import JsonObject

Metrics = Mapping[str, int | str]

NOT_MEASURED = -1
"""Value of a finding whose attack did not run; it fails."""

_ASKED_MAX = 100_000
"""Answers after which a program is taken never to be stopped."""

_AREA = "millionths of AUC"
_SHARE = "millionths"


def check_model(metrics: Metrics, files: Mapping[str, bytes], rules: ReviewRules) -> list[Finding]:
    """Judge what the nodes' attacks on a model achieved.

    Whoever holds the weights can do everything; parts that stay at their nodes answer jointly, so of
    them the attack by confidence is measured.

    Args:
        metrics: what the pipeline measured.
        files: of the product, by path.
        rules: limits.
    """
    findings = [
        _figure(
            metrics,
            "membership_auc",
            ("membership_inference", "成员推断（按置信度）", "Membership inference by confidence"),
            rules.membership_auc_micro,
            unit=_AREA,
            attack="loss threshold (Yeom et al., CSF 2018)",
        )
    ]
    if not any(path.endswith("model.onnx") for path in files):
        return findings
    ratio = "likelihood ratio with shadow models (Carlini et al., S&P 2022)"
    return [
        *findings,
        _figure(
            metrics,
            "lira_auc",
            ("membership_ratio", "成员推断（似然比）", "Membership inference by likelihood ratio"),
            rules.ratio_auc_micro,
            unit=_AREA,
            attack=ratio,
        ),
        _figure(
            metrics,
            "lira_tpr",
            (
                "membership_hits",
                "误判百分之一时认出的成员比例（区间下界）",
                "Members told at one mistake in a hundred (lower bound)",
            ),
            rules.ratio_hits_micro,
            unit=_SHARE,
            attack=ratio,
            by_lower=True,
        ),
        _figure(
            metrics,
            "attribute_advantage",
            (
                "attribute_inference",
                "属性推断：训练行比其他行多猜中（区间下界）",
                "Attribute inference: training rows above others (lower bound)",
            ),
            rules.attribute_advantage_micro,
            unit=_SHARE,
            attack="likeliest value given label and the other features (Fredrikson et al. 2014; Yeom et al. 2018)",
            by_lower=True,
        ),
        _counted(
            metrics,
            "memorised_rows",
            ("memorised_rows", "被记住的训练行", "Memorised training rows"),
            rules.memorised_rows,
            attack="leave one out (Feldman and Zhang, NeurIPS 2020)",
        ),
        _counted(
            metrics,
            "reconstructed_rows",
            ("reconstruction", "由训练过程的和值还原的行", "Rows rebuilt from the sums of training"),
            rules.reconstructed_rows,
            attack="ratios of opened gradients (Geiping et al., NeurIPS 2020)",
        ),
    ]


def check_index(files: Mapping[str, bytes], earlier: Mapping[str, bytes], rules: ReviewRules) -> list[Finding]:
    """Try to work out one domain's scores from an index and those published before.

    A score is one equation in the domains' scores. A domain is exposed where it weighs nearly
    everything, and where the equations of several indices leave it alone.

    Args:
        files: of the product; ``method.json`` and ``sensitivity.json`` say how domains weigh.
        earlier: ``method.json`` of indices released before, by product.
        rules: limits.

    Raises:
        KeyError, ValueError: a document is not what an index product holds.
    """
    parameters = json.loads(files["method.json"])["parameters"]
    told = {item["node"]: item for item in json.loads(files["sensitivity.json"])["domains"]}
    weights = _weights(parameters, told)
    heaviest = round(max(weights.values()) * 1_000_000)
    others = [found for data in earlier.values() if (found := _same_scores(parameters, json.loads(data)))]
    domains = sorted(weights)
    equations = np.array([[row[name] for name in domains] for row in (weights, *map(_fixed, others))])
    exposed = sum(_spans(equations, np.eye(len(domains))[place]) for place in range(len(domains)))
    rows = json.loads(files["index.json"])["rows"] if "index.json" in files else []
    least = int(parameters.get("domains_min", 3))
    thin = sum(row["score_x100"] is not None and row["domains"] < least for row in rows)
    evidence: JsonObject = {"domains": len(domains), "earlier": len(others), "files": _present(files, "method.json")}
    return [
        Finding(
            "index_weight",
            "单一领域在得分中的最大权重",
            "Largest share of one domain in a score",
            heaviest,
            rules.index_weight_micro,
            heaviest <= rules.index_weight_micro,
            _SHARE,
            evidence,
        ),
        Finding(
            "index_domains",
            "可由本次与以往指数解出得分的领域，及领域不足的得分",
            "Domains whose scores follow from this and earlier indices, and scores of too few domains",
            exposed + thin,
            0,
            exposed + thin == 0,
            "domains",
            {**evidence, "exposed": exposed, "thin": thin},
        ),
    ]


def check_verification(metrics: Metrics, files: Mapping[str, bytes], rules: ReviewRules) -> list[Finding]:
    """Go through a register with counted-up keys, and tell hits from misses by time.

    Args:
        metrics: with the application unit's ``timing_auc`` figures.
        files: of the product; ``method.json`` says how much may be asked.
        rules: limits.

    Raises:
        KeyError, ValueError: the method sheet is not that of a verification.
    """
    method = json.loads(files["method.json"])
    answered = enumerated(columns=len(method["fields"]), batch_max=method["batch_max"])
    minute = int(method["minute_max"])
    evidence: JsonObject = {"files": _present(files, "method.json"), "batch_max": method["batch_max"]}
    return [
        Finding(
            "enumeration",
            "依次编号的查询在警报停用密钥前得到的应答",
            "Answers to counted-up questions before an alarm holds the key",
            answered,
            rules.enumeration_records,
            answered <= rules.enumeration_records,
            "records",
            evidence,
        ),
        Finding(
            "rate",
            "一个应用单位每分钟可询问的条数",
            "Records an application unit may ask in a minute",
            minute,
            rules.records_minute,
            minute <= rules.records_minute,
            "records",
            evidence,
        ),
        _figure(
            metrics,
            "timing_auc",
            ("timing", "按应答时间区分是与否（区间下界）", "Telling yes from no by its time (lower bound)"),
            rules.timing_auc_micro,
            unit=_AREA,
            attack="area of the times of hits against those of misses",
            by_lower=True,
        ),
    ]


def enumerated(*, columns: int, batch_max: int) -> int:
    """Return how many answers a program gets that goes through a register, until its key is held.

    Two programs are tried against the watch of the service itself: one counts up numbers that all exist, so that no
    alarm of few hits stops it; one guesses numbers all over the register and finds one in twenty.

    Args:
        columns: fields of a record.
        batch_max: most records of one step, see ``factory.client.gateway.watched_together``.
    """
    counting = _asked_until_held(lambda at: f"5301021990{at:08d}", 1, columns, max(batch_max, WINDOW))
    guessing = _asked_until_held(lambda at: f"{at * 7919:018d}"[::-1], 20, columns, max(batch_max, WINDOW))
    return max(counting, guessing)


def _asked_until_held(number: Callable[[int], str], one_in: int, columns: int, size: int) -> int:
    watch, answered, alarm = Watch(), 0, None
    while alarm is None and answered < _ASKED_MAX:
        places = range(answered, answered + size)
        records = [(number(at), *["x"] * (columns - 1)) for at in places]
        alarm = watch.see(records, [at % one_in == 0 for at in places])
        answered += size
    return answered


def _figure(
    metrics: Metrics,
    name: str,
    titles: tuple[str, str, str],
    limit: int,
    *,
    unit: str,
    attack: str,
    by_lower: bool = False,
) -> Finding:
    ends = [metrics.get(f"{name}{end}_micro") for end in ("", "_low", "_high")]
    judged = ends[1] if by_lower else ends[0]
    value = max(judged, 0) if isinstance(judged, int) else NOT_MEASURED
    evidence: JsonObject = {"attack": attack, "measured": value != NOT_MEASURED}
    for key, end in zip(("estimate_micro", "low_micro", "high_micro"), ends, strict=True):
        if isinstance(end, int):
            evidence[key] = end
    is_ok = NOT_MEASURED < value <= limit
    return Finding(titles[0], titles[1], titles[2], value, limit, is_ok, unit, evidence)


def _counted(metrics: Metrics, name: str, titles: tuple[str, str, str], limit: int, *, attack: str) -> Finding:
    found = metrics.get(name)
    value = found if isinstance(found, int) else NOT_MEASURED
    evidence: JsonObject = {"attack": attack, "measured": value != NOT_MEASURED}
    return Finding(titles[0], titles[1], titles[2], value, limit, NOT_MEASURED < value <= limit, "rows", evidence)


def _weights(parameters: Mapping[str, Any], told: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return each domain's share of a score; as the department told it where weights are worked out."""
    fixed = _fixed(parameters)
    permille = {item["name"]: told.get(item["node"], {}).get("weight_permille") for item in parameters["domains"]}
    known = {name: value / 1000 for name, value in permille.items() if isinstance(value, int)}
    return known if len(known) == len(fixed) else fixed


def _fixed(parameters: Mapping[str, Any]) -> dict[str, float]:
    weights = {item["name"]: float(item.get("weight_permille") or 1) for item in parameters["domains"]}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _same_scores(parameters: Mapping[str, Any], method: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the parameters of an earlier index over the same domain scores, with other weights."""
    before: Mapping[str, Any] = method["parameters"]

    def scored(item: Mapping[str, Any]) -> list[Any]:
        return [{key: value for key, value in d.items() if key != "weight_permille"} for d in item["domains"]]

    same = all(before.get(key) == parameters.get(key) for key in ("key", "entities", "normalisation", "missing"))
    return before if same and scored(before) == scored(parameters) else None


def _spans(equations: Any, unit: Any) -> bool:
    """Whether ``unit`` is a combination of the equations: then its unknown can be solved for."""
    rank = np.linalg.matrix_rank(equations, tol=1e-9)
    return bool(np.linalg.matrix_rank(np.vstack([equations, unit]), tol=1e-9) == rank)


def _present(files: Mapping[str, bytes], *names: str) -> JsonObject:
    return examined({name: files[name] for name in names if name in files})


__all__: Sequence[str] = ["NOT_MEASURED", "check_index", "check_model", "check_verification", "enumerated"]
