"""数据核验：问一个人是否在登记中，部门不知道问的是谁 · A private check against a register."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell
def _():
    import marimo as mo

    mo.md(
        """
        # 数据核验 · A private verification

        银行（应用单位）想知道姓名与公民身份号码是否与居民登记一致。它在自己的进程里把问题盲化；部门对盲化的问题作答并附证明，
        看不到问的是谁，也不知道答案；运营机构只转发密封的字节。协议：RFC 9497 VOPRF。

        *A bank asks whether a name and a resident number agree with a register. It blinds the question in its own
        process; the department answers with a proof and learns neither question nor answer; the operator relays
        sealed bytes.*
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
    subprocess.run(
        [
            sys.executable,
            "-m",
            "nodes.sample",
            "--home",
            str(home),
            "--key",
            "north",
            "--owner",
            "org-north",
            "--number",
            "2",
            "--of",
            "3",
        ],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    register = home / "tables" / "persons.csv"
    return Path, folder, home, register


@app.cell
def _(mo):
    mo.md(
        """
        ## 1. 提问 · The questions

        十个人在登记中（其中一个姓名写成全角空格分开），三个不在。提问文件属于应用单位。

        *Ten are in the register, one of them written with a blank in the name; three are not.*
        """
    )
    return


@app.cell
def _(home, mo, register):
    import json

    import pandas as pd

    people = pd.read_csv(register, dtype=str)
    known = people.dropna(subset=["name", "id_no"]).iloc[100:110][["name", "id_no"]].to_dict("records")
    known[0]["name"] = "　".join(known[0]["name"])
    unknown = [{"name": name, "id_no": "110101199001011237"} for name in ("张无名", "李无名", "王无名")]
    asked = known + unknown
    questions = home / "questions.jsonl"
    questions.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in asked), encoding="utf-8")
    mo.md(f"{len(asked)} 个问题 questions; 登记 {len(people)} 条 records in the register")
    return asked, json, pd, questions


@app.cell
def _(Path, home, mo, questions, register):
    from factory.trial import run

    recipe = Path(str(mo.notebook_dir())).parent / "docs" / "examples" / "verification.toml"
    tried = run.run(run.plan(recipe, {"north": register, "client": questions}), out=home / "product")
    mo.md(f"## 2. 配方 · The recipe\n\n```toml\n{recipe.read_text('utf-8')}\n```")
    return run, tried


@app.cell
def _(asked, home, json, mo, pd, run):
    lines = (home / "product" / run.ANSWERS).read_text("ascii").splitlines()
    answers = [json.loads(line)["match"] for line in lines]
    print(f"matches {sum(answers)} of {len(asked)}")
    shown = pd.DataFrame({"问题 question": range(1, len(asked) + 1), "在登记中 in the register": answers})
    mo.vstack(
        [
            mo.md("## 3. 应用单位得到的答案 · What the application unit alone gets"),
            mo.Html(shown.to_html(index=False)),
        ]
    )
    return


@app.cell
def _(mo, tried):
    mo.md(tried.built.files["method.md"].decode("utf-8"))
    return


@app.cell
def _(mo, pd, tried):
    cost = tried.cost.as_json()
    print(f"p50 {tried.built.metrics['p50_ms']} ms, p95 {tried.built.metrics['p95_ms']} ms")
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
