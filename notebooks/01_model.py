"""数据模型：三个部门联合训练，数据不出域 · A joint model of three departments."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell
def _():
    import marimo as mo

    mo.md(
        """
        # 数据模型 · A joint model

        三个区的乳腺检查登记列相同、行不同，数据都不出域。我们联合训练一个逻辑回归，并与“把三份表合在一起训练”的结果比较。
        合在一起训练只有在本地样例上才允许：在真实部署中没有任何一方拿得到三份表。

        *Three districts hold examinations with the same columns. We train one logistic regression jointly and compare it
        with training on the pooled rows, which is possible here only because the tables are local samples.*
        """
    )
    return (mo,)


@app.cell
def _(mo):
    mo.md(
        """
        ## 1. 样例数据 · Sample tables

        每个部门用 `python -m nodes.sample` 生成自己的表（scikit-learn 自带的真实数据，按区分配）。

        *Each department writes its own tables: real data that scikit-learn ships, dealt out to the districts.*
        """
    )
    return


@app.cell
def _():
    import subprocess
    import sys
    import tempfile
    from pathlib import Path

    folder = tempfile.TemporaryDirectory(prefix="shufang-notebook-")
    home = Path(folder.name)
    parties = ("east", "west", "north")
    writers = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "nodes.sample",
                "--home",
                str(home / name),
                "--key",
                name,
                "--owner",
                f"org-{name}",
                "--number",
                str(number),
                "--of",
                "3",
            ],
            stdout=subprocess.DEVNULL,
        )
        for number, name in enumerate(parties)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    tables = {name: home / name / "tables" / "clinic.csv" for name in parties}
    return Path, folder, tables


@app.cell
def _(mo):
    mo.md(
        """
        ## 2. 配方与试运行 · The recipe, and a trial

        配方写明产品、流水线、各方与列、参数。`shufang try` 与这里做的是同一件事：每一方一个真实进程，信任用后即弃，协议代码相同。

        *The recipe names product, pipeline, parties and parameters. The trial starts one real process per party.*
        """
    )
    return


@app.cell
def _(Path, mo, tables):
    from factory.trial import run

    recipe = Path(str(mo.notebook_dir())).parent / "docs" / "examples" / "model.toml"
    tried = run.run(run.plan(recipe, tables))
    mo.md(f"```toml\n{recipe.read_text('utf-8')}\n```")
    return recipe, tried


@app.cell
def _(mo):
    mo.md(
        """
        ## 3. 结果 · What came out

        指标由安全聚合打开的直方图算出，运营机构看不到任何一个部门的数字。`auc_low`、`auc_high` 是准确值所在的区间。

        *Metrics come from histograms that secure aggregation opened; the operator sees no single department's figure.*
        """
    )
    return


@app.cell
def _(mo, tried):
    import pandas as pd

    metrics = pd.DataFrame(
        [
            (name.removesuffix("_micro"), value / 1e6 if name.endswith("_micro") else value)
            for name, value in tried.built.metrics.items()
        ],
        columns=["指标 metric", "值 value"],
    )
    mo.Html(metrics.to_html(index=False, float_format="%.4f"))
    return (pd,)


@app.cell
def _(mo, tried):
    mo.md(tried.built.files["model_card.md"].decode("utf-8"))
    return


@app.cell
def _(mo):
    mo.md(
        """
        ## 4. 与合并训练比较 · Against training on the pooled rows

        *The same split, the same standardisation, scikit-learn's own solver.*
        """
    )
    return


@app.cell
def _(mo, pd, recipe, tables, tried):
    import json
    import tomllib

    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    from nodes.tasks.linear_rows import split

    parameters = tomllib.loads(recipe.read_text("utf-8"))["parameters"]
    names = parameters["features"]
    frames = {party: pd.read_csv(path) for party, path in tables.items()}
    rows = pd.concat(
        frame.assign(test=split(len(frame), party, seed=7, test_permille=parameters["test_permille"]))
        for party, frame in frames.items()
    )
    train, test = rows[~rows.test], rows[rows.test]
    mean, scale = train[names].mean(), train[names].std(ddof=0)
    pooled = LogisticRegression(C=1 / (parameters["l2_micro"] / 1e6 * len(train)), tol=1e-10, max_iter=1000)
    pooled.fit((train[names] - mean) / scale, train["malignant"])
    document = json.loads(tried.built.files["model.json"])
    compared = pd.DataFrame(
        {
            "特征 feature": names,
            "联邦 federated": [float.fromhex(item["weight"]) for item in document["features"]],
            "合并 pooled": pooled.coef_[0],
        }
    )
    pooled_auc = float(roc_auc_score(test["malignant"], pooled.decision_function((test[names] - mean) / scale)))
    gap = float((compared["联邦 federated"] - compared["合并 pooled"]).abs().max())
    print(f"weight gap {gap:.6f}")
    print(f"auc federated {tried.built.metrics['auc_test_micro'] / 1e6:.4f} pooled {pooled_auc:.4f}")
    mo.vstack(
        [
            mo.Html(compared.to_html(index=False, float_format="%.4f")),
            mo.md(
                f"AUC 联邦 federated {tried.built.metrics['auc_test_micro'] / 1e6:.4f}，"
                f"合并 pooled {pooled_auc:.4f}；权重最大差 largest gap of a weight {gap:.6f}"
            ),
        ]
    )
    return


@app.cell
def _(mo):
    mo.md(
        """
        ## 5. 用量与摘要 · Cost and digest

        同样的表与种子得到同样的产品，字节不差。*The same tables and seed give the same product, byte for byte.*
        """
    )
    return


@app.cell
def _(mo, pd, tried):
    cost = tried.cost.as_json()
    print(f"product sha256 {tried.product_sha256}")
    mo.vstack([mo.Html(pd.DataFrame(cost["parties"]).T.to_html()), mo.md(f"`{tried.product_sha256}`")])
    return


if __name__ == "__main__":
    app.run()
