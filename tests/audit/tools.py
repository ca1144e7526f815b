"""A second opinion by tools that others wrote; runs in an environment of its own.

    .venv-audit/bin/python tests/audit/tools.py INPUT

``INPUT`` is a JSON file as ``tests/audit/compare.py`` writes it; one JSON object is printed:
what each tool found. Nothing of ours is imported.
"""

import json
import os
import sys
import tempfile
from pathlib import Path


def tau_argus(tables):
    """Protect each table anew from its rows and bound what its own suppression leaves."""
    from pytauargus import protect

    found = {}
    for table in tables:
        rows = {column: list(values) for column, values in table["rows"].items()}
        rows["one"] = [1] * len(next(iter(rows.values())))
        with tempfile.TemporaryDirectory() as folder:
            # The solver leaves its logs in the current directory.
            before = Path.cwd()
            os.chdir(folder)
            try:
                done = protect(
                    rows,
                    tables=[table["by"]],
                    response="one",
                    safety_rules=f"FREQ({table['cell_min']},0)",
                    suppress="OPT(1)",
                    workdir=folder,
                )
                audit = done.engine.audit(0)
                cells = done.tables[0].rows
            finally:
                os.chdir(before)
        labels = [[str(cell[column]).strip() for column in table["by"]] for cell in cells]  # of fixed width
        at = [["*" if label == "Total" else label for label in place] for place in labels]
        found[table["name"]] = {
            "primary": [place for place, cell in zip(at, cells, strict=True) if cell["status"] == "U"],
            "secondary": [place for place, cell in zip(at, cells, strict=True) if cell["status"] == "M"],
            "widths": [row["max"] - row["min"] for row in audit],
            "unsafe": sum(bool(row["unsafe"]) for row in audit),
        }
    return found


def robustness_toolbox(model):
    """Attack the ONNX file as a black box: a forest on scores and labels, trained on half of the rows."""
    import numpy as np
    import onnxruntime
    from art.attacks.inference.membership_inference import MembershipInferenceBlackBox
    from art.estimators.classification import BlackBoxClassifier
    from sklearn.metrics import roc_auc_score

    values, label = np.array(model["values"], dtype=np.float64), np.array(model["label"], dtype=int)
    member = np.array(model["member"], dtype=bool)
    session = onnxruntime.InferenceSession(model["path"], providers=["CPUExecutionProvider"])

    def predict(rows):
        chance = session.run(["probability"], {"features": rows.astype(np.float64)})[0]
        return np.column_stack([1 - chance, chance]).astype(np.float32)

    classifier = BlackBoxClassifier(predict, input_shape=(values.shape[1],), nb_classes=2)
    one_hot, rng, areas = np.eye(2)[label], np.random.default_rng(7), []
    for kind in ("rf", "gb", "lr"):
        for _ in range(5):
            known = rng.random(len(values)) < 0.5
            attack = MembershipInferenceBlackBox(classifier, attack_model_type=kind)
            attack.fit(
                values[known & member], one_hot[known & member], values[known & ~member], one_hot[known & ~member]
            )
            guess = attack.infer(values[~known], one_hot[~known], probabilities=True)
            areas.append(float(roc_auc_score(member[~known], np.asarray(guess)[:, -1])))
    by_kind = np.array(areas).reshape(3, 5)
    best = int(by_kind.mean(axis=1).argmax())
    return {
        "auc": float(by_kind[best].mean()),
        "spread": float(by_kind[best].std()),
        "attack": ("rf", "gb", "lr")[best],
    }


def dp_accounting(budgets):
    """Recompute epsilon of every composition of discrete Laplace noise, at delta zero."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    found = {}
    for budget in budgets:
        total = None
        for scale in budget["scales"]:
            one = pld.from_discrete_laplace_mechanism(1 / scale, sensitivity=1)
            total = one if total is None else total.compose(one)
        found[budget["name"]] = total.get_epsilon_for_delta(0.0)
    return found


def main():
    given = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    answer = {
        "pytauargus": tau_argus(given["tables"]),
        "adversarial-robustness-toolbox": robustness_toolbox(given["model"]),
        "dp-accounting": dp_accounting(given["budgets"]),
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
