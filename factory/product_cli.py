"""``shufang request`` and ``shufang product``: the operator's own acts, step by step."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.site.processes import quoted
from factory.terminal import show

if TYPE_CHECKING:
    from factory.site.operator import OperatorDesk

request_app = typer.Typer(help="用数申请 | Data requests.", no_args_is_help=True, add_completion=False)
app = typer.Typer(help="产品 | Products, from build to package.", no_args_is_help=True, add_completion=False)

Home = Annotated[Path, typer.Option("--home", help="部署目录 | folder of the deployment")]
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")]
Product = Annotated[str, typer.Argument(help="产品 id@版本 | product id@version")]
_HOME = Path("out/site")


@request_app.command("submit")
def submit(file: Annotated[Path, typer.Argument()], home: Home = _HOME, as_json: AsJson = False) -> None:
    """提交用数申请 | Submit a data request (TOML), fields justified one by one.

    Example: shufang request submit clinic-request.toml --home out/site
    """
    from factory.registry.request import read_request

    with _desk(home) as desk:
        request = read_request(file.read_text("utf-8"), operator=desk.identity.id, now=_now())
        body = desk.agency().submit_request(request.to_payload())
    show(
        body,
        as_json=as_json,
        text=f"{body['request_id']}：{body['state']}\n"
        f"Next, at the agency: shufang agency rule {body['request_id']} --home AGENCY …",
    )


@request_app.command("status")
def request_status(request_id: Annotated[str, typer.Argument()], home: Home = _HOME, as_json: AsJson = False) -> None:
    """申请进展与核减字段 | Where a request stands, and what was cut."""
    with _desk(home) as desk:
        show(desk.agency().request_status(request_id), as_json=as_json)


@request_app.command("offer")
def offer(request_id: Annotated[str, typer.Argument()], home: Home = _HOME, as_json: AsJson = False) -> None:
    """把已签授权送达部门 | Take the grant that both registrars signed to its departments.

    Each department then decides: shufang-node grants approve GRANT.
    """
    from factory.demo.acts import offer_grant

    with _desk(home) as desk:
        grant, digest, states = offer_grant(desk, request_id)
    show(
        {"grant_id": grant.grant_id, "grant_sha256": digest, "states": states},
        as_json=as_json,
        text=f"{grant.grant_id}\n"
        + "".join(f"  {node}: {state}\n" for node, state in states.items())
        + f"Next, in each department: shufang-node grants approve {grant.grant_id}",
    )


@app.command("list")
def list_products(home: Home = _HOME, as_json: AsJson = False) -> None:
    """产品列表 | Products and where they stand."""
    from factory.registry.store import Registry
    from factory.site.founding import open_site

    with Registry.at(open_site(home).operator / "registry.db") as registry:
        rows = [
            {"product": case.id, "form": case.document["form"], "state": case.state, "grant": case.document["grant"]}
            for case in registry.cases("product")
        ]
    show(rows, as_json=as_json, text="\n".join(f"{r['product']:<28} {r['form']:<13} {r['state']}" for r in rows))


@app.command("show")
def show_product(
    product: Annotated[str, typer.Argument(help="产品 id@版本,或登记编码 | product id@version, or registration code")],
    home: Home = _HOME,
    as_json: AsJson = False,
) -> None:
    """产品的来龙去脉 | One product: every act; by its registration code: whence, whither, who did what, who answers.

    Example: shufang product show SF-2026-MD-00000001-H2 --home out/site
    """
    from products import registration_code

    if registration_code.is_valid(product):
        _show_code(product, home, as_json=as_json)
        return
    from factory.registry.store import Registry
    from factory.site.founding import open_site

    with Registry.at(open_site(home).operator / "registry.db") as registry:
        case, events = registry.get("product", product), registry.events(kind="product", case_id=product)
    rows = [event.body for event in events]
    lines = [f"{case.id}  {case.state}"]
    lines += [f"  {row['at']}  {row['act']:<18} {row['actor']}  {row.get('reason', '')}" for row in rows]
    show({"product": case.id, "state": case.state, "events": rows}, as_json=as_json, text="\n".join(lines))


def _show_code(code: str, home: Path, *, as_json: bool) -> None:
    from factory.site.founding import open_site
    from products.lineage import find_package, four_answers

    site = open_site(home)
    package = find_package(site.packages, code)
    if package is None:
        show({"registration": code, "found": False}, as_json=as_json, text=f"{code}：{site.packages} 中没有此产品")
        raise typer.Exit(1)
    found = four_answers(package)
    lines = [f"{found['registration']}  {found['product']}", "从哪里来 Whence"]
    lines += [
        f"  {row['resource']}  {row['holder']}  {row['platform']} {row['registration']}  "
        f"质量 quality {row['quality_score_x100'] / 100:.2f}"
        for row in found["whence"]
    ]
    whither = found["whither"]
    lines += ["到哪里去 Whither", f"  {whither['scenario']} ({whither['purpose']})  {whither['grant']}"]
    lines += [f"  至 until {whither['valid_until']}", "谁做了什么 Who did what"]
    lines += [f"  {row['log_index']:>6}  {row['signer']:<14} {row['statement']}" for row in found["who_did_what"]]
    lines += ["谁负责 Who answers for it"]
    lines += [f"  {row['actor']:<14} {row['name_zh']} ({', '.join(row['roles'])})" for row in found["who_answers"]]
    lines += [f"核验 verify: shufang verify {package} --root …"]
    show(found, as_json=as_json, text="\n".join(lines))


@app.command("build")
def build(
    recipe: Annotated[Path, typer.Argument(help="配方 | recipe (TOML)")],
    request: Annotated[str, typer.Option("--request", help="已授权的申请 | the granted request")],
    home: Home = _HOME,
    as_json: AsJson = False,
) -> None:
    """按配方构建产品 | Build a product from a recipe, under the grant of a request."""
    from factory.demo.acts import build_product, granted
    from factory.pipelines.recipe import read_recipe

    section = read_recipe(recipe).product
    with _desk(home) as desk:
        desk.workshop().require_buildable(f"{section.id}@{section.version}")  # before a use of the grant is spent
        grant, digest, envelopes = granted(desk, request)
        built = build_product(
            desk, recipe, grant, digest, envelopes, progress=lambda text: None if as_json else typer.echo(f"  {text}")
        )
        product = desk.workshop().take(built, envelopes)
    lines = [f"{zh} · {en}" for zh, en in built.headline]
    show(
        {"product": product, "metrics": dict(built.metrics), "state": "built"},
        as_json=as_json,
        text="\n".join([*lines, f"{product} built. Next: shufang product test {product}"]),
    )


@app.command("test")
def run_tests(product: Product, home: Home = _HOME, as_json: AsJson = False) -> None:
    """自动测试与发布前十项评估 | Automated tests and the ten pre-release items. Exit 1 when one fails."""
    with _desk(home) as desk:
        findings = desk.workshop().test(product)
    lines = [f"{'✓' if f.is_ok else '✗'} {f.title_zh} · {f.title_en}: {f.value} ≤ {f.limit} {f.unit}" for f in findings]
    show(
        [finding.to_json() for finding in findings],
        as_json=as_json,
        text="\n".join([*lines, f"Next: shufang product review {product}"]),
    )


@app.command("review")
def review(product: Product, home: Home = _HOME, as_json: AsJson = False) -> None:
    """准备评审材料 | Have nodes and operator sign the joint statements and lay the bundle for two reviewers."""
    with _desk(home) as desk:
        folder = desk.workshop().lay_bundle(product)
    show(
        {"bundle": folder},
        as_json=as_json,
        text=f"{folder}\nNext, two reviewers of two bodies: "
        f"shufang review sign {quoted(folder)} --home REVIEWER --approve",
    )


@app.command("register")
def register(product: Product, home: Home = _HOME, as_json: AsJson = False) -> None:
    """申请登记 | Deliver the pre-release report, store the evidence and apply for registration."""
    with _desk(home) as desk:
        application = desk.workshop().register(product)
    show(
        {"application_id": application},
        as_json=as_json,
        text=f"{application}\nNext, at the agency: shufang agency register {application} --home AGENCY --approve …",
    )


@app.command("renew")
def renew(product: Product, home: Home = _HOME, as_json: AsJson = False) -> None:
    """申请续证 | Ask to renew a registration, from 60 days before its end."""
    _ask(product, home, "renewal", reason="续证 renewal", as_json=as_json)


@app.command("correct")
def correct(
    *,
    product: Product,
    field: Annotated[str, typer.Option("--field", help="更正的项目 | what to correct, e.g. product.summary")],
    value: Annotated[str, typer.Option("--value", help="更正为 | the right text")],
    reason: Annotated[str, typer.Option("--reason", help="理由 | why")],
    home: Home = _HOME,
    as_json: AsJson = False,
) -> None:
    """申请更正 | Ask to correct a text of a registration; what was signed changes with a new version only."""
    _ask(product, home, "correction", reason=reason, field=field, value=value, as_json=as_json)


@app.command("cancel")
def cancel(
    product: Product,
    reason: Annotated[str, typer.Option("--reason", help="理由 | why")],
    home: Home = _HOME,
    as_json: AsJson = False,
) -> None:
    """申请注销 | Ask to cancel a registration."""
    _ask(product, home, "cancellation", reason=reason, as_json=as_json)


@app.command("file")
def file_nationally(
    product: Product,
    home: Home = _HOME,
    status: Annotated[bool, typer.Option("--status", help="只看进展 | only say where it stands")] = False,
    as_json: AsJson = False,
) -> None:
    """申报国家登记平台 | File with the national register, within 20 working days of delivery; again once returned.

    Acceptance within 3, form review within 20, publicity of 10 working days; then the national code.
    """
    with _desk(home) as desk:
        agency, application = desk.agency(), _application(product)
        body = agency.national_status(application) if status else agency.file_nationally(application)
    due = f"，至 until {body['due']}" if body["due"] else ""
    show(
        body,
        as_json=as_json,
        text=f"{application}：{body['state']}{due}\nNext, at the agency: shufang agency national accept {application} "
        "--home AGENCY --official …",
    )


def _application(product: str) -> str:
    return f"reg-{product.replace('@', '-')}"[:96]


def _ask(
    product: str, home: Path, kind: str, *, reason: str, field: str = "-", value: str = "-", as_json: bool
) -> None:
    application = _application(product)
    with _desk(home) as desk:
        body = desk.agency().ask_registration(application, kind, reason=reason, field=field, value=value)
    show(
        body,
        as_json=as_json,
        text=f"{body['application_id']}：{body['state']}\nNext, at the agency: shufang agency settle {application} "
        "--home AGENCY --approve --official … --reason …",
    )


@app.command("uses")
def uses(home: Home = _HOME, as_json: AsJson = False) -> None:
    """用数目录与每次使用 | Every use: resource, grant, run, purpose and time."""
    from factory.registry.store import Registry
    from factory.site.founding import open_site
    from factory.use_register import UseRegister

    with Registry.at(open_site(home).operator / "registry.db") as registry:
        rows = UseRegister(registry).uses()
    show(
        rows, as_json=as_json, text="\n".join(f"{r['at']}  {r['resource']:<28} {r['grant']}  {r['run']}" for r in rows)
    )


@app.command("contribution")
def contribution_command(
    worth: Annotated[
        Path, typer.Argument(help='各组合的成效 JSON：{"": 0.5, "a": 0.6, "a+b": 0.8} | worth per coalition')
    ],
    run: Annotated[
        list[str], typer.Option("--run", help="有签名运行记录的部门 | department with a signed run, repeatable")
    ],
    seed: Annotated[int, typer.Option("--seed", help="抽样种子 | seed, beyond ten departments")] = 0,
    as_json: AsJson = False,
) -> None:
    """计量各部门贡献 | Measure each department's contribution to a product.

    Example: shufang product contribution worth.json --run node-east --run node-west --run node-north
    """
    import json

    from factory.contribution import contribution, worth_from

    table = json.loads(worth.read_bytes())
    names = sorted({name for key in table for name in key.split("+") if name})
    made = contribution(names, worth_from(table), runs=run, seed=seed)
    lines = [f"{name:<20} {made.shapley[name]:8.4f}  {100 * share:6.2f} %" for name, share in made.shares.items()]
    show(made, as_json=as_json, text="\n".join([made.method, *lines]))


@app.command("release")
def release(
    product: Product,
    home: Home = _HOME,
    dest: Annotated[Path | None, typer.Option("--dest", help="产品包目录 | folder of the package")] = None,
    as_json: AsJson = False,
) -> None:
    """发布产品 | Sign the release; once both registrars have signed it too, write the package.

    Run it once, let both registrars run `shufang release sign`, then run it again.
    """
    from factory.release.errors import SigningRefusedError

    with _desk(home) as desk:
        workshop = desk.workshop()
        folder = workshop.lay_release(product)
        target = dest or desk.site.packages / product.replace("@", "_")
        try:
            workshop.package(product, target)
        except SigningRefusedError as error:
            show(
                {"release": folder, "package": None, "waits_for": str(error)},
                as_json=as_json,
                text=f"{error}\nNext, each registrar: shufang release sign {quoted(folder)} --home REGISTRAR",
            )
            raise typer.Exit(1) from None
    show(
        {"release": folder, "package": target},
        as_json=as_json,
        text=f"{target}\nNext: shufang verify {quoted(target)} --root {quoted(home / '1.root.json')} --trust "
        f"{quoted(home / 'agency' / 'trust')}",
    )


def _desk(home: Path) -> "OperatorDesk":
    from factory.site.founding import open_site
    from factory.site.operator import OperatorDesk

    return OperatorDesk(open_site(home))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
