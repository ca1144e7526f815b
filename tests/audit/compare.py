"""Compares what the review measured with what tools of others find on the same products.

    .venv/bin/python -m tests.audit.compare SITE

``SITE`` is the folder of a main job (``shufang demo --out SITE``), whose department tables lie
beside its packages: only there can anybody pool them. Differences are printed with their
reason. Exit 1: a tool finds a leak that the review let through.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from factory.demo.run import RECIPES
from factory.law.files import proposed
from factory.pipelines.model import parameters_of as model_parameters
from factory.pipelines.recipe import Recipe, read_recipe
from factory.pipelines.report import parameters_of as report_parameters
from factory.review.counts import COUNTING
from factory.review.finding import Finding, read_findings
from factory.site.layout import DEPARTMENTS, Site
from nodes.contract.tasks.sums import OTHER, Category, Privacy, SumsParameters
from nodes.tasks.linear_rows import holds, split

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-audit" / "bin" / "python"
TOOLS = Path(__file__).parent / "tools.py"
EPSILONS_MICRO = (100_000, 500_000, 1_000_000, 3_000_000)


@dataclass(frozen=True)
class Difference:
    """Where a tool and the review differ."""

    what: str
    reason: str
    is_leak: bool = False


def pooled(site: Site, recipe: Recipe) -> dict[str, pd.DataFrame]:
    """Return each node's table of the recipe, as the department laid it."""
    found = {}
    for party in recipe.parties:
        department = next(one for one in DEPARTMENTS if one.node == party.node)
        for path in sorted((site.node(department) / "tables").glob("*.csv")):
            frame = pd.read_csv(path, encoding="utf-8-sig")
            if set(party.columns) <= set(frame.columns):
                found[party.node] = frame
    if set(found) != set(recipe.nodes):
        raise SystemExit(f"expected the departments' tables of a main job in {site.folder}; run: shufang demo --out …")
    return found


def coded(column: pd.Series, category: Category) -> list[str]:
    """Return the label of each row's value, as the task does."""
    labels = category.values  # noqa: PD011  a field of ours, not of pandas
    if category.edges:
        places = pd.cut(column, [float("-inf"), *map(float, category.edges), float("inf")], right=False, labels=False)
        return [OTHER if pd.isna(place) else labels[int(place)] for place in places]
    texts = [str(int(value)) if isinstance(value, float) and value == int(value) else str(value) for value in column]
    return [text if text in labels else OTHER for text in texts]


def tables_of(site: Site, recipe: Recipe) -> list[dict[str, Any]]:
    """Return the rows behind every count table of a report."""
    parameters = report_parameters(recipe)
    rows = pd.concat(pooled(site, recipe).values())
    return [
        {
            "name": measure.name,
            "by": list(measure.by),
            "cell_min": recipe.thresholds.cell_min,
            "rows": {column: coded(rows[column], parameters.category(column)) for column in measure.by},
        }
        for measure in parameters.measures
        if measure.kind in COUNTING and measure.by
    ]


def model_of(site: Site, recipe: Recipe, product: Path) -> dict[str, Any]:
    """Return the labelled rows of a model with the truth about which were trained on."""
    parameters, parts = model_parameters(recipe), []
    for node, frame in pooled(site, recipe).items():
        test = split(len(frame), node, seed=parameters.seed, test_permille=parameters.test_permille)
        label = frame[parameters.label.column]
        parts.append(frame.assign(member=~test, positive=holds(label, parameters.label))[label.notna().to_numpy()])
    rows = pd.concat(parts)
    return {
        "path": str(product / "model.onnx"),
        "values": rows[list(parameters.features)].astype(float).to_numpy().tolist(),
        "label": rows["positive"].astype(int).tolist(),
        "member": rows["member"].tolist(),
    }


def budgets_of(parameters: SumsParameters) -> list[dict[str, Any]]:
    """Return the noise scales, per unit of sensitivity, of the same report with several budgets."""
    found = []
    counts = [measure for measure in parameters.measures if not measure.squares]
    for epsilon_micro in EPSILONS_MICRO:
        noisy = parameters.model_copy(
            update={"privacy": Privacy(epsilon_micro=epsilon_micro), "measures": tuple(counts)}
        )
        scales = [noisy.noise_scale("count", measure) for measure in counts for _ in noisy.parts(measure)]
        found.append({"name": str(epsilon_micro), "scales": scales})
    return found


def compare_tables(published: dict[str, Any], opinion: dict[str, Any], cell_min: int) -> list[Difference]:
    """Hold the published tables against pytauargus's own protection of the pooled rows."""
    differences = []
    for table in published["tables"]:
        other = opinion.get(table["name"])
        if other is None:
            continue
        hidden = {tuple(cell["at"]) for cell in table["cells"] if cell["state"] == "suppressed"}
        primary, secondary = ({tuple(place) for place in other[kind]} for kind in ("primary", "secondary"))
        differences += [
            Difference(f"{table['name']} {'/'.join(place)}: below the minimum, but published", "none", is_leak=True)
            for place in sorted(primary - hidden)
        ]
        if secondary != hidden - primary:
            differences.append(
                Difference(
                    f"{table['name']}: {len(hidden - primary)} cells suppressed besides, pytauargus {len(secondary)}",
                    "another valid pattern: ours also holds over linked tables and all earlier releases, theirs is "
                    "the cheapest of this table alone",
                )
            )
        narrow = [width for width in other["widths"] if width < cell_min - 2]
        if narrow or other["unsafe"]:
            differences.append(
                Difference(
                    f"{table['name']}: {len(narrow)} cells of pytauargus's own pattern are narrow",
                    "exact totals: its pattern is not rounded",
                )
            )
    return differences


def compare_model(findings: dict[str, Finding], opinion: dict[str, Any]) -> list[Difference]:
    """Hold the review's membership figures against the toolbox's attack."""
    rules = proposed("NATIONAL").review
    area = opinion["auc"] * 1_000_000
    ratio, confidence = (findings[name].evidence for name in ("membership_ratio", "membership_inference"))
    told = (
        f"AUC {opinion['auc']:.3f} ± {opinion['spread']:.3f} ({opinion['attack']}), ours {_micro(ratio)} by "
        f"likelihood ratio and {_micro(confidence)} by confidence"
    )
    high = ratio["high_micro"]
    is_leak = area > rules.ratio_auc_micro and isinstance(high, int) and area > high
    reason = (
        "the toolbox finds more than the review let through"
        if is_leak
        else "a black box sees scores and labels alone; the likelihood ratio also knows the population and the weights"
    )
    return [Difference(told, reason, is_leak=is_leak)]


def compare_budgets(opinion: dict[str, float]) -> list[Difference]:
    """Hold every epsilon against the exact composition of its noise."""
    return [
        Difference(
            f"epsilon {int(name) / 1e6:g}: dp-accounting {found:.4f}",
            "the noise is weaker than the ledger says"
            if found > int(name) / 1e6 + 1e-3
            else "the ledger asks for more",
            is_leak=found > int(name) / 1e6 + 1e-3,
        )
        for name, found in opinion.items()
        if abs(found - int(name) / 1e6) > 1e-3
    ]


def ask(given: dict[str, Any], *, python: Path = PYTHON) -> dict[str, Any]:
    """Run the tools in their own environment."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input.json"
        path.write_text(json.dumps(given), "utf-8")
        done = subprocess.run([python, TOOLS, path], capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise SystemExit(f"the tools failed: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def main() -> int:
    """Compare, print, and exit 1 where a tool finds what the review let through."""
    site = Site(Path(sys.argv[1]).absolute(), DEPARTMENTS)
    recipes = {form: read_recipe(RECIPES / f"builtin-{form}.toml") for form in ("model", "report")}
    data = {
        form: site.packages / f"{recipe.product.id}_{recipe.product.version}" / "data"
        for form, recipe in recipes.items()
    }
    findings = {f.test: f for f in read_findings((data["model"] / "metadata" / "findings.json").read_bytes())}
    published = json.loads((data["report"] / "product" / "tables.json").read_bytes())
    budgets = budgets_of(report_parameters(recipes["report"]))
    opinion = ask(
        {
            "tables": tables_of(site, recipes["report"]),
            "model": model_of(site, recipes["model"], data["model"] / "product"),
            "budgets": budgets,
        }
    )
    found = {
        "pytauargus": compare_tables(published, opinion["pytauargus"], recipes["report"].thresholds.cell_min),
        "adversarial-robustness-toolbox": compare_model(findings, opinion["adversarial-robustness-toolbox"]),
        "dp-accounting": compare_budgets(opinion["dp-accounting"]),
    }
    checked = {
        "pytauargus": f"{len(opinion['pytauargus'])} tables",
        "adversarial-robustness-toolbox": "1 model, 15 attacks",
        "dp-accounting": f"{len(budgets)} budgets",
    }
    leaks = 0
    for tool, differences in found.items():
        sys.stdout.write(f"{tool}: {checked[tool]}, {len(differences)} differences\n")
        for one in differences:
            leaks += one.is_leak
            sys.stdout.write(f"  {'LEAK' if one.is_leak else 'differs'}  {one.what}\n           why: {one.reason}\n")
    sys.stdout.write(f"{'FAILED' if leaks else 'passed'}: {leaks} leaks that the review let through\n")
    return 1 if leaks else 0


def _micro(evidence: Any) -> str:
    return f"{evidence['estimate_micro'] / 1e6:.3f}"


if __name__ == "__main__":
    sys.exit(main())
