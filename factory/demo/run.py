"""The main job for real: found, assess, request, rule, refuse, build, review, register, release, verify.

This process is the operator. Everybody else acts in processes of their own, on homes of
their own: departments, agency, registrars, reviewers, the application unit, the witness.
"""

import json
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from factory.client.match import Invitation
from factory.demo.acts import AGREEMENT, build_product, request_text
from factory.demo.governing import rule, sign_and_approve, submit
from factory.demo.narrator import Narrator
from factory.demo.questions import write_questions
from factory.demo.refusals import Probe, Shown, refused_orders, show_altered, show_expired, show_held
from factory.demo.tables import assess, bind_tables, catalogue_tables, deliver_again, lay_tables, register_personal
from factory.demo.trialling import try_questions
from factory.errors import FactoryError
from factory.pipelines.recipe import Recipe, read_recipe
from factory.pipelines.verification import Trial
from factory.site.founding import UNFINISHED, found_site, made_whole
from factory.site.layout import DEPARTMENTS, HOSPITALS, OPERATOR, REGISTRARS, REVIEWERS, Site
from factory.site.operator import OperatorDesk
from factory.site.processes import quoted, run_module, run_modules
from factory.site.stack import start_stack, status_of, stop_stack
from nodes.contract.grant import Grant
from nodes.contract.signing import Envelope, sha256_hex

CLI, NODE_CLI = "factory.cli", "nodes.cli"
RECIPES = Path(__file__).parent / "recipes"
FORMS = ("model", "report", "verification")
DATA_FOLDERS = ("heart_disease_4site", "beijing_gov_open")


class DemoFolderError(FactoryError):
    """The output folder holds something that is not an earlier run of the main job."""

    code = "demo.folder"


class DemoDataError(FactoryError):
    """The folder after ``--data`` does not hold the open tables."""

    code = "demo.data"


@dataclass(slots=True)
class _Job:
    site: Site
    tell: Narrator
    data: Path | None
    recipes: dict[str, Path] = field(default_factory=dict)
    grants: dict[str, tuple[Grant, str, list[Envelope]]] = field(default_factory=dict)
    canaries: dict[str, list[str]] = field(default_factory=dict)
    quality: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[Shown] = field(default_factory=list)
    products: dict[str, str] = field(default_factory=dict)
    packages: dict[str, Path] = field(default_factory=dict)


def run_demo(out: Path, *, data: Path | None = None, keep: bool = False) -> int:
    """Run the main job into ``out`` and return the exit code: 0 if every package verifies.

    Args:
        out: folder that is made anew; an earlier run in it is removed.
        data: folder with open tables; the built-in ones if not given.
        keep: leave the processes running.

    Raises:
        FactoryError: a step failed; what ran is ended.
    """
    missing = [name for name in DATA_FOLDERS if data is not None and not (data / name).is_dir()]
    if missing:
        raise DemoDataError(
            f"expected the folders {' and '.join(DATA_FOLDERS)} in {data}, missing: {', '.join(missing)}; name the "
            "folder of the open tables after --data"
        )
    _clear(out)
    departments = DEPARTMENTS if data is None else HOSPITALS
    job = _Job(Site(out.absolute(), departments), Narrator(), None if data is None else data.absolute())
    prefix = "builtin" if data is None else "open"
    job.recipes = {form: RECIPES / f"{prefix}-{form}.toml" for form in FORMS}
    try:
        _prepare(job)
        with OperatorDesk(job.site) as desk:
            _govern(job, desk)
            probe = _refuse(job, desk)
            _build(job, desk)
            with job.tell.step("节点拒绝：过期授权", "refused: expired grant"):
                _say(job, show_expired(desk, probe))
        _release(job)
        code = _verify(job)
        _finish(job, code)
    finally:
        if keep and status_of(job.site) is not None:
            job.tell.plain(f"仍在运行 still running; 结束 end it: shufang down --home {quoted(out)}")
        else:
            stop_stack(job.site)
    return code


def _prepare(job: _Job) -> None:
    site, tell = job.site, job.tell
    count = len(site.departments)
    with (
        tell.step(f"建立各方身份与信任根，{count} 个部门入网", f"keys, trust root, enrolment of {count} departments"),
        made_whole(site.folder),
    ):
        found_site(site, tell=tell.progress)
    faulty = site.departments[1]
    with tell.step("部门登记数据表并检查质量", "departments bind tables and assess their quality"):
        job.canaries = lay_tables(site, data=job.data, faulty=faulty)
        job.quality = bind_tables(site)
        for row in job.quality:
            score = "—" if row["score_x100"] is None else f"{row['score_x100'] / 100:.2f}"
            mark = "可用 active" if row["state"] == "active" else f"暂停 {row['state']}"
            tell.line(f"{row['resource']:<22} {score:>6}  {mark}")
    with tell.step("部门自审并提交目录条目，数据管理部门确认", "reviewed entries submitted and confirmed"):
        catalogue_tables(site)
    with tell.step(
        f"启动枢纽、中继、机构服务、见证方与 {count} 个节点",
        f"hub, relay, agency, witness and {count} nodes as processes",
    ):
        start_stack(site)


def _govern(job: _Job, desk: OperatorDesk) -> None:
    site, tell = job.site, job.tell
    with tell.step("三个场景：逐字段申请、机构审定、登记员与部门签署授权", "three requests, rulings and signed grants"):
        agreement = site.folder / "agreement.toml"
        agreement.write_text(_agreement(job), "utf-8")
        run_module(CLI, "agency", "agreement", str(agreement), "--home", str(site.agency), "--official", "王芳")
        for form, path in job.recipes.items():
            recipe = read_recipe(path)
            job.grants[form] = _grant(job, desk, recipe, form)
            grant = job.grants[form][0]
            tell.line(f"{grant.grant_id}  {grant.scenario_title}  {len(job.grants[form][2])} 方签署 signatures")


def _grant(job: _Job, desk: OperatorDesk, recipe: Recipe, form: str) -> tuple[Grant, str, list[Envelope]]:
    site, tell = job.site, job.tell
    columns = {column for party in recipe.parties for column in party.columns}
    reasons = dict.fromkeys(
        sorted(columns), f"{recipe.scenario.title_zh}所必需 necessary for {recipe.scenario.title_en}"
    )
    extra = {party.resource: [_unneeded(recipe, form)] for party in recipe.parties} if form == "model" else {}
    text = request_text(recipe, reasons, extra=extra)
    path = site.operator / "requests" / f"{form}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    request_id = submit(desk, text)
    status = rule(site, request_id)
    for cut in status.get("cuts", []):
        tell.line(f"核减 cut: {cut['resource']} {cut['column']}（{cut['reason']}）")
    for party in recipe.parties:
        if party.resource.endswith(".persons"):
            register_personal(
                site, node=party.node, resource=party.resource, columns=party.columns, purpose=recipe.scenario.purpose
            )
    return sign_and_approve(site, desk, request_id, str(status["folder"]))


def _refuse(job: _Job, desk: OperatorDesk) -> Probe:
    site, tell = job.site, job.tell
    grant, digest, _ = job.grants["model"]
    faulty = site.departments[1]
    with tell.step("质量闸门：不合格的表不参加任何计算，整改后恢复", "quality gate: held, then rectified"):
        held = show_held(desk, grant, digest, faulty.node, read_recipe(job.recipes["model"]))
        job.refusals.append(held)
        tell.line(f"{held.node} 拒绝 refused: {held.code}")
        resource = next(
            party.resource for party in read_recipe(job.recipes["model"]).parties if party.node == faulty.node
        )
        deliver_again(site, faulty, data=job.data)
        fresh = {row["resource"]: row for row in assess(site, faulty)}
        for row in job.quality:
            row.update(fresh.get(row["resource"], {}))
        again = next(row for row in job.quality if row["resource"] == resource)
        tell.line(f"整改后 after rectification: {resource} {again['state']} {again['score_x100'] / 100:.2f}")
    with tell.step(
        "节点拒绝：越权字段、超次使用、途中篡改", "refused: ungranted column, over-use, alteration in transit"
    ):
        shown, probe = refused_orders(job.site, desk, job.recipes["model"])
        for one in (*shown, show_altered(desk, grant, digest)):
            _say(job, one)
    return probe


def _say(job: _Job, shown: Shown) -> None:
    job.refusals.append(shown)
    job.tell.line(f"{shown.title_zh} {shown.title_en}: {shown.code}")


def _build(job: _Job, desk: OperatorDesk) -> None:
    site, tell = job.site, job.tell
    canaries = tuple(value for values in job.canaries.values() for value in values)
    for form, path in job.recipes.items():
        recipe = read_recipe(path)
        grant, digest, envelopes = job.grants[form]
        bank = _Bank(site, recipe)
        with tell.step(f"构建：{recipe.product.name_zh}", f"build: {recipe.product.name_en}"):
            built = build_product(desk, path, grant, digest, envelopes, progress=tell.progress, trial=bank)
            for zh, en in built.headline:
                tell.line(zh, en)
            if bank.answers:
                yes, right = sum(bank.answers), sum(map(bool.__eq__, bank.answers, bank.expected))
                tell.line(
                    f"应用单位所见：{yes} 是、{len(bank.answers) - yes} 否，{right} 条与事实一致",
                    f"the bank sees {yes} yes, {len(bank.answers) - yes} no; {right} are right",
                )
            workshop = desk.workshop(canaries)
            job.products[form] = workshop.take(built, envelopes)
        with tell.step("自动测试与发布前十项评估", "automated tests and the ten pre-release items"):
            for finding in workshop.test(job.products[form]):
                tell.line(
                    f"{'✓' if finding.is_ok else '✗'} {finding.title_zh} {finding.value} ≤ {finding.limit}",
                    finding.title_en,
                )


@dataclass(slots=True)
class _Bank:
    """The application unit in its trial: what it asked, what it got, what is true."""

    site: Site
    recipe: Recipe
    answers: list[bool] = field(default_factory=list)
    expected: list[bool] = field(default_factory=list)

    def __call__(self, invitation: Invitation) -> Trial:
        questions, self.expected = write_questions(self.site, self.recipe)
        result, self.answers = try_questions(self.site, invitation, questions)
        return result


def _release(job: _Job) -> None:
    site, tell = job.site, job.tell
    with OperatorDesk(site) as desk:
        workshop = desk.workshop()
        with tell.step("两位外部评审人评审", "review by two persons of two other bodies"):
            bundles = {product: workshop.lay_bundle(product) for product in job.products.values()}
            run_modules(
                [
                    (CLI, "review", "sign", str(bundle), "--home", str(site.home(office.id)), "--approve")
                    for bundle in bundles.values()
                    for office in REVIEWERS
                ]
            )
        with tell.step("存证、登记赋码", "evidence into the log, registration"):
            run_module(CLI, "key-event", "store", "--agency", str(site.agency), "--log", str(site.log))
            for product in bundles:
                application = workshop.register(product)
                text = run_module(
                    CLI, "agency", "register", application, "--home", str(site.agency), "--approve",
                    "--official", "李强", "--reason", "七项内容齐备，存证在先", "--json",
                )  # fmt: skip
                tell.line(f"{product}  {json.loads(text.strip().splitlines()[-1])['code']}")
        with tell.step("节点、运营机构、两名登记员签署发布", "nodes, operator and two registrars sign the releases"):
            for form, product in job.products.items():
                folder = workshop.lay_release(product)
                run_modules(
                    [
                        (CLI, "release", "sign", str(folder), "--home", str(site.home(office.id)))
                        for office in REGISTRARS
                    ]
                )
                package = site.packages / product.replace("@", "_")
                workshop.package(product, package)
                job.packages[form] = package


def _verify(job: _Job) -> int:
    site, tell = job.site, job.tell
    worst = 0
    pin = site.folder / "trust-root.sha256"
    pin.write_text(sha256_hex((site.folder / "1.root.json").read_bytes()) + "\n")
    shutil.copytree(site.agency / "trust", site.folder / "trust", ignore=shutil.ignore_patterns("pending", "*.lock"))
    with tell.step("离线核验每个产品包", "verify every package offline"):
        for package in job.packages.values():
            text = run_module(
                "products", "verify", str(package), "--root", pin.read_text().strip(),
                "--trust", str(site.folder / "trust"), "--json", accept=(0, 1, 2, 3),
            )  # fmt: skip
            report = json.loads(text)
            worst = max(worst, int(report["exit_code"]))
            tell.line(f"{package.name}: {report['verdict']}, {len(report['checks'])} 项检查 checks")
    return worst


def _finish(job: _Job, code: int) -> None:
    site, tell = job.site, job.tell
    root = (site.folder / "trust-root.sha256").read_text().strip()
    commands = {
        form: f"shufang verify {quoted(package)} --root {root} --trust {quoted(site.folder / 'trust')}"
        for form, package in job.packages.items()
    }
    reports = sorted({str(Path(row["folder"]) / "report.zh.html") for row in job.quality})
    summary = {
        "exit_code": code,
        "seconds": round(tell.elapsed_s, 1),
        "packages": {form: str(package) for form, package in job.packages.items()},
        "verify": commands,
        "quality_reports": reports,
        "refusals": [{"what": shown.title_en, "node": shown.node, "code": shown.code} for shown in job.refusals],
        "steps": [{"step": name, "seconds": round(took, 1)} for name, took in tell.timings],
    }
    (site.folder / "demo.json").write_text(json.dumps(summary, ensure_ascii=False, indent=1) + "\n", "utf-8")
    tell.plain()
    tell.plain(f"完成 done: {tell.elapsed_s:.0f} s")
    tell.plain("质量报告 quality reports:")
    for path in reports:
        tell.plain(f"  {path}")
    tell.plain("产品包与核验命令 packages and how to verify them:")
    for form, command in commands.items():
        tell.plain(f"  {form}: {job.packages[form]}")
        tell.plain(f"    .venv/bin/{command}")


def _agreement(job: _Job) -> str:
    resources = sorted({row["resource"] for row in job.quality})
    now = _now()
    return (
        f'agreement_id = "{AGREEMENT}"\ntitle = "云州市公共数据资源授权运营协议"\noperator = "{OPERATOR.id}"\n'
        f'agency = "org-agency"\nmode = "overall"\nresources = {json.dumps(resources)}\n'
        'product_forms = ["model", "report", "verification"]\n'
        f'not_before = "{now - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"\n'
        f'not_after = "{now + timedelta(days=3 * 365):%Y-%m-%dT%H:%M:%SZ}"\n'
    )


def _unneeded(recipe: Recipe, form: str) -> str:
    """Return a column that the scenario could do without; asked for to show the cut."""
    return "mean_fractal_dimension" if recipe.product.id == "clinic-risk" else "slope" if form == "model" else ""


def _clear(out: Path) -> None:
    if not out.exists() or (out / UNFINISHED).exists():
        return
    if not out.is_dir() or (not (out / "agency").exists() and any(out.iterdir())):
        raise DemoFolderError(
            f"expected an empty folder or an earlier run of the main job in {out}; choose another --out"
        )
    if (out / "site.json").exists():
        departments = json.loads((out / "site.json").read_text("utf-8"))["departments"]
        stop_stack(Site(out.absolute(), DEPARTMENTS if len(departments) == len(DEPARTMENTS) else HOSPITALS))
    shutil.rmtree(out)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
