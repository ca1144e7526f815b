"""``shufang profile`` and ``shufang compliance``: the jurisdiction's rules, and which of them are shown by tests."""

from pathlib import Path
from typing import Annotated, Any

import typer

from factory.terminal import show

app = typer.Typer(help="辖区规则 | Jurisdiction profiles.", no_args_is_help=True, add_completion=False)

AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")]
Which = Annotated[str, typer.Argument(help="辖区代码或 law.toml | NATIONAL, SD, JN, JL, SZ, GD, or a law.toml")]


@app.command("init")
def init(
    *,
    home: Annotated[Path, typer.Option("--home", help="写入 law.toml 的目录 | folder for law.toml")],
    base: Annotated[str, typer.Option("--base", help="辖区代码 | NATIONAL, SD, JN, JL, SZ or GD")],
    accept_proposed: Annotated[
        bool, typer.Option("--accept-proposed", help="采用建议的期限 | set words without numbers as proposed")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """写出 law.toml，待确认的期限为注释 | Write a law.toml; the words to confirm stand as comments.

    Example: shufang profile init --base GD --home agency
    """
    from factory.law.files import write_law
    from factory.law.profile import known_code

    path = write_law(home, known_code(base), accept_proposed=accept_proposed)
    show({"law": path}, as_json=as_json, text=f"{path}\nNext: shufang profile check {path}")


@app.command("check")
def check(which: Which, as_json: AsJson = False) -> None:
    """检查期限是否都已确定 | Exit 1 with each word that has no number yet, and the proposed line.

    Example: shufang profile check agency/law.toml
    """
    from factory.law.profile import complete, proposed_line, unset

    layer = _layer(which)
    waiting = unset(layer)
    rows = [
        {
            "key": key,
            "word": leaf.word,
            "from": list(leaf.cited),
            "propose": leaf.propose,
            "line": proposed_line(key, leaf),
        }
        for key, leaf in waiting
    ]
    if not waiting:
        complete(layer)
    lines = [f"{row['line']}" for row in rows]
    head = f"{layer.head['name_zh']}（{layer.head['status_zh']}）"
    told = f"{head}：{len(rows)} 项期限未定，请在 law.toml 的 [set] 中确认：" if rows else f"{head}：完整 complete"
    show(
        {"profile": layer.head["code"], "complete": not rows, "unset": rows},
        as_json=as_json,
        text="\n".join([told, *lines]),
    )
    if rows:
        raise typer.Exit(1)


@app.command("show")
def show_profile(which: Which, as_json: AsJson = False) -> None:
    """列出全部参数及其出处 | Every parameter with its value and where it comes from.

    Example: shufang profile show GD
    """
    from factory.law.profile import KEYS

    layer = _layer(which)
    rows = [_row(key, layer.leaves[key]) for key in KEYS]
    lines = [f"{layer.head['name_zh']}（{layer.head['status_zh']}）"]
    lines += [f"{row['key']:<36} {_text(row):<44} {' '.join(row['from'])}" for row in rows]
    show(
        {"profile": layer.head["code"], "status": layer.head["status_zh"], "parameters": rows},
        as_json=as_json,
        text="\n".join(lines),
    )


@app.command("diff")
def diff(first: Which, second: Which, as_json: AsJson = False) -> None:
    """比较两个辖区 | Where two profiles differ, with the clauses of each.

    Example: shufang profile diff JL GD
    """
    from factory.law.profile import KEYS

    one, other = _layer(first), _layer(second)
    rows: list[dict[str, Any]] = []
    for key in KEYS:
        left, right = _row(key, one.leaves[key]), _row(key, other.leaves[key])
        if (left["value"], left["word"]) != (right["value"], right["word"]):
            rows.append({"key": key, "first": left, "second": right})
    lines = [
        f"{row['key']:<36} {_text(row['first']):<40} {_text(row['second'])}\n"
        f"{'':<36} {' '.join(row['first']['from']):<40} {' '.join(row['second']['from'])}"
        for row in rows
    ]
    show(
        {"first": one.head["code"], "second": other.head["code"], "differences": rows},
        as_json=as_json,
        text="\n".join([f"{one.head['name_zh']} | {other.head['name_zh']}：{len(rows)} 项不同 differences", *lines]),
    )


def _layer(which: str) -> Any:
    from factory.law.files import built_in, read_law
    from factory.law.profile import known_code

    path = Path(which)
    if path.suffix == ".toml" or path.is_file():
        return read_law(path)
    return built_in(known_code(which))


def _row(key: str, leaf: Any) -> dict[str, Any]:
    return {
        "key": key,
        "value": leaf.value,
        "word": leaf.word,
        "propose": leaf.propose,
        "from": list(leaf.cited),
        "layer": leaf.layer,
        "choice": leaf.is_choice,
    }


def _text(row: dict[str, Any]) -> str:
    value = row["value"]
    if value is None:
        return f"（未定：{row['word']}，建议 {row['propose']}）"
    return " ".join(map(str, value)) or "–" if isinstance(value, list) else str(value)


def compliance(
    *,
    profile: Annotated[str, typer.Option("--profile", help="只列该辖区与全国的条款 | SD, JN, JL, SZ or GD")] = "",
    results: Annotated[
        Path | None, typer.Option("--results", help="测试结果文件 | file of results [out/requirements.json]")
    ] = None,
    tests: Annotated[Path | None, typer.Option("--tests", help="测试目录 | folder of tests")] = None,
    as_html: Annotated[bool, typer.Option("--html", help="输出网页 | print a page")] = False,
    as_json: AsJson = False,
) -> None:
    """合规对照：条款、要求、控制、测试、结果 | Clause, requirement, control, tests and last result.

    Run `make compliance` first: a requirement counts when every test marked with it ran over these
    very sources and passed. Exit 1 when one of them failed.

    Example: shufang compliance --profile GD --html > compliance.html
    """
    from factory.law import pages, sources
    from factory.law.compliance import matrix, to_json
    from factory.law.files import built_in
    from factory.law.profile import known_code
    from factory.law.table import load_table

    code = known_code(profile) if profile else None
    folder = sources.root()
    place = tests or folder / "tests"
    table = load_table()
    found = matrix(
        table,
        tests=sources.marked_tests(place.resolve()) if place.is_dir() else {},
        citing=sources.citing_modules(folder, table.requirements),
        results=_results(results, folder),
        sources_sha256=sources.digest(folder),
        profile=code or "",
        gaps=sources.stage_gaps(folder, table.stages),
    )
    if as_html:
        typer.echo(pages.page(found, built_in(code) if code else None))
    else:
        show(to_json(found), as_json=as_json, text=_told(found))
    if any(row.status == "failing" for row in found.rows):
        raise typer.Exit(1)


def _results(path: Path | None, folder: Path) -> Any:
    from factory.errors import FileMissingError
    from factory.law.compliance import Results, read_results

    usual = folder / "out" / "requirements.json"
    if path is None and not usual.is_file():
        return Results()
    try:
        return read_results((path or usual).read_text("utf-8"))
    except FileNotFoundError:
        raise FileMissingError(f"expected a file of test results at {path}; make one with `make compliance`") from None


def _told(found: Any) -> str:
    from factory.law.pages import WORDS

    core = f"{found.count('core', 'passing')}/{found.count('core')}"
    governance = f"{found.count('governance', 'passing')}/{found.count('governance')}"
    lines = [
        f"核心 core {core}  治理 governance {governance}  {found.results.finished_at or '没有测试结果 no results'}"
    ]
    if found.is_stale:
        lines.append("测试结果不是由当前源代码得出的，按未运行计 the results are of other sources: make compliance")
    for row in found.rows:
        item = row.requirement
        lines.append(
            f"{WORDS[row.status]:<6} {item.id:<16} {item.title_zh}  [{len(row.clauses)} 条 clauses; "
            f"{', '.join(row.controls) or '–'}; {len(row.tests)} tests]"
        )
        if row.reason[0]:
            lines.append(f"       {row.reason[0]}")
    return "\n".join(lines)
