"""`shufang-node`: the department's commands. Chinese first, English second; ``--json`` on everything that prints.

Exit codes: 0 done, 1 a negative verdict or a failure with its next step, 2 usage.
Heavy libraries load inside the commands that need them.
"""

import json
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from nodes.errors import NodeError
from nodes.register_cli import alerts_app, entry_app, personal_app

app = typer.Typer(
    name="shufang-node",
    help="数坊节点：部门一侧。Shufang node: the department's side.",
    no_args_is_help=True,
    add_completion=False,
    suggest_commands=False,  # click suggests already
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
quality_app = typer.Typer(help="数据质量 Quality of the tables.", no_args_is_help=True)
grants_app = typer.Typer(help="授权 Grants.", no_args_is_help=True)
ledger_app = typer.Typer(help="台账 The ledger.", no_args_is_help=True)
trust_app = typer.Typer(help="信任数据 Trust data.", no_args_is_help=True)
keys_app = typer.Typer(help="密钥 Keys.", no_args_is_help=True)
tickets_app = typer.Typer(
    help="整改、反馈、异议与争议 Rectification, feedback, objections, disputes.", no_args_is_help=True
)
for _name, _group in (
    ("quality", quality_app), ("grants", grants_app), ("ledger", ledger_app), ("trust", trust_app), ("keys", keys_app),
    ("tickets", tickets_app), ("entry", entry_app), ("personal", personal_app),
    ("alerts", alerts_app),
):  # fmt: skip
    app.add_typer(_group, name=_name)

Home = Annotated[Path, typer.Option("--home", envvar="SHUFANG_NODE_HOME", help="节点目录 the node's home")]
Json = Annotated[bool, typer.Option("--json", help="输出 JSON print JSON")]
Reason = Annotated[str, typer.Option("--reason", help="理由 reason, kept in the books")]
_HOME = Path("node")


def main() -> None:
    """Entry point of ``shufang-node``; the one place where errors become exit codes."""
    from nodes.contract.errors import ContractError

    try:
        app()
    except (NodeError, ContractError) as error:
        _fail(error.code, str(error))
    except OSError as error:
        about = error.filename or "a file or connection"
        reason = error.strerror or type(error).__name__
        _fail("node.storage", f"expected to be able to use {about} ({reason}); check path, rights and room on the disk")


def _fail(code: str, message: str) -> NoReturn:
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": code, "message": message}, ensure_ascii=False))
    typer.echo(f"错误 {code}：{message}", err=True)
    raise SystemExit(1) from None


@app.command(
    epilog="例 example: shufang-node init --home east --id node-east --organisation org.east "
    "--title-zh 云东区 --title-en 'Yundong' --hub 127.0.0.1:9092 --relay https://127.0.0.1:9443 --root 1.root.json"
)
def init(
    *,
    node_id: Annotated[str, typer.Option("--id", help="节点标识 actor id")],
    organisation: Annotated[str, typer.Option("--organisation", help="所属机构 organisation id")],
    title_zh: Annotated[str, typer.Option("--title-zh", help="中文名称")],
    title_en: Annotated[str, typer.Option("--title-en", help="English title")],
    root: Annotated[Path, typer.Option("--root", help="机构的 1.root.json，线下交付 handed over out of band")],
    hub: Annotated[str, typer.Option("--hub", help="主机:端口 host:port of the hub")] = "",
    relay: Annotated[str, typer.Option("--relay", help="https://host:port")] = "",
    plane: Annotated[list[str] | None, typer.Option("--plane", help="flower, relay; repeatable")] = None,
    hub_poll_ms: Annotated[int, typer.Option("--hub-poll-ms", help="空闲时询问枢纽的间隔 idle poll")] = 1000,
    passphrase_file: Annotated[
        Path | None,
        typer.Option("--passphrase-file", help="加密静态密钥的口令文件，没有则生成 encrypts the keys; made if missing"),
    ] = None,
    gm: Annotated[bool, typer.Option("--gm", help="另生成国密密钥 an SM2 key too, for second signatures")] = False,
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """建立节点并生成密钥与入网申请。Make a node's home, its keys and the enrolment file for the agency."""
    from nodes.enrolment import init_home
    from nodes.errors import EnrolmentError
    from nodes.settings import PLANES, NodeSettings

    settings = NodeSettings(
        home.absolute(),
        node_id,
        organisation,
        title_zh,
        title_en,
        hub,
        relay,
        tuple(plane) if plane else PLANES,
        hub_poll_ms=hub_poll_ms,
    )
    try:
        root_bytes = root.read_bytes()
    except OSError as error:
        raise EnrolmentError(f"expected the agency's root metadata at {root} ({error.strerror})") from error
    target = init_home(settings, root_bytes, now=_now(), passphrase_file=passphrase_file, with_sm2=gm)
    _print(
        {"home": str(settings.home), "id": node_id, "enrolment": str(target)},
        json_out,
        f"节点 {node_id} 已建立：{settings.home}\n下一步：把 {target} 交给主管机构，收到答复后运行\n"
        f"  shufang-node admit-response FILE --home {home}\nMade {node_id}; take the enrolment file to the agency.",
    )


@app.command("admit-response", epilog="例 example: shufang-node admit-response answer.json --home east")
def admit_response(file: Path, home: Home = _HOME, json_out: Json = False) -> None:
    """安装机构的答复（证书与信任数据）。Install the agency's answer: certificate and trust data."""
    from nodes.enrolment import install_admission
    from nodes.errors import EnrolmentError

    try:
        content = file.read_bytes()
    except OSError as error:
        raise EnrolmentError(f"expected the agency's answer at {file} ({error.strerror})") from error
    settings = _settings(home)
    trust = install_admission(settings, content, now=_now())
    _record(home, "admission.installed", {"versions": dict(trust.versions)})
    _print(
        {
            "id": settings.id,
            "trust_expires_at": f"{trust.expires_at:%Y-%m-%dT%H:%M:%SZ}",
            "versions": dict(trust.versions),
        },
        json_out,
        f"已入网：{settings.id}，信任数据有效至 {trust.expires_at:%Y-%m-%d %H:%M}Z\n"
        "Admitted. Next: shufang-node bind, then up.",
    )


@app.command(epilog="例 example: shufang-node interface node-east.interface-test.json --out answer.json --home east")
def interface(
    test: Path,
    out: Annotated[Path, typer.Option("--out", help="写入答复的文件 file for the answer")],
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """回答接口测试，签名后交机构。Answer the agency's interface test, signed; nothing of the tables is in it."""
    from nodes.contract.interface import InterfaceAnswer, InterfaceTest, verdicts
    from nodes.contract.messages import parse
    from nodes.contract.signing import sha256_hex, sign
    from nodes.errors import EnrolmentError
    from nodes.keys import load_keys

    settings = _settings(home)
    try:
        content = test.read_bytes()
    except OSError as error:
        raise EnrolmentError(f"expected the agency's interface test at {test} ({error.strerror})") from error
    asked = parse(InterfaceTest, content)
    if asked.node != settings.id:
        raise EnrolmentError(f"expected the interface test of {settings.id}, got that of {asked.node}")
    answer = InterfaceAnswer(
        node=asked.node, test_sha256=sha256_hex(content), verdicts=verdicts(asked), answered_at=_now()
    )
    _record(home, "interface.answered", {"test_sha256": answer.test_sha256})
    signed = sign(load_keys(settings.keys).statement, InterfaceAnswer.payload_type, answer.to_payload())
    out.write_bytes(signed.to_bytes())
    _print(
        {"node": asked.node, "cases": len(answer.verdicts), "out": str(out)},
        json_out,
        f"已答复 {len(answer.verdicts)} 项 answered: {out}\nNext, at the agency: shufang agency admit … --answer {out}",
    )


@app.command(epilog="例 example: shufang-node bind clinic.toml --suite clinic.suite.json --home east")
def bind(
    entries: Annotated[list[Path], typer.Argument(help="目录条目 TOML catalogue entries")],
    table: Annotated[Path | None, typer.Option("--table", help="数据文件，替代条目中的 path")] = None,
    suite: Annotated[Path | None, typer.Option("--suite", help="质量规则集 JSON expectation suite")] = None,
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """把表登记为目录条目。Bind tables as catalogue entries (with their suites)."""
    from nodes.binding import bind_entry
    from nodes.catalogue_entries import read_entry

    if len(entries) > 1 and (table or suite):
        raise typer.BadParameter("--table 与 --suite 只用于单个条目 go with one entry alone")
    settings = _settings(home)
    books = _books(settings)
    rows = []
    for path in entries:
        bound = bind_entry(settings, read_entry(path), books=books, table=table, suite=suite)
        rows.append(
            {
                "resource": bound.id,
                "version": bound.version,
                "schema_sha256": bound.schema_sha256,
                "columns": len(bound.columns),
            }
        )
    lines = [f"已登记 {row['resource']} 版本 {row['version']}，{row['columns']} 列" for row in rows]
    lines += [f"Bound. Next: shufang-node quality run {row['resource']} --home {home}" for row in rows]
    _print(rows[0] if len(rows) == 1 else rows, json_out, "\n".join(lines))


@app.command(epilog="例 example: shufang-node catalogue --home east --json")
def catalogue(home: Home = _HOME, json_out: Json = False) -> None:
    """列出目录。List the catalogue with each resource's state."""
    from nodes.catalogue_entries import read_catalogue

    settings = _settings(home)
    books = _books(settings)
    rows, lines = [], []
    for item in read_catalogue(settings.catalogue).values():
        record = books.resource(item.id)
        state = record.state if record else "unassessed"
        score = record.score_x100 if record else None
        rows.append({**item.public_extract(), "state": state, "score_x100": score})
        shown = "—" if score is None else f"{score / 100:.2f}"
        lines.append(f"{item.id:<28} v{item.version} {item.grade:<10} {state:<11} {shown:>7}  {item.name_zh}")
    _print(rows, json_out, "\n".join(lines) or "目录为空 No table is bound; run `shufang-node bind`.")


@quality_app.command("run", epilog="例 example: shufang-node quality run res.east.clinic --home east")
def quality_run(
    resources: Annotated[list[str] | None, typer.Argument(help="数据资源 resources; one or more")] = None,
    every: Annotated[bool, typer.Option("--all", help="目录中的全部资源 every resource of the catalogue")] = False,
    delivered_at: Annotated[str, typer.Option("--delivered-at", help="交付时间 ISO time of delivery")] = "",
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """检查表并签署质量报告。Assess resources and sign their reports. Exit 1 when one is held."""
    from nodes.catalogue_entries import read_catalogue
    from nodes.keys import load_keys
    from nodes.quality_gate import run_quality_of_many

    if bool(resources) == every:
        raise typer.BadParameter("给出资源，或用 --all；name resources, or give --all")
    settings = _settings(home)
    entries = list(read_catalogue(settings.catalogue).values()) if every else [_entry(home, r) for r in resources or ()]
    try:
        delivered = datetime.fromisoformat(delivered_at) if delivered_at else None
    except ValueError:
        raise typer.BadParameter(
            "应为 ISO 时间 expected an ISO time like 2026-01-31T08:00:00+08:00", param_hint="--delivered-at"
        ) from None
    done = run_quality_of_many(
        entries,
        settings=settings,
        keys=load_keys(settings.keys),
        books=_books(settings),
        now=_now(),
        delivered_at=delivered.replace(tzinfo=delivered.tzinfo or UTC) if delivered else None,
    )
    if len(done) == 1 and not every:
        only = next(iter(done.values()))
        if isinstance(only, NodeError):
            raise only
    rows = [_quality_row(resource, item) for resource, item in done.items()]
    lines = [_quality_line(resource, item) for resource, item in done.items()]
    shown = rows if every or len(rows) != 1 else rows[0]
    _print(shown, json_out, "\n".join(lines) or "目录为空 No table is bound; run `shufang-node bind`.")
    if any(row["state"] != "active" for row in rows):
        raise typer.Exit(1)


def _quality_row(resource: str, item: Any) -> dict[str, Any]:  # GateResult or NodeError; imported late to start fast
    if isinstance(item, NodeError):
        return {"resource": resource, "state": "error", "error": item.code, "message": str(item)}
    record = item.record
    return {
        "resource": resource, "state": record.state, "reason": record.reason, "score_x100": record.score_x100,
        "grade": record.grade, "report_sha256": record.report_sha256, "folder": str(item.folder),
        "findings": list(item.findings), "holds": [{"code": code, "about": about} for code, about in item.holds],
        "before": item.before.state if item.before else None,
    }  # fmt: skip


def _quality_line(resource: str, item: Any) -> str:  # as above
    if isinstance(item, NodeError):
        return f"{resource}：错误 {item.code}：{item}"
    from quality.findings import FINDINGS, HOLDS
    from quality.words import GRADE

    record = item.record
    shown = "—" if record.score_x100 is None else f"{record.score_x100 / 100:.2f}"
    grade = " ".join(GRADE.get(record.grade, (record.grade, "")))
    lines = [f"{resource}：{_STATES[record.state]}，得分 score {shown}（{grade.strip()}）"]
    if record.state == "active" and item.before is not None and item.before.state != "active":
        lines[0] += "  整改完成，恢复可用 rectified, back in use"
    if record.state == "stale":
        lines.append(
            "  · 数据超过承诺的更新周期，请交付新数据后重新评估 Older than its update frequency; deliver and run again."
        )
    lines += [f"  · {FINDINGS[code].zh} {FINDINGS[code].en}" for code in item.findings if code in FINDINGS]
    holds = [f"  · {HOLDS[code].zh} {about}  {HOLDS[code].en}" for code, about in item.holds if code in HOLDS]
    lines += holds[:_HOLDS_SHOWN]
    if len(holds) > _HOLDS_SHOWN:
        lines.append(
            f"  · 另有 {len(holds) - _HOLDS_SHOWN} 项，见报告 and {len(holds) - _HOLDS_SHOWN} more, in the report"
        )
    return "\n".join([*lines, f"  报告 report: {item.folder}/report.zh.html"])


_HOLDS_SHOWN = 5
_STATES = {"active": "可用 active", "held": "暂停 held", "stale": "过期 stale"}


@quality_app.command("suggest", epilog="例 example: shufang-node quality suggest res.east.clinic --home east")
def quality_suggest(
    table: Annotated[str, typer.Argument(help="已登记的资源，或 CSV/Parquet 文件 bound resource, or a file")],
    *,
    resource: Annotated[str, typer.Option("--resource", help="文件的目录标识 id to be, of a file")] = "",
    owner: Annotated[str, typer.Option("--owner", help="机构标识 organisation id, of a file")] = "",
    out: Annotated[Path, typer.Option("--out", help="草稿目录 folder of the drafts, of a file")] = Path(),
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """根据数据草拟规则集，须由人核对。Draft a suite from the data, of a file also its entry; a person checks it."""
    from nodes.quality_gate import draft_from_file, suggest_suite

    if Path(table).suffix.lower() not in {".csv", ".parquet"}:
        path = suggest_suite(_entry(home, table), settings=_settings(home))
        _print({"suite": str(path)}, json_out, f"已草拟，请核对：{path}\nDrafted; check it before use.")
        return
    if not resource or not owner:
        raise typer.BadParameter("文件须给出 --resource 与 --owner；a file needs --resource and --owner")
    entry, suite = draft_from_file(Path(table), resource=resource, owner=owner, folder=out)
    _print(
        {"entry": str(entry), "suite": str(suite)}, json_out,
        f"已草拟，请核对 drafted, check them: {entry}  {suite}\n"
        f"下一步 next: shufang-node bind {entry} --suite {suite} --home {home}",
    )  # fmt: skip


@quality_app.command("show", epilog="例 example: shufang-node quality show res.east.clinic --home east --json")
def quality_show(resource: str, home: Home = _HOME, json_out: Json = False) -> None:
    """显示最近的质量报告。Show the last signed report."""
    from nodes.errors import QualityGateError
    from nodes.quality_gate import read_report

    books = _books(_settings(home))
    record, reports = books.resource(resource), books.reports(resource)
    if record is None or not reports:
        raise QualityGateError(f"expected a quality run of {resource}; run `shufang-node quality run {resource}`")
    report = read_report(reports[-1][2])
    shown = "—" if record.score_x100 is None else f"{record.score_x100 / 100:.2f}"
    _print(
        report, json_out, f"{resource}：{record.state}，得分 {shown}，报告 {record.report_sha256[:16]}… {record.reason}"
    )


@quality_app.command("history", epilog="例 example: shufang-node quality history res.east.clinic --home east")
def quality_history(resource: str, home: Home = _HOME, json_out: Json = False) -> None:
    """列出历次报告。List all signed reports."""
    from nodes.quality_gate import read_report

    rows = []
    for digest, at, envelope in _books(_settings(home)).reports(resource):
        score = read_report(envelope)["score"]
        rows.append(
            {"at": at, "report_sha256": digest, **{key: score[key] for key in ("total_x100", "grade", "verdict")}}
        )
    lines = [
        f"{row['at']}  {'—' if row['total_x100'] is None else format(row['total_x100'] / 100, '.2f'):>6}  "
        f"{row['grade']:<12} {row['verdict']:<5} {row['report_sha256'][:16]}…"
        for row in rows
    ]
    _print(rows, json_out, "\n".join(lines) or "尚无报告 No report yet.")


@quality_app.command("export", epilog="例 example: shufang-node quality export reports/ --home east --pdf")
def quality_export(
    folder: Path,
    pdf: Annotated[bool, typer.Option("--pdf", help="附 PDF also PDF (extra `reports`)")] = False,
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """导出各资源最近的签名报告，供监督部门汇总。Write the last signed report of every resource."""
    from nodes.catalogue_entries import read_catalogue
    from nodes.quality_gate import export_reports

    settings = _settings(home)
    files = export_reports(folder, list(read_catalogue(settings.catalogue)), books=_books(settings), pdf=pdf)
    rows = [str(path) for path in files]
    _print(rows, json_out, "\n".join(rows) or "尚无报告 No report yet.")


@quality_app.command("report", epilog="例 example: shufang-node quality report res.east.clinic --home east --pdf")
def quality_report(
    resource: str,
    out: Annotated[Path | None, typer.Option("--out", help="输出目录 folder; the home's own if not given")] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="附 PDF also PDF (extra `reports`)")] = False,
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """绘制最近签名报告的页面（中英文）。Draw the pages of the last signed report, in two languages."""
    from nodes.catalogue_entries import file_name
    from nodes.quality_gate import write_pages

    settings = _settings(home)
    folder = out or settings.home / "quality" / file_name(resource).removesuffix(".toml")
    pages = write_pages(folder, resource, books=_books(settings), pdf=pdf)
    lines = [str(pages[key]) for key in ("html_zh", "html_en", "pdf_zh", "pdf_en") if key in pages]
    _print(pages, json_out, "\n".join(lines))


@quality_app.command("schedule", epilog="例 example: shufang-node quality schedule --home east")
def quality_schedule(
    run: Annotated[bool, typer.Option("--run", help="立即执行到期的评估 assess now what is due")] = False,
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """各资源下一次评估的时间；节点运行时自动执行。When each resource is assessed next; a running node does it itself.

    Exit 1 when a run was missed: its resource is held once its table is no longer in date.
    """
    from nodes.keys import load_keys
    from nodes.quality_schedule import run_due, schedule

    settings = _settings(home)
    books = _books(settings)
    done = run_due(settings, load_keys(settings.keys), books, now=_now()) if run else {}
    rows = [row.to_json() for row in schedule(settings, books, now=_now())]
    lines = [_quality_line(resource, item) for resource, item in done.items()]
    lines += [_schedule_line(row) for row in rows]
    assessed = [_quality_row(resource, item) for resource, item in done.items()]
    shown = {"assessed": assessed, "schedule": rows}
    _print(shown, json_out, "\n".join(lines) or "目录为空 No table is bound; run `shufang-node bind`.")
    if any(row["state"] == "missed" for row in rows) or any(row["state"] != "active" for row in assessed):
        raise typer.Exit(1)


_SCHEDULE_STATES = {
    "unassessed": "待首次评估 first run by a person",
    "waiting": "未到期 waiting",
    "due": "到期 due",
    "missed": "漏评 missed",
}


def _schedule_line(row: dict[str, Any]) -> str:
    due = (row["due_at"] or "—").replace("T", " ").replace("Z", "")
    every = f"每 {row['every_days']} 天 every {row['every_days']} d"
    return f"{row['resource']:<28} {every:<26} 下次 next {due:<20} {_SCHEDULE_STATES[row['state']]}"


@app.command(epilog="例 example: shufang-node sample trial/ --rows 1000000 --owner org.east.data")
def sample(
    folder: Path,
    *,
    owner: Annotated[str, typer.Option("--owner", help="机构标识 organisation id")] = "org.sample",
    rows: Annotated[int, typer.Option("--rows", help="人口登记行数 persons, at least 1000")] = 100_000,
    key: Annotated[
        str, typer.Option("--key", help="目录标识的中段 middle part of the ids: res.KEY.persons")
    ] = "sample",
    form: Annotated[str, typer.Option("--format", help="csv | parquet")] = "csv",
    encoding: Annotated[str, typer.Option("--encoding", help="utf-8 | gb18030 (csv)")] = "utf-8",
    seed: Annotated[int, typer.Option("--seed", help="随机种子 same seed, same tables")] = 1,
    faulty: Annotated[bool, typer.Option("--faulty", help="关键字段出错 break the key columns")] = False,
    json_out: Json = False,
) -> None:
    """生成试用数据：互相关联的人口与市场主体登记，错误逐条列出。Write linked registers with listed errors."""
    from nodes.sample.supply import write_supply

    made = write_supply(
        folder, rows, owner=owner, key=key, seed=seed, as_of=_now().date(), form=form, encoding=encoding,
        faulty=faulty,
    )  # fmt: skip
    shown = [
        {
            "resource": item.resource, "table": str(item.table), "entry": str(item.entry), "suite": str(item.suite),
            "rows": item.rows, "errors": dict(item.errors),
        }
        for item in made
    ]  # fmt: skip
    lines = []
    for item in made:
        lines.append(
            f"{item.resource}：{item.rows:,} 行，{sum(item.errors.values()):,} 处预置错误 planted  {item.table}"
        )
        lines.append(f"  下一步 next: shufang-node bind {item.entry} --suite {item.suite} --home HOME")
    lines.append(f"错误清单 list of errors: {folder / 'planted.json'}")
    _print(shown, json_out, "\n".join(lines))


@tickets_app.command("list", epilog="例 example: shufang-node tickets list --home east --open")
def tickets_list(
    resource: Annotated[str, typer.Option("--resource", help="只看一个资源 of one resource")] = "",
    unsettled: Annotated[bool, typer.Option("--open", help="只看未办结 only what is not settled")] = False,
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """列出整改单与反馈、异议、争议。List tickets. Exit 1 when one is overdue: it holds its resource."""
    from nodes import tickets

    today = tickets.day_of(_now())
    found = [t for t in tickets.read(_books(_settings(home))) if not resource or t.resource == resource]
    rows = [t.to_json(today) for t in found if not unsettled or t.state in {"filed", "open"}]
    _print(rows, json_out, "\n".join(map(_ticket_line, rows)) or "没有工单 No ticket.")
    if any(row["overdue"] for row in rows):
        raise typer.Exit(1)


@tickets_app.command(
    "file",
    epilog="例 example: shufang-node tickets file res.east.clinic --kind objection --from org.bank --text 地址有误",
)
def tickets_file(
    resource: str,
    *,
    kind: Annotated[str, typer.Option("--kind", help="feedback | objection | dispute")],
    party: Annotated[str, typer.Option("--from", help="提出方 who files it; required")] = "",
    text: Annotated[str, typer.Option("--text", help="问题说明 what is wrong; stays at the node")] = "",
    rule: Annotated[str, typer.Option("--rule", help="相关规则 a rule of the suite")] = "",
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """登记质量反馈、异议或争议。File feedback, an objection or a dispute about a resource."""
    from nodes import tickets
    from nodes.catalogue_entries import read_catalogue

    settings = _settings(home)
    ticket = tickets.file_ticket(
        _books(settings), settings.home / "tickets", kind=kind, resource=resource,
        known=list(read_catalogue(settings.catalogue)), party=party, text=text, rule=rule, now=_now(),
    )  # fmt: skip
    _print_ticket(ticket, json_out)


@tickets_app.command(
    "decide", epilog="例 example: shufang-node tickets decide T-0003 --accept --reason 属实 --home east"
)
def tickets_decide(
    ticket: str,
    *,
    accept: Annotated[bool, typer.Option("--accept/--reject", help="属实或不属实 right or not")],
    reason: Annotated[str, typer.Option("--reason", help="理由，必填 required; stays at the node")] = "",
    severity: Annotated[str, typer.Option("--severity", help="critical | major | minor")] = "major",
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """核实并答复反馈或异议。Decide what was filed; accepted, it is put right by its deadline."""
    from nodes import tickets

    settings = _settings(home)
    done = tickets.decide(
        _books(settings), settings.home / "tickets", ticket, accept=accept, reason=reason,
        severity=severity, now=_now(),
    )  # fmt: skip
    _print_ticket(done, json_out)


@tickets_app.command(
    "escalate", epilog="例 example: shufang-node tickets escalate T-0004 --to data-administration --reason 协商未果"
)
def tickets_escalate(
    ticket: str,
    to: Annotated[str, typer.Option("--to", help="data-administration | government")],
    reason: Reason = "",
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """把本级无法解决的争议提交上一级。Take a dispute to the next level; none is left out."""
    from nodes import tickets

    settings = _settings(home)
    done = tickets.escalate(_books(settings), settings.home / "tickets", ticket, to=to, reason=reason, now=_now())
    _print_ticket(done, json_out)


@tickets_app.command("close", epilog="例 example: shufang-node tickets close T-0003 --home east")
def tickets_close(ticket: str, home: Home = _HOME, json_out: Json = False) -> None:
    """办结工单；须有之后通过的评估。Close a ticket; refused without a later run that passes."""
    from nodes import tickets

    _print_ticket(tickets.close(_books(_settings(home)), ticket), json_out)


def _print_ticket(ticket: Any, json_out: bool) -> None:  # Ticket; imported late to start fast
    from nodes.tickets import day_of

    row = ticket.to_json(day_of(_now()))
    _print(row, json_out, _ticket_line(row))


_TICKET_STATES = {
    "filed": "待核实 to be decided", "open": "整改中 open", "rejected": "不属实 rejected", "closed": "已整改 closed",
}  # fmt: skip


def _ticket_line(row: dict[str, Any]) -> str:
    state = "逾期 overdue" if row["overdue"] else _TICKET_STATES[row["state"]]
    due = f"{row['due_on']}{'*' if row['provisional'] else ''}"
    return f"{row['id']}  {row['kind']:<13} {row['resource']:<28} {row['rule']:<10} {row['severity']:<8} {due}  {state}"


@grants_app.command("list", epilog="例 example: shufang-node grants list --home east")
def grants_list(home: Home = _HOME, json_out: Json = False) -> None:
    """列出授权。List grants with uses and budget left."""
    rows = _grant_rows(home)
    lines = [
        f"{row['grant_id']:<28} {row['state']:<9} {row['uses']}/{row['uses_max']} 次 →{row['not_after']} {row['title']}"
        for row in rows
    ]
    _print(rows, json_out, "\n".join(lines) or "尚无授权 No grant has been offered.")


@grants_app.command("show", epilog="例 example: shufang-node grants show g-heart --home east --json")
def grants_show(grant: str, home: Home = _HOME, json_out: Json = False) -> None:
    """显示一项授权的全部内容。Show one grant in full, and whether it fits this node's catalogue."""
    from nodes.agent.resources import uses_of
    from nodes.catalogue_entries import read_catalogue
    from nodes.contract.statement import parse_grant
    from nodes.grants import find, misfits
    from nodes.trust_store import TrustStore

    settings = _settings(home)
    record = find(_books(settings), grant)
    content = parse_grant(record.payload)
    catalogue = read_catalogue(settings.catalogue)
    trust = TrustStore(settings.trust).current()
    uses = uses_of(catalogue, _books(settings), trust=trust)
    problems = misfits(content, node=settings.id, catalogue=catalogue, uses=uses)
    shown = {
        "state": record.state,
        "grant_sha256": record.sha256,
        "problems": problems,
        "grant": content.model_dump(mode="json"),
    }
    _print(shown, json_out, json.dumps(shown, ensure_ascii=False, indent=2))


@grants_app.command("approve", epilog="例 example: shufang-node grants approve g-heart --home east --reason 同意")
def grants_approve(grant: str, reason: Reason = "", home: Home = _HOME, json_out: Json = False) -> None:
    """批准并签署一项授权。Approve and sign a grant in the department's name."""
    from nodes.agent.resources import uses_of
    from nodes.catalogue_entries import read_catalogue
    from nodes.grants import approve, check_record, find
    from nodes.keys import load_keys
    from nodes.trust_store import TrustStore

    settings = _settings(home)
    books, keys, trust = _books(settings), load_keys(settings.keys), TrustStore(settings.trust).current()
    check_record(find(books, grant), own_keys=[keys.statement.public], trust=trust)
    catalogue = read_catalogue(settings.catalogue)
    uses = uses_of(catalogue, books, trust=trust)
    record = approve(books, grant, key=keys.statement, node=settings.id, catalogue=catalogue, reason=reason, uses=uses)
    _print(_decided(record), json_out, f"已批准 {record.grant_id}（{record.sha256[:16]}…）Approved and signed.")


@grants_app.command("reject", epilog="例 example: shufang-node grants reject g-heart --home east --reason 字段过多")
def grants_reject(grant: str, reason: Reason = "", home: Home = _HOME, json_out: Json = False) -> None:
    """驳回一项授权。Turn a grant down."""
    from nodes.grants import reject

    record = reject(_books(_settings(home)), grant, reason=reason)
    _print(_decided(record), json_out, f"已驳回 {record.grant_id} Rejected.")


@grants_app.command("revoke", epilog="例 example: shufang-node grants revoke g-heart --home east --reason 到期收回")
def grants_revoke(grant: str, reason: Reason = "", home: Home = _HOME, json_out: Json = False) -> None:
    """撤回一项授权，立即生效。End an approved grant at once."""
    from nodes.grants import revoke

    record = revoke(_books(_settings(home)), grant, reason=reason)
    _print(_decided(record), json_out, f"已撤回 {record.grant_id} Revoked; open sessions stop at their next step.")


@app.command(epilog="例 example: shufang-node budget --home east")
def budget(home: Home = _HOME, json_out: Json = False) -> None:
    """显示各授权的次数与预算余额。Show uses and budget left per grant."""
    rows = [
        {
            key: row[key]
            for key in ("grant_id", "state", "uses", "uses_max", "budget_unit", "budget_spent", "budget_total")
        }
        for row in _grant_rows(home)
    ]
    lines = [
        f"{r['grant_id']:<28} 次数 {r['uses']}/{r['uses_max']} 预算 {r['budget_spent']}/{r['budget_total']} "
        f"{r['budget_unit']}"
        for r in rows
    ]
    _print(rows, json_out, "\n".join(lines) or "尚无授权 No grant has been offered.")


@ledger_app.command("list", epilog="例 example: shufang-node ledger list --last 20 --home east")
def ledger_list(
    last: Annotated[int, typer.Option("--last", min=1, help="最近几条 how many")] = 50,
    session: Annotated[str, typer.Option("--session", help="会话 one session")] = "",
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """列出台账。List ledger entries."""
    entries = _books(_settings(home)).entries(session=session or None, limit=last)
    lines = [
        f"{e.seq:>6} {e.at} {e.kind:<20} {e.actor:<16} {e.session:<28} {e.facts.get('code', e.facts.get('kind', ''))}"
        for e in entries
    ]
    _print([entry.to_json() for entry in entries], json_out, "\n".join(lines) or "台账为空 The ledger is empty.")


@ledger_app.command("verify", epilog="例 example: shufang-node ledger verify --home east")
def ledger_verify(home: Home = _HOME, json_out: Json = False) -> None:
    """校验台账链。Recompute the chain. Exit 1 when it is broken."""
    count = _books(_settings(home)).verify_chain()
    _print(
        {"entries": count, "valid": True}, json_out, f"台账完整：{count} 条 The chain of {count} entries is unbroken."
    )


@ledger_app.command("export", epilog="例 example: shufang-node ledger export ledger.jsonl --home east")
def ledger_export(file: Path, home: Home = _HOME, json_out: Json = False) -> None:
    """导出台账（JSON 行）。Export the ledger as JSON lines."""
    from nodes.errors import StorageError

    entries = _books(_settings(home)).entries()
    try:
        text = "".join(json.dumps(entry.to_json(), ensure_ascii=False, sort_keys=True) + "\n" for entry in entries)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"expected to be able to write {file} ({error.strerror})") from error
    _print({"file": str(file), "entries": len(entries)}, json_out, f"已导出 {len(entries)} 条 → {file}")


@trust_app.command("update", epilog="例 example: shufang-node trust update ./agency-trust --home east")
def trust_update(folder: Path, home: Home = _HOME, json_out: Json = False) -> None:
    """用文件夹中的新信任数据更新。Bring newer trust data from a folder."""
    from nodes.errors import TrustError
    from nodes.trust_store import TrustStore

    if not folder.is_dir():
        raise TrustError(f"expected a folder with the agency's trust files at {folder}")
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
    trust = TrustStore(_settings(home).trust).update(files, now=_now())
    _record(home, "trust.updated", {"versions": dict(trust.versions)})
    _print(_trust_row(trust), json_out, f"信任数据已更新，有效至 {trust.expires_at:%Y-%m-%d %H:%M}Z Updated.")


@trust_app.command("show", epilog="例 example: shufang-node trust show --home east --json")
def trust_show(home: Home = _HOME, json_out: Json = False) -> None:
    """显示信任数据。Show who is who, and until when the trust data counts."""
    from nodes.trust_store import TrustStore

    trust = TrustStore(_settings(home).trust).current()
    lines = [f"有效至 fresh until {trust.expires_at:%Y-%m-%d %H:%M}Z"]
    lines += [f"  {a.id:<20} {','.join(a.roles):<18} {a.title_zh}" for a in trust.actors.actors]
    _print(_trust_row(trust), json_out, "\n".join(lines))


@keys_app.command("encrypt", epilog="例 example: shufang-node keys encrypt /media/stick/passphrase --home east")
def keys_encrypt(
    passphrase_file: Annotated[Path, typer.Argument(help="口令文件，0600 file with the passphrase, mode 0600")],
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """加密静态密钥。Encrypt the keys of this node at rest; libraries read those for TLS and hub from the files."""
    from nodes.keys import encrypt_keys

    names = encrypt_keys(_settings(home).keys, passphrase_file)
    _record(home, "keys.encrypted", {"names": names})
    _print({"encrypted": names}, json_out, "\n".join(names))


@keys_app.command("rotate", epilog="例 example: shufang-node keys rotate --home east")
def keys_rotate(home: Home = _HOME, json_out: Json = False) -> None:
    """生成新密钥与换钥申请。Make new keys and a rotation file; the old ones serve until the agency answers."""
    from nodes.enrolment import rotate_keys

    target = rotate_keys(_settings(home), now=_now())
    _record(home, "keys.rotation_begun", {})
    _print(
        {"enrolment": str(target)},
        json_out,
        f"换钥申请：{target}\nTake it to the agency, then `admit-response`, then restart.",
    )


@app.command(epilog="例 example: shufang-node up --home east --detach")
def up(
    detach: Annotated[bool, typer.Option("--detach", help="后台运行 run in the background")] = False,
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """启动节点（只向外连接）。Run the node under its supervisor; it only dials out."""
    from nodes.running import require_ready, run_node, start_detached

    settings = _settings(home)
    require_ready(settings, now=_now())
    if detach:
        pid = start_detached(settings)
        _print(
            {"id": settings.id, "pid": pid},
            json_out,
            f"节点 {settings.id} 已在后台运行（{pid}）Running in the background.",
        )
        return
    _print(
        {"id": settings.id, "state": "starting"},
        json_out,
        f"节点 {settings.id} 运行中，Ctrl-C 结束 Running; Ctrl-C ends it.",
    )
    run_node(settings)


@app.command(epilog="例 example: shufang-node status --home east --json")
def status(home: Home = _HOME, json_out: Json = False) -> None:
    """节点是否在运行。Is the node running? Exit 1 when not."""
    from nodes.supervise import read_status

    settings = _settings(home)
    found = read_status(settings.home / "run")
    children = [{"name": c.name, "pid": c.pid, "restarts": c.restarts} for c in found.children] if found else []
    lines = [f"  {c['name']:<10} pid {c['pid']} 重启 {c['restarts']}" for c in children]
    head = f"{settings.id}：运行中 running" if found else f"{settings.id}：未运行 not running"
    _print({"id": settings.id, "running": found is not None, "children": children}, json_out, "\n".join([head, *lines]))
    if found is None:
        raise typer.Exit(1)


@app.command(epilog="例 example: shufang-node down --home east")
def down(home: Home = _HOME, json_out: Json = False) -> None:
    """停止节点。End the node."""
    from nodes.supervise import stop_supervisor

    settings = _settings(home)
    stopped = bool(stop_supervisor(settings.home / "run"))
    _print(
        {"id": settings.id, "stopped": stopped},
        json_out,
        f"{settings.id} 已停止 stopped" if stopped else "未运行 not running",
    )


@app.command(epilog="例 example: shufang-node doctor --home east")
def doctor(home: Home = _HOME, json_out: Json = False) -> None:
    """检查节点设置，逐项给出下一步。Check the set-up; exit 1 when something fails."""
    from nodes.doctor import examine

    checks = examine(_settings(home), now=_now())
    rows = [{"check": c.name, "level": c.level, "zh": c.zh, "en": c.en} for c in checks]
    _print(rows, json_out, "\n".join(f"[{c.level:^4}] {c.name:<24} {c.zh} {c.en}" for c in checks))
    if any(check.level == "fail" for check in checks):
        raise typer.Exit(1)


def _settings(home: Path) -> Any:  # NodeSettings; typed where it is used, imported late to start fast
    from nodes.settings import load_settings

    return load_settings(home.absolute())


def _books(settings: Any) -> Any:  # Books; imported late to start fast
    from nodes.books import Books

    return Books(settings.books)


def _record(home: Path, kind: str, facts: dict[str, Any]) -> None:
    books = _books(_settings(home))
    books.record(kind, facts=facts)
    books.close()


def _entry(home: Path, resource: str) -> Any:  # CatalogueEntry; imported late to start fast
    from nodes.catalogue_entries import read_catalogue
    from nodes.errors import CatalogueError

    found = read_catalogue(_settings(home).catalogue).get(resource)
    if found is None:
        raise CatalogueError(f"expected {resource} in the catalogue; see `shufang-node catalogue`")
    return found


def _grant_rows(home: Path) -> list[dict[str, Any]]:
    from nodes.contract.statement import parse_grant, time_text

    books = _books(_settings(home))
    rows = []
    for record in books.grants():
        grant = parse_grant(record.payload)
        rows.append(
            {
                "grant_id": record.grant_id,
                "grant_sha256": record.sha256,
                "state": record.state,
                "title": grant.scenario_title,
                "scenario": grant.scenario,
                "tasks": list(grant.tasks),
                "uses": books.uses(record.sha256),
                "uses_max": grant.uses_max,
                "budget_unit": grant.budget.unit,
                "budget_spent": books.spent(record.sha256),
                "budget_total": grant.budget.total,
                "not_before": time_text(grant.not_before),
                "not_after": time_text(grant.not_after),
            }
        )
    return rows


def _decided(record: Any) -> dict[str, Any]:
    return {"grant_id": record.grant_id, "grant_sha256": record.sha256, "state": record.state, "reason": record.reason}


def _trust_row(trust: Any) -> dict[str, Any]:
    return {
        "versions": dict(trust.versions),
        "expires_at": f"{trust.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        "actors": [{"id": a.id, "roles": list(a.roles), "organisation": a.organisation} for a in trust.actors.actors],
        "status": [item.model_dump(mode="json") for item in trust.status.items],
    }


def _now() -> datetime:
    return datetime.now(UTC)


def _print(value: object, json_out: bool, text: str) -> None:
    with suppress(BrokenPipeError):
        typer.echo(json.dumps(value, ensure_ascii=False) if json_out else text)


if __name__ == "__main__":
    main()
