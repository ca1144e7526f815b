"""``shufang gateway``: the operator's clients, keys, calls, leaks, feedback and alerts; ``serve`` answers over HTTP."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.terminal import show

if TYPE_CHECKING:
    from factory.serving.shop import Shop

app = typer.Typer(
    help="产品网关：应用单位、密钥、调用、溯源、反馈、预警 | The product gateway.",
    no_args_is_help=True,
    add_completion=False,
)

Home = Annotated[Path, typer.Option("--home", help="运营机构目录 | the operator's home")]
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")]
By = Annotated[str, typer.Option("--by", help="经办人 | who acts")]
SETTINGS, MARK_KEY, RELEASED = "gateway.toml", "gateway-mark.key", "released"


@app.command("offer")
def offer(home: Home, file: Annotated[Path, typer.Argument()], by: By, as_json: AsJson = False) -> None:
    """上架已发布产品（JSON）| Put a released product on the gateway; its files lie in released/ID_VERSION."""
    from factory.lifecycle.serving import Offer

    with opened_shop(home) as shop:
        case = shop.offer(Offer.model_validate_json(file.read_bytes()), by=by)
    show({"product": case.id, "state": case.state}, as_json=as_json)


@app.command("state")
def state(
    *,
    home: Home,
    product: Annotated[str, typer.Argument()],
    to: Annotated[str, typer.Option("--to", help="operating|suspended|retired")],
    reason: Annotated[str, typer.Option("--reason", help="理由 | why")],
    by: By,
    as_json: AsJson = False,
) -> None:
    """暂停、恢复或下架产品 | Suspend a product, put it back, or retire it."""
    with opened_shop(home) as shop:
        case = shop.set_state(product, to, by=by, reason=reason)
    show({"product": case.id, "state": case.state}, as_json=as_json)


@app.command("client")
def client(home: Home, file: Annotated[Path, typer.Argument()], by: By, as_json: AsJson = False) -> None:
    """登记并审查应用单位（TOML：client、screening）| Screen a body that will use products."""
    from factory.lifecycle.serving import Client, Screening

    value = tomllib.loads(file.read_text("utf-8"))
    with opened_shop(home) as shop:
        made = shop.admit(Client.model_validate(value["client"]), Screening.model_validate(value["screening"]), by=by)
    show({"client": made.id, "state": made.state}, as_json=as_json)


@app.command("key")
def key(
    *,
    home: Home,
    client_id: Annotated[str, typer.Argument()],
    product: Annotated[str, typer.Argument()],
    scenario: Annotated[str, typer.Option("--scenario", help="应用场景 | scenario")],
    by: By,
    use: Annotated[str, typer.Option("--use", help="use|redevelopment")] = "use",
    as_json: AsJson = False,
) -> None:
    """发放密钥，仅显示一次 | Give a client a key; it is shown this once."""
    with opened_shop(home) as shop:
        given = shop.give_key(client_id, product, scenario=scenario, use=use, by=by)
    show({"client": client_id, "product": product, "key": given}, as_json=as_json)


@app.command("suspend")
def suspend(
    *,
    home: Home,
    client_id: Annotated[str, typer.Argument()],
    reason: Annotated[str, typer.Option("--reason", help="理由 | why")],
    case: Annotated[str, typer.Option("--case", help="关联案件 | the case it belongs to")],
    by: By,
    as_json: AsJson = False,
) -> None:
    """暂停应用单位，密钥立即失效 | Suspend a client; its keys fail at the next call."""
    with opened_shop(home) as shop:
        made = shop.suspend(client_id, by=by, reason=reason, case_ref=case)
    show({"client": made.id, "state": made.state}, as_json=as_json)


@app.command("trace")
def trace(home: Home, file: Annotated[Path, typer.Argument()], as_json: AsJson = False) -> None:
    """泄露溯源 | Say which client, time and call a file found outside comes from. Exit 1 when none is found."""
    with opened_shop(home) as shop:
        found = shop.trace(file.read_bytes(), file.name)
    show(found or {"call": ""}, as_json=as_json, text="" if found else "无匹配 no match")
    if found is None:
        raise typer.Exit(1)


@app.command("feedback")
def feedback(home: Home, product: Annotated[str, typer.Argument()], as_json: AsJson = False) -> None:
    """反馈及答复 | What clients said of a product version, each with its response."""
    with opened_shop(home) as shop:
        rows = shop.iteration(product)
    show(rows, as_json=as_json)


@app.command("answer")
def answer(
    *,
    home: Home,
    name: Annotated[str, typer.Argument()],
    response: Annotated[str, typer.Option("--response", help="答复 | response")],
    by: By,
    ticket: Annotated[str, typer.Option("--ticket", help="数源单位工单 | the source department's ticket")] = "",
    outcome: Annotated[str, typer.Option("--outcome", help="结果 | outcome")] = "",
    as_json: AsJson = False,
) -> None:
    """答复反馈 | Answer feedback."""
    with opened_shop(home) as shop:
        case = shop.answer_feedback(name, response, ticket=ticket, outcome=outcome, by=by)
    show({"feedback": case.id, "state": case.state}, as_json=as_json)


@app.command("usage")
def usage(home: Home, as_json: AsJson = False) -> None:
    """调用计量：按应用单位、产品、场景 | Calls by client, product and scenario: billable and refused."""
    with opened_shop(home) as shop:
        rows = shop.usage()
    show(rows, as_json=as_json)


@app.command("destinations")
def destinations(home: Home, resource: Annotated[str, typer.Argument()], as_json: AsJson = False) -> None:
    """资源去向：由其形成的产品及每次交付 | Where a resource went: products made from it, and each delivery."""
    with opened_shop(home) as shop:
        rows = shop.destinations(resource)
    show(rows, as_json=as_json)


@app.command("history")
def history(home: Home, client_id: Annotated[str, typer.Argument()], as_json: AsJson = False) -> None:
    """应用单位的申请、审查、密钥与调用 | What a body asked for, what was decided, and its calls."""
    with opened_shop(home) as shop:
        rows = shop.history(client_id)
    show(rows, as_json=as_json)


@app.command("alerts")
def alerts(home: Home, as_json: AsJson = False) -> None:
    """预警 | Alerts with grade, owner and limit. Exit 1 when one is past its limit."""
    with opened_shop(home) as shop:
        rows: list[dict[str, Any]] = [alert.to_json() for alert in shop.alerts()]
    lines = [f"{r['id']:<40} {r['grade']:<9} {r['owner']:<18} {r['due_at']} {r['state']}" for r in rows]
    show(rows, as_json=as_json, text="\n".join(lines))
    if any(row["state"] == "escalated" for row in rows):
        raise typer.Exit(1)


@app.command("serve")
def serve(home: Home, port: Annotated[int, typer.Option("--port", help="本机端口 | loopback port")] = 0) -> None:
    """在本机提供产品网关 | Serve the gateway on the loopback until stopped."""
    import uvicorn

    from factory.serving.gateway import create_gateway
    from factory.site.processes import free_port

    with opened_shop(home) as shop:
        chosen = port or free_port()
        typer.echo(f"http://127.0.0.1:{chosen}/v1/products")
        uvicorn.run(create_gateway(shop), host="127.0.0.1", port=chosen, log_level="warning", access_log=False)


@contextmanager
def opened_shop(home: Path) -> "Iterator[Shop]":
    """Open the counter of an operator's home."""
    import secrets

    from factory.files import write_atomic
    from factory.identity import load_identity
    from factory.registry.store import Registry
    from factory.serving.shop import Shop

    identity = load_identity(home)
    settings = tomllib.loads((home / SETTINGS).read_text("utf-8")) if (home / SETTINGS).is_file() else {}
    key_path = home / "keys" / MARK_KEY
    if not key_path.is_file():
        write_atomic(key_path, secrets.token_bytes(32), mode=0o600)
    with Registry.at(home / "registry.db") as registry:
        yield Shop(
            registry=registry,
            operator=identity.organisation,
            controlled=frozenset(settings.get("controlled", ())),
            gateways=frozenset(settings.get("gateways", ())),
            files=home / RELEASED,
            trust_path=identity.trust_path,
            mark_key=key_path.read_bytes(),
        )
