"""``shufang client`` and ``shufang verify-entity``: what an application unit runs in its own house."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from factory.client.books import Books
    from factory.client.match import Matcher

app = typer.Typer(help="应用单位 | The application unit.", no_args_is_help=True, add_completion=False)
keys = typer.Typer(help="本单位程序的密钥 | Keys of this unit's own programs.", no_args_is_help=True)
app.add_typer(keys, name="key")

Home = Annotated[Path, typer.Option("--home", help="应用单位目录 | the application unit's home", show_default=False)]
Invitation = Annotated[
    Path, typer.Argument(help="运营机构给的邀请文件 | invitation from the operator", show_default=False)
]
Relay = Annotated[str, typer.Option("--relay", help="https://host:port", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")]
Whole = Annotated[
    bool, typer.Option("--whole-table", help="取整张标签表，不透露分桶 | hold the whole tag table, name no bucket")
]
Name = Annotated[str, typer.Argument(help="密钥名称 | name of the key", show_default=False)]


@app.command("serve")
def serve(
    invitation: Invitation,
    home: Home,
    relay: Relay,
    *,
    port: Annotated[int, typer.Option("--port", help="本机端口 | loopback port, a free one unless given")] = 0,
    whole_table: Whole = False,
) -> None:
    """在本机提供核验接口 | Serve the verification interface on the loopback until stopped.

    Example: shufang client serve invitation.bin --home bank-yun --relay https://127.0.0.1:8444
    """
    import uvicorn

    from factory.client.gateway import Counter, create_app
    from factory.site.processes import free_port

    with _matcher(home, relay, invitation, whole_table=whole_table) as matcher, _books(home) as books:
        service = create_app(
            matcher.parameters,
            title="核验 · Verification",
            description="yes or no",
            version="1",
            counter=Counter(matcher, books),
        )
        chosen = port or free_port()
        typer.echo(f"http://127.0.0.1:{chosen}/v1/verifications")
        uvicorn.run(service, host="127.0.0.1", port=chosen, log_level="warning", access_log=False)


@keys.command("add")
def key_add(
    name: Name,
    home: Home,
    *,
    purpose: Annotated[str, typer.Option(help="用途，与授权一致 | purpose, as in the grant", show_default=False)],
    quota_day: Annotated[int, typer.Option(help="每日条数 | most records a day", min=1)] = 10_000,
) -> None:
    """新建密钥，只显示一次 | Make a key; it is shown this once.

    Example: shufang client key add loans --home bank-yun --purpose identity-check --quota-day 2000
    """
    with _books(home) as books:
        typer.echo(books.add_key(name, purpose=purpose, quota_day=quota_day, now=_now()))


@keys.command("list")
def key_list(home: Home, *, as_json: Json = False) -> None:
    """列出密钥 | List the keys.

    Example: shufang client key list --home bank-yun
    """
    with _books(home) as books:
        rows = [
            {name: getattr(key, name) for name in ("name", "state", "purpose", "quota_day", "used_today", "made_at")}
            for key in books.keys(now=_now())
        ]
    _print(rows, as_json=as_json)


@keys.command("revoke")
def key_revoke(name: Name, home: Home) -> None:
    """撤销密钥，不可恢复 | Revoke a key for good.

    Example: shufang client key revoke loans --home bank-yun
    """
    with _books(home) as books:
        books.set_state(name, "revoked")


@keys.command("release")
def key_release(name: Name, home: Home) -> None:
    """查明警报后恢复密钥 | Let a key that an alarm holds be used again.

    Example: shufang client key release loans --home bank-yun
    """
    with _books(home) as books:
        books.set_state(name, "active")


@app.command("usage")
def usage(home: Home, *, as_json: Json = False) -> None:
    """用量：按日、密钥、用途 | Calls and records by day, key and purpose.

    Example: shufang client usage --home bank-yun
    """
    with _books(home) as books:
        _print(books.usage(), as_json=as_json)


@app.command("alarms")
def alarms(home: Home, *, as_json: Json = False) -> None:
    """警报：疑似枚举的调用 | Alarms: calls that look like going through a register.

    Example: shufang client alarms --home bank-yun
    """
    with _books(home) as books:
        _print(books.alarms(), as_json=as_json)


@app.command("receipts")
def receipts(home: Home, *, as_json: Json = False) -> None:
    """核对每批的双方签名与条数 | Check both signatures under every batch, and the numbers.

    Exit 1 if one does not hold.

    Example: shufang client receipts --home bank-yun
    """
    from factory.client.receipts import check
    from factory.identity import load_identity
    from factory.trust import load_trust

    identity = load_identity(home)
    with _books(home) as books:
        summary = check(books.receipts(), load_trust(identity.trust_path, now=_now()).actors)
    _print(summary.by_session, as_json=as_json)
    if summary.wrong:
        typer.echo(f"{len(summary.wrong)} 份不成立 do not hold: {summary.wrong[0]}", err=True)
        raise typer.Exit(1)


def verify_entity(
    values: Annotated[
        list[str], typer.Argument(metavar="FIELD=VALUE…", help="每个字段一项 | one for every field", show_default=False)
    ],
    *,
    invitation: Annotated[Path, typer.Option("--invitation", help="邀请文件 | invitation", show_default=False)],
    home: Home,
    relay: Relay,
    whole_table: Whole = False,
    as_json: Json = False,
) -> None:
    """核验一条记录：是或否 | Verify one record: yes or no. Exit 0 yes, 1 no.

    Example: shufang verify-entity name=张三 id_no=11010119900307777X --invitation invitation.bin --home bank-yun --relay https://127.0.0.1:8444
    """  # noqa: E501  one command in one line
    from factory.client.ask import shown

    record: dict[str, str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not (name and equals) or name in record:
            raise typer.BadParameter(f"应为 字段=值，每个一次 | expected FIELD=VALUE, each field once, got {text}")
        record[name] = value
    with _matcher(home, relay, invitation, whole_table=whole_table) as matcher, _books(home) as books:
        session = matcher.order.session_id
        matcher.keep = lambda receipt: books.keep_receipt(receipt, session=session, now=_now())
        (found,) = matcher.look_up([record])
    if as_json:
        typer.echo(json.dumps(shown(found), ensure_ascii=False))
    else:
        typer.echo(("是 yes" if found.match else "否 no") + (f"  {found.band}" if found.band else ""))
    raise typer.Exit(0 if found.match else 1)


@contextmanager
def _books(home: Path) -> Iterator["Books"]:
    from factory.client.books import Books
    from factory.identity import load_identity

    load_identity(home)
    books = Books(home)
    try:
        yield books
    finally:
        books.close()


@contextmanager
def _matcher(home: Path, relay: str, invitation: Path, *, whole_table: bool) -> Iterator["Matcher"]:
    from factory.client.ask import hold_table
    from factory.client.match import Invitation as Invited
    from factory.client.match import InvitationError, Matcher
    from factory.hub.relay_bus import RelayBus
    from factory.identity import load_identity
    from factory.site.operator import relay_plane
    from factory.trust import load_trust

    identity = load_identity(home)
    try:
        invited = Invited.from_bytes(invitation.read_bytes())
    except OSError as error:
        raise InvitationError(f"expected an invitation at {invitation} ({error.strerror})") from error
    bus = RelayBus(identity.id, relay_plane(identity, relay))
    try:
        matcher = Matcher(
            client=identity.id,
            key=identity.key,
            sealing_key=identity.sealing_key,
            actors=load_trust(identity.trust_path, now=_now()).actors,
            bus=bus,
            invitation=invited,
        )
        if whole_table:
            hold_table(matcher, home / "tables")
        yield matcher
    finally:
        bus.close()


def _print(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        typer.echo("  ".join(f"{name}={value}" for name, value in row.items()))
    if not rows:
        typer.echo("无 none")


def _now() -> datetime:
    return datetime.now(UTC)
