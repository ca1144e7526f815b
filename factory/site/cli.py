"""``shufang up``, ``status``, ``down`` and ``catalogue``: an embedded deployment for exploration."""

from pathlib import Path
from typing import Annotated, Any

import typer

from factory.site.processes import quoted
from factory.terminal import ended_by_signals, show

Home = Annotated[Path, typer.Option("--home", help="部署目录 | folder of the deployment")]
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")]
_HOME = Path("out/site")

ANSWER_S = 20.0
"""How long a node may take to describe itself, in seconds."""


def up(home: Home = _HOME, as_json: AsJson = False) -> None:
    """启动整套系统 | Start hub, relay, agency, witness and three nodes; make them first if there are none.

    Example: shufang up --home out/site
    """
    from factory.demo.tables import bind_tables, catalogue_tables, lay_tables
    from factory.site.founding import UNFINISHED, found_site, made_whole, open_site
    from factory.site.layout import Site
    from factory.site.stack import start_stack, status_of

    def tell(text: str) -> None:
        if not as_json:
            typer.echo(f"  {text} …")

    home = home.absolute()
    with ended_by_signals("没有留下进程或半成品 no process and nothing half made is left"):
        if (home / "site.json").exists() and not (home / UNFINISHED).exists():
            site = open_site(home)
        else:
            with made_whole(home):
                site = Site(home)
                found_site(site, tell=tell)
                tell("tables")
                lay_tables(site)
                bind_tables(site)
                tell("catalogue")
                catalogue_tables(site)
        tell("start")
        start_stack(site)
    found = status_of(site)
    rows = [{"name": child.name, "pid": child.pid} for child in found.children] if found else []
    text = "\n".join(f"  {row['name']:<12} pid {row['pid']}" for row in rows)
    show(
        {"home": home, "processes": rows},
        as_json=as_json,
        text=f"{text}\n已启动 running. 结束 end it: shufang down --home {quoted(home)}",
    )


def status(home: Home = _HOME, as_json: AsJson = False) -> None:
    """查看运行状态 | Is it running? Exit 1 when not."""
    from factory.site.founding import open_site
    from factory.site.stack import status_of

    found = status_of(open_site(home))
    rows: list[dict[str, Any]] = (
        [{"name": c.name, "pid": c.pid, "restarts": c.restarts} for c in found.children] if found else []
    )
    lines = [f"  {r['name']:<12} pid {r['pid'] or '-'} 重启 restarts {r['restarts']}" for r in rows]
    head = "运行中 running" if found else f"未运行 not running; start it with: shufang up --home {quoted(home)}"
    show({"running": found is not None, "processes": rows}, as_json=as_json, text="\n".join([head, *lines]))
    if found is None:
        raise typer.Exit(1)


def down(home: Home = _HOME, as_json: AsJson = False) -> None:
    """停止整套系统 | End every process of the deployment."""
    from factory.site.founding import open_site
    from factory.site.stack import stop_stack

    stopped = stop_stack(open_site(home))
    show({"stopped": stopped}, as_json=as_json, text="已停止 stopped" if stopped else "未运行 not running")


def catalogue(home: Home = _HOME, as_json: AsJson = False) -> None:
    """公共数据资源目录 | The public extract of every node's catalogue, asked of the nodes.

    Exit 1 when an admitted node does not answer; the others are shown.

    Example: shufang catalogue --home out/site --json
    """
    import dataclasses

    from factory.errors import FactoryError
    from factory.site.founding import open_site
    from factory.site.operator import OperatorDesk

    rows: list[dict[str, Any]] = []
    missed = False
    with OperatorDesk(open_site(home)) as desk:
        nodes = dataclasses.replace(desk.nodes(), timeout_s=ANSWER_S)
        for node in desk.admitted_nodes():
            try:
                rows += [{"node": node, **entry} for entry in nodes.ask(node, "node.describe").body["resources"]]
            except FactoryError as error:
                missed = True
                typer.echo(f"错误 {error.code}：{error}", err=True)
    lines = [f"{row['id']:<26} v{row['version']}  {row['name_zh']} {row['name_en']}  {row['state']}" for row in rows]
    show(rows, as_json=as_json, text="\n".join(lines))
    if missed:
        raise typer.Exit(1)


def trust_refresh(home: Home = _HOME, as_json: AsJson = False) -> None:
    """取回并下发最新信任数据 | Take newer trust data from the agency; pass it to relay, hub and nodes.

    To be done after the agency has admitted, rotated, removed or suspended somebody.

    Example: shufang trust-refresh --home out/site
    """
    from factory.site.founding import open_site
    from factory.site.operator import OperatorDesk
    from factory.site.trust import take_trust

    with OperatorDesk(open_site(home)) as desk:
        taken = take_trust(desk)
    lines = [
        f"已下发 told: {', '.join(taken.told) or '-'}",
        f"枢纽新增 registered: {', '.join(taken.registered) or '-'}",
    ]
    lines += [f"枢纽移除 unregistered: {taken.unregistered}"]
    lines += [f"未下发 missed: {node}（{reason}）" for node, reason in taken.missed.items()]
    show(taken, as_json=as_json, text="\n".join(lines))
    if taken.missed:
        raise typer.Exit(1)
