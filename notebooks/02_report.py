"""数据报告：三个部门的合计，任何一区的数字不单独出现 · Joint figures of three departments."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell
def _():
    import marimo as mo

    mo.md(
        """
        # 数据报告 · A joint report

        三个区的随访登记各自加密合计；运营机构只做密文相加；机构的密钥服务只解密经三方共同签认的总和，再做披露控制：
        少于十人的格子及可据以推算的格子不公布，公布的计数取整到五的倍数。

        *Each district encrypts its sums, the operator adds ciphertexts, the agency opens only the total that all three
        co-signed, and protects it before it leaves: small cells are suppressed, counts are rounded.*
        """
    )
    return (mo,)


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
    tables = {name: home / name / "tables" / "diabetes.csv" for name in parties}
    return Path, folder, tables


@app.cell
def _(Path, mo, tables):
    from factory.trial import run

    recipe = Path(str(mo.notebook_dir())).parent / "docs" / "examples" / "report.toml"
    tried = run.run(run.plan(recipe, tables))
    mo.md(f"## 1. 配方 · The recipe\n\n```toml\n{recipe.read_text('utf-8')}\n```")
    return (tried,)


@app.cell
def _(mo):
    mo.md(
        """
        ## 2. 公布的表 · What is published

        *The agency signs exactly these bytes; the page below is made from them.*
        """
    )
    return


@app.cell
def _(mo, tried):
    import io

    import pandas as pd

    published = pd.read_csv(io.BytesIO(tried.built.files["tables.csv"]), dtype=str).fillna("")
    mo.Html(published.to_html(index=False))
    return (pd,)


@app.cell
def _(mo, tried):
    mo.iframe(tried.built.files["report.html"].decode("utf-8"), height="900px")
    return


@app.cell
def _(mo):
    mo.md(
        """
        ## 3. 与合并计数比较 · Against counting the pooled rows

        只有本地样例才能这样比较：公布值是取整后的计数，差不超过四。

        *Possible only with local samples: a published count differs from the exact one by rounding alone.*
        """
    )
    return


@app.cell
def _(mo, pd, tables, tried):
    import json

    rows = pd.concat(pd.read_csv(path) for path in tables.values())
    bands = pd.cut(rows["bmi"], [0, 24, 28, 1000], right=False, labels=["<24", "24-28", ">=28"]).astype(str)
    exact = rows.groupby([rows["sex"].astype(str), bands]).size()
    cells = json.loads(tried.built.files["tables.json"])["tables"][0]["cells"]
    shown = {tuple(cell["at"]): cell["value"] for cell in cells}
    compared = pd.DataFrame(
        [(*place, count, shown[place]) for place, count in exact.items()],
        columns=["性别 sex", "体重指数 bmi", "合并 pooled", "公布 published"],
    )
    published_cells = compared.dropna(subset="公布 published")
    gap = int((published_cells["合并 pooled"] - published_cells["公布 published"]).abs().max())
    print(f"largest gap {gap}")
    mo.vstack([mo.Html(compared.to_html(index=False)), mo.md(f"最大差 largest gap: {gap}")])
    return


@app.cell
def _(mo, pd, tried):
    cost = tried.cost.as_json()
    print(f"product sha256 {tried.product_sha256}")
    mo.vstack(
        [
            mo.md("## 4. 用量与摘要 · Cost and digest"),
            mo.Html(pd.DataFrame(cost["parties"]).T.to_html()),
            mo.md(f"`{tried.product_sha256}`"),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
