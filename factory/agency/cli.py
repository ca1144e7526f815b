"""``shufang agency`` and ``shufang identity``: the officials' and registrars' acts, one home per command.

Errors are raised as they are; the top-level command line turns them into exit codes.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from factory.agency.catalogue_cli import app as catalogue_app
from factory.agency.standing_cli import (
    cooperation_command,
    incident_app,
    protection_command,
    review_input_command,
    standing_app,
)
from factory.site.processes import quoted
from factory.terminal import show

if TYPE_CHECKING:
    from factory.agency.office import Office
    from factory.lifecycle.request import Cut
    from factory.registry.store import Registry

app = typer.Typer(
    help="实施机构：信任数据、用数申请审定、登记 | The agency: trust data, rulings, registration.",
    no_args_is_help=True,
    add_completion=False,
)
key_app = typer.Typer(
    help="密钥事件 | Key events: every key that came, changed or ended.", no_args_is_help=True, add_completion=False
)
app.add_typer(catalogue_app, name="catalogue")
app.add_typer(standing_app, name="standing")
app.add_typer(incident_app, name="incident")
app.command("review-input")(review_input_command)
app.command("cooperation")(cooperation_command)
app.command("protection")(protection_command)
identity_app = typer.Typer(
    help="身份与密钥 | Identity homes and their keys.", no_args_is_help=True, add_completion=False
)

Home = Annotated[Path, typer.Option("--home", help="本机构目录 | home of who acts")]
Agency = Annotated[Path, typer.Option("--agency", help="实施机构目录 | the agency's home")]
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="加密静态密钥的口令文件，没有则生成 | encrypts the keys; made if missing"),
]
Official = Annotated[str, typer.Option("--official", help="经办人 | who decides")]
Reason = Annotated[str, typer.Option("--reason", help="理由 | why")]


@identity_app.command("init")
def identity_init(
    *,
    home: Home,
    actor_id: Annotated[str, typer.Option("--id", help="代号 | actor id")],
    organisation: Annotated[str, typer.Option("--organisation", help="所属机构 | organisation")],
    title_zh: Annotated[str, typer.Option("--title-zh", help="中文名称 | Chinese name")],
    title_en: Annotated[str, typer.Option("--title-en", help="英文名称 | English name")],
    role: Annotated[list[str], typer.Option("--role", help="角色 | role, may be repeated")],
    root: Annotated[Path | None, typer.Option("--root", help="1.root.json, handed over out of band")] = None,
    passphrase_file: PassphraseFile = None,
    gm: Annotated[bool, typer.Option("--gm", help="另生成国密密钥 | an SM2 key too, for second signatures")] = False,
    as_json: AsJson = False,
) -> None:
    """生成密钥与入网材料 | Make keys and the enrolment bundle.

    Example: shufang identity init --home reviewer-1 --id reviewer-1 --organisation univ --title-zh 评审一
    --title-en "Reviewer one" --role reviewer --root 1.root.json
    """
    from factory.identity import create_identity
    from nodes.contract.signing import sha256_hex

    identity = create_identity(
        home,
        actor_id=actor_id,
        organisation=organisation,
        title_zh=title_zh,
        title_en=title_en,
        roles=cast(Any, tuple(role)),  # checked by the enrolment model
        root=root.read_bytes() if root else None,
        passphrase_file=passphrase_file,
        with_sm2=gm,
    )
    path = home / "enrolment.json"
    show(
        {
            "id": identity.id,
            "enrolment": path,
            "sha256": sha256_hex(path.read_bytes()),
            "keyid": identity.key.public.keyid,
        },
        as_json=as_json,
    )


@identity_app.command("show")
def identity_show(home: Home, as_json: AsJson = False) -> None:
    """显示身份 | Show who a home belongs to."""
    from factory.identity import load_identity

    identity = load_identity(home)
    show(
        {
            "id": identity.id,
            "organisation": identity.organisation,
            "title_zh": identity.title_zh,
            "title_en": identity.title_en,
            "roles": identity.roles,
            "keyid": identity.key.public.keyid,
        },
        as_json=as_json,
    )


@identity_app.command("pin")
def identity_pin(home: Home, root: Annotated[Path, typer.Argument()], as_json: AsJson = False) -> None:
    """固定信任根 | Pin the agency's first root, handed over out of band."""
    from factory.identity import pin_root

    show({"root_sha256": pin_root(home, root.read_bytes())}, as_json=as_json)


@identity_app.command("install")
def identity_install(
    home: Home,
    answer: Annotated[Path, typer.Argument()],
    root: Annotated[Path | None, typer.Option("--root", help="1.root.json, pinned first if none is yet")] = None,
    as_json: AsJson = False,
) -> None:
    """安装实施机构答复 | Verify and install the agency's answer: certificate and trust data."""
    from factory.identity import install_admission, load_identity, pin_root

    identity = load_identity(home)
    if root is not None:
        pin_root(home, root.read_bytes())
    install_admission(identity, answer.read_bytes())
    show({"id": identity.id, "installed": True}, as_json=as_json)


@identity_app.command("rotate")
def identity_rotate(home: Home, as_json: AsJson = False) -> None:
    """更换签名密钥 | Make a new statement key, endorsed by the old one."""
    from factory.identity import load_identity, rotate_identity

    identity = rotate_identity(load_identity(home))
    show({"id": identity.id, "keyid": identity.key.public.keyid, "enrolment": home / "enrolment.json"}, as_json=as_json)


@identity_app.command("encrypt")
def identity_encrypt(
    home: Home,
    passphrase_file: Annotated[Path, typer.Argument(help="口令文件，0600 | file with the passphrase, mode 0600")],
    as_json: AsJson = False,
) -> None:
    """加密静态密钥 | Encrypt the keys of a home at rest; of an agency also its TLS authority."""
    from factory.identity import encrypt_keys
    from factory.key_files import encrypt_folder

    names = encrypt_keys(home, passphrase_file)
    if (home / "ca").is_dir():
        names += encrypt_folder(home / "ca", passphrase_file)
    show({"encrypted": names}, as_json=as_json)


@app.command("init")
def init(
    *,
    home: Home,
    organisation: Annotated[str, typer.Option("--organisation")],
    registrar: Annotated[list[Path], typer.Option("--registrar", help="登记员目录(两个) | registrars' homes, two")],
    root_folder: Annotated[
        list[Path], typer.Option("--root-folder", help="根密钥目录(三个) | folders for root keys, three")
    ],
    title_zh: Annotated[str, typer.Option("--title-zh")] = "实施机构",
    title_en: Annotated[str, typer.Option("--title-en")] = "Implementing agency",
    actor_id: Annotated[str, typer.Option("--id")] = "agency",
    tlog_policy: Annotated[Path | None, typer.Option("--tlog-policy", help="日志策略 | tlog-policy.txt")] = None,
    passphrase_file: PassphraseFile = None,
    root_passphrase_file: Annotated[
        list[Path] | None, typer.Option("--root-passphrase-file", help="根密钥口令文件(三个) | of the root keys, three")
    ] = None,
    jurisdiction: Annotated[
        str, typer.Option("--profile", help="辖区规则 | NATIONAL, SD, JN, JL, SZ or GD")
    ] = "NATIONAL",
    accept_proposed: Annotated[
        bool, typer.Option("--accept-proposed", help="采用建议的期限 | set words without numbers as proposed")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """建立实施机构 | Make the agency: TLS authority, trust root, first proposal of trust data.

    Next: each registrar runs `shufang agency sign-trust`, then `shufang agency publish`.
    """
    from factory.agency.office import create_office
    from factory.identity import TRUST_PUBLIC
    from factory.law.profile import known_code
    from nodes.contract.signing import sha256_hex
    from products.policy_shapes import DEFAULT_SHAPES
    from products.trust import DEFAULT_RELEASE_POLICY

    office = create_office(
        home,
        actor_id=actor_id,
        organisation=organisation,
        title_zh=title_zh,
        title_en=title_en,
        registrars=[(path / "enrolment.json").read_bytes() for path in registrar],
        registrar_trust_keys=[(path / TRUST_PUBLIC).read_bytes() for path in registrar],
        root_folders=root_folder,
        release_policy=DEFAULT_RELEASE_POLICY.to_bytes(),
        tlog_policy=tlog_policy.read_bytes() if tlog_policy else b"quorum none\n",
        policy_shapes=DEFAULT_SHAPES,
        passphrase_file=passphrase_file,
        root_passphrases=root_passphrase_file or (),
        jurisdiction=known_code(jurisdiction),
        accept_proposed=accept_proposed,
    )
    root = office.trust_folder / "root.json"
    show({"root": root, "root_sha256": sha256_hex(root.read_bytes()), "change": office.pending()}, as_json=as_json)


@app.command("admit")
def admit(
    *,
    home: Home,
    enrolments: Annotated[list[Path], typer.Argument()],
    answer: Annotated[
        list[Path] | None, typer.Option("--answer", help="节点的接口测试答复 | a node's answer to its interface test")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """提请接纳 | Propose to admit actors; compare the printed digests with their officers first.

    A node joins with its protection grade recorded and its interface test passed.
    """
    from factory.agency.interface import nodes_of, take_answer
    from factory.errors import InputError
    from nodes.contract.interface import InterfaceAnswer
    from nodes.contract.messages import parse
    from nodes.contract.signing import Envelope, sha256_hex

    office, rows = _office(home), []
    bundles = nodes_of([path.read_bytes() for path in enrolments]) if answer else {}
    for path in answer or ():
        claimed = parse(InterfaceAnswer, Envelope.from_bytes(path.read_bytes()).payload).node
        if claimed not in bundles:
            raise InputError(f"expected the enrolment of {claimed} beside its answer {path}")
        take_answer(office.identity, path.read_bytes(), bundles[claimed], now=office.now())
    for path in enrolments:
        data = path.read_bytes()
        rows.append({"enrolment": path, "sha256": sha256_hex(data), "change": office.admit(data)})
    show(rows, as_json=as_json)


@app.command("interface-test")
def interface_test(
    *,
    home: Home,
    nodes: Annotated[list[str], typer.Argument(help="节点代号 | actor ids of nodes")],
    out: Annotated[Path, typer.Option("--out", help="写入的目录 | folder for NODE.interface-test.json")],
    as_json: AsJson = False,
) -> None:
    """为节点生成接口测试 | Make an interface test for each node; it answers with `shufang-node interface`."""
    from factory.agency.interface import make_test
    from factory.files import write_atomic

    office, rows = _office(home), []
    out.mkdir(parents=True, exist_ok=True)
    for node in nodes:
        path = out / f"{node}.interface-test.json"
        write_atomic(path, make_test(office.identity, node, now=office.now()))
        rows.append({"node": node, "test": path})
    show(rows, as_json=as_json)


@app.command("rotate")
def rotate(home: Home, enrolment: Annotated[Path, typer.Argument()], as_json: AsJson = False) -> None:
    """提请更换密钥 | Propose new keys of an actor, endorsed by its old key."""
    show(_office(home).rotate(enrolment.read_bytes()), as_json=as_json)


@app.command("rotate-root")
def rotate_root_command(
    *,
    home: Home,
    earlier: Annotated[
        list[Path], typer.Option("--earlier", help="现用根密钥目录(两个) | folders of keys in force, two")
    ],
    root_folder: Annotated[
        list[Path], typer.Option("--root-folder", help="新根密钥目录(三个) | folders for new root keys, three")
    ],
    registrar: Annotated[list[Path], typer.Option("--registrar", help="登记员目录(两个) | registrars' homes, two")],
    root_passphrase_file: Annotated[
        list[Path] | None, typer.Option("--root-passphrase-file", help="根密钥口令文件(三个) | of the root keys, three")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """更换信任根密钥 | Replace the root keys; who pinned the first root follows by itself.

    Example: shufang agency rotate-root --home agency --earlier root/1 --earlier root/2 --root-folder new/1
    --root-folder new/2 --root-folder new/3 --registrar registrar-1 --registrar registrar-2
    """
    from factory.agency.office import rotate_root
    from factory.identity import TRUST_PUBLIC

    version = rotate_root(
        _office(home),
        earlier=earlier,
        folders=root_folder,
        registrar_trust_keys=[(path / TRUST_PUBLIC).read_bytes() for path in registrar],
        passphrases=root_passphrase_file or (),
    )
    show({"root_version": version}, as_json=as_json)


@app.command("remove")
def remove(home: Home, actor_id: Annotated[str, typer.Argument()], as_json: AsJson = False) -> None:
    """提请移除 | Propose that an actor takes no further part."""
    show(_office(home).remove(actor_id), as_json=as_json)


@app.command("compromise")
def compromise(
    home: Home,
    actor_id: Annotated[str, typer.Argument()],
    since: Annotated[datetime, typer.Option("--since", help="UTC, e.g. 2026-01-31T08:00:00")],
    keyid: Annotated[str | None, typer.Option("--key", help="仅此密钥 | key id of one key alone")] = None,
    as_json: AsJson = False,
) -> None:
    """提请标记密钥失密 | Propose that nothing an actor signed since then counts.

    What was witnessed before stays valid. New keys: `shufang agency admit`, as at first.
    """
    show(_office(home).compromise(actor_id, since=since.replace(tzinfo=UTC), keyid=keyid), as_json=as_json)


@key_app.command("list")
def key_event_list(agency: Agency, as_json: AsJson = False) -> None:
    """全部密钥事件 | Every key that came, changed or ended, and whether the log has it."""
    from factory.agency.key_events import read_events

    rows = read_events(agency)
    lines = [
        f"{row.version:>4} {row.event:<11} {row.actor:<16} {row.keyid[:12]} {row.at}  {'✓' if row.is_logged else '·'}"
        for row in rows
    ]
    show(rows, as_json=as_json, text="\n".join(lines))


@key_app.command("store")
def key_event_store(
    agency: Agency,
    log: Annotated[Path, typer.Option("--log", help="存证日志目录 | home of the log")],
    as_json: AsJson = False,
) -> None:
    """密钥事件存证 | Append the key events that are not in the log yet.

    Example: shufang key-event store --agency agency --log log
    """
    from factory.log.home import LogHome
    from factory.log.log import Log

    with Log.open(LogHome.read(log), now=datetime.now(UTC), wait_s=30.0) as opened:
        show({"appended": _office(agency).store_events(opened)}, as_json=as_json)


@app.command("status-set")
def status_set(
    *,
    home: Home,
    kind: Annotated[str, typer.Argument(help="grant|resource|product|key|actor|release")],
    subject: Annotated[str, typer.Argument()],
    state: Annotated[str, typer.Option("--state", help="suspended|revoked|superseded")],
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """提请暂停或撤销 | Propose a suspension or revocation."""
    from nodes.contract.trust import StatusItem

    office = _office(home)
    item = StatusItem.model_validate(
        {"subject_kind": kind, "subject": subject, "state": state, "since": office.now(), "reason": reason}
    )
    show(office.set_status(item), as_json=as_json)


@app.command("status-clear")
def status_clear(
    home: Home,
    kind: Annotated[str, typer.Argument()],
    subject: Annotated[str, typer.Argument()],
    as_json: AsJson = False,
) -> None:
    """提请解除暂停 | Propose to lift a suspension."""
    show(_office(home).clear_status(kind, subject), as_json=as_json)


@app.command("target-set")
def target_set(
    home: Home, name: Annotated[str, typer.Argument()], file: Annotated[Path, typer.Argument()], as_json: AsJson = False
) -> None:
    """提请更换策略文件 | Propose new bytes of a policy target."""
    show(_office(home).set_target(name, file.read_bytes()), as_json=as_json)


@app.command("pending")
def pending(home: Home, as_json: AsJson = False) -> None:
    """待签的信任数据 | What waits for the registrars."""
    show(_office(home).pending(), as_json=as_json)


@app.command("sign-trust")
def sign_trust_command(home: Home, agency: Agency, as_json: AsJson = False) -> None:
    """登记员签署信任数据 | Sign the pending trust data as one registrar."""
    from factory.agency.office import sign_trust
    from factory.identity import load_identity

    registrar = load_identity(home)
    show({"registrar": registrar.id, "change": sign_trust(registrar, agency / "trust")}, as_json=as_json)


@app.command("publish")
def publish(home: Home, as_json: AsJson = False) -> None:
    """发布信任数据 | Publish what both registrars signed."""
    office = _office(home)
    version = office.publish()
    if not (home / "certs" / "tls.crt").is_file():
        office.install_own()
    show({"version": version, "expires_at": office.trust().expires_at}, as_json=as_json)


@app.command("refresh")
def refresh(home: Home, as_json: AsJson = False) -> None:
    """续签时间戳 | Sign a new timestamp; to be done daily."""
    office = _office(home)
    office.refresh()
    show({"expires_at": office.trust().expires_at}, as_json=as_json)


@app.command("response")
def response(
    home: Home,
    actor_ids: Annotated[list[str], typer.Argument()],
    out: Annotated[Path, typer.Option("--out", help="答复目录 | folder for <actor>.answer.json")],
    as_json: AsJson = False,
) -> None:
    """给出接纳答复 | Write the answers for admitted actors: certificate and trust data."""
    from factory.files import write_atomic

    office, rows = _office(home), []
    out.mkdir(parents=True, exist_ok=True)
    for actor_id in actor_ids:
        path = out / f"{actor_id}.answer.json"
        write_atomic(path, office.response(actor_id))
        rows.append({"actor": actor_id, "answer": path})
    show(rows, as_json=as_json)


@app.command("issue-server")
def issue_server(
    *,
    home: Home,
    key: Annotated[Path, typer.Argument(help="服务端公钥或私钥 PEM | PEM public key of hub or relay")],
    name: Annotated[str, typer.Option("--name")],
    out: Annotated[Path, typer.Option("--out")],
    host: Annotated[list[str] | None, typer.Option("--host", help="更多主机名 | more names or addresses")] = None,
    as_json: AsJson = False,
) -> None:
    """签发服务端证书 | Issue the server certificate of hub or relay."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    from factory.agency.errors import CertificateError
    from factory.files import write_atomic

    public = load_pem_public_key(key.read_bytes())
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise CertificateError("expected a PEM public key on an elliptic curve")
    write_atomic(out, _office(home).issue_server(public, name, hosts=host or ()))
    show({"certificate": out}, as_json=as_json)


@app.command("agreement")
def agreement(home: Home, file: Annotated[Path, typer.Argument()], official: Official, as_json: AsJson = False) -> None:
    """备案授权运营协议 | File an authorised-operation agreement (TOML)."""
    from factory.agency.rulings import Rulings
    from factory.registry.request import read_agreement

    office = _office(home)
    with _registry(office) as registry:
        case = Rulings(office, registry).add_agreement(read_agreement(file.read_text("utf-8")), official=official)
    show({"agreement_id": case.id, "sha256": case.sha256}, as_json=as_json)


@app.command("requests")
def requests(home: Home, state: Annotated[str | None, typer.Option("--state")] = None, as_json: AsJson = False) -> None:
    """用数申请列表 | Data requests and where they stand."""
    with _registry(_office(home)) as registry:
        cases = registry.cases("request", state=state)
    show(
        [
            {
                "request_id": case.id,
                "state": case.state,
                "scenario": case.document["scenario"],
                "title": case.document["scenario_title"],
            }
            for case in cases
        ],
        as_json=as_json,
    )


@app.command("request")
def request(home: Home, request_id: Annotated[str, typer.Argument()], as_json: AsJson = False) -> None:
    """逐字段查看申请 | One request with the justification of every field."""
    from factory.registry.request import DataRequest

    with _registry(_office(home)) as registry:
        case = registry.get("request", request_id)
    model = DataRequest.model_validate(case.document)
    lines = [f"{case.id}  {case.state}  {model.scenario_title}", f"{model.need} / {model.value}"]
    lines += [
        f"  {node}  {ask.resource}@{ask.version}  {item.column}: {item.justification or '无理由 no justification'}"
        for node, ask in model.asks()
        for item in ask.fields
    ]
    show({"state": case.state, "request": case.document}, as_json=as_json, text="\n".join(lines))


@app.command("rule")
def rule(
    *,
    home: Home,
    request_id: Annotated[str, typer.Argument()],
    official: Official,
    reason: Reason,
    approve: Annotated[bool, typer.Option("--approve/--reject", help="同意或驳回 | approve or reject")] = False,
    cut: Annotated[
        list[str] | None, typer.Option("--cut", help="RESOURCE:COLUMN:REASON, 核减字段 | take a column out")
    ] = None,
    reasonable: Annotated[str, typer.Option("--reasonable", help="合理性意见 | finding")] = "",
    compliant: Annotated[str, typer.Option("--compliant", help="合规性意见 | finding")] = "",
    secure: Annotated[str, typer.Option("--secure", help="安全性意见 | finding")] = "",
    as_json: AsJson = False,
) -> None:
    """审定申请 | Rule on a request: three findings, the cut list, the reason.

    Example: shufang agency rule REQ --home agency --approve --official 张三 --reason … --reasonable … --compliant …
    --secure … --cut "res.east.clinic:name:与场景无关 not needed"
    """
    from factory.agency.rulings import Rulings
    from factory.lifecycle.request import Ruling

    office = _office(home)
    ruling = Ruling(
        official=official,
        organisation=office.identity.organisation,
        approve=approve,
        findings={"reasonable": reasonable, "compliant": compliant, "secure": secure},
        reason=reason,
        cuts=tuple(_cut(text) for text in cut or ()),
    )
    with _registry(office) as registry:
        desk = Rulings(office, registry)
        grant = desk.rule(request_id, ruling)
        status = desk.status(request_id)
    folder = desk.desk / grant.grant_id if grant else None
    lines = [f"{request_id}：{status['state']}"]
    lines += [f"  核减 cut: {c['resource']} {c['column']}（{c['reason']}）" for c in status.get("cuts", ())]
    if folder:
        lines += [f"{folder}", f"Next, each registrar: shufang agency sign-grant {quoted(folder)} --home REGISTRAR"]
    show({**status, "folder": folder}, as_json=as_json, text="\n".join(lines))


@app.command("sign-grant")
def sign_grant_command(home: Home, folder: Annotated[Path, typer.Argument()], as_json: AsJson = False) -> None:
    """登记员签署授权 | Check a grant on the desk and sign it as one registrar."""
    from factory.agency.rulings import sign_grant
    from factory.identity import load_identity

    registrar = load_identity(home)
    envelope = sign_grant(registrar, folder)
    show(
        {"registrar": registrar.id, "envelope": envelope},
        as_json=as_json,
        text=f"{registrar.id}: {envelope}\nOnce both have signed, at the operator: shufang request offer REQUEST",
    )


@app.command("registrations")
def registrations(
    home: Home,
    resource: Annotated[str, typer.Option("--resource", help="只列由该资源形成的产品 | made from this resource")] = "",
    as_json: AsJson = False,
) -> None:
    """产品登记列表及其资源 | Applications for registration, their codes, and the resources they were made from."""
    with _registry(_office(home)) as registry:
        cases = registry.cases("registration")
    rows: list[dict[str, Any]] = []
    for case in cases:
        application: Any = case.document["application"]  # as the agency took it
        sources = {str(source["resource"]): source["registration_code"] for source in application["resources"]}
        if not resource or resource in sources:
            row = {"application_id": case.id, "state": case.state, "code": case.document["code"]}
            rows.append({**row, "until": case.document["valid_until"], "resources": sources})
    show(rows, as_json=as_json)


@app.command("register")
def register(
    *,
    home: Home,
    application_id: Annotated[str, typer.Argument()],
    official: Official,
    reason: Reason,
    approve: Annotated[bool, typer.Option("--approve/--refuse", help="赋码或不予登记 | give a code or refuse")] = False,
    as_json: AsJson = False,
) -> None:
    """登记赋码 | Decide on an application for registration."""
    from factory.agency.registrations import Registrations

    office = _office(home)
    with _registry(office) as registry:
        desk = Registrations(office, registry)
        desk.decide(application_id, approve=approve, official=official, reason=reason)
        status = desk.status(application_id)
    show(status, as_json=as_json)


@app.command("settle")
def settle(
    *,
    home: Home,
    application_id: Annotated[str, typer.Argument()],
    official: Official,
    reason: Reason,
    approve: Annotated[bool, typer.Option("--approve/--deny", help="同意或不同意 | approve or deny")] = False,
    as_json: AsJson = False,
) -> None:
    """办理续证、更正、注销 | Settle a renewal, correction or cancellation; without one asked, cancel."""
    from factory.agency.registrations import Registrations

    office = _office(home)
    with _registry(office) as registry:
        desk = Registrations(office, registry)
        desk.settle(application_id, approve=approve, official=official, reason=reason)
        status = desk.status(application_id)
    show(status, as_json=as_json)


@app.command("national")
def national(
    *,
    home: Home,
    act: Annotated[str, typer.Argument(help="accept|return|decline|publish|uphold|dismiss|code|status")],
    application_id: Annotated[str, typer.Argument()],
    official: Annotated[str, typer.Option("--official", help="经办人 | who decides")] = "",
    reason: Annotated[str, typer.Option("--reason", help="理由或补正事项 | why, or what is to be corrected")] = "",
    code: Annotated[str, typer.Option("--code", help="国家平台赋码 | the national platform's code")] = "",
    as_json: AsJson = False,
) -> None:
    """办理国家登记：受理、一次性告知、审核公示、异议、赋码 | A national filing, from acceptance to its code.

    Example: shufang agency national publish reg-clinic-risk-1.0.0 --home agency --official 李强
    """
    from factory.agency.national import NationalRegistrations

    office = _office(home)
    with _registry(office) as registry:
        desk = NationalRegistrations(office, registry)
        if act != "status":
            desk.act(application_id, act, official=official or office.identity.id, reason=reason, national_code=code)
        status = desk.status(application_id)
    show(status, as_json=as_json)


@app.command("object")
def object_command(
    *,
    home: Home,
    application_id: Annotated[str, typer.Argument()],
    by: Annotated[str, typer.Option("--by", help="异议人(实名) | who objects, by name")],
    reason: Reason,
    evidence: Annotated[Path, typer.Option("--evidence", help="证明材料 | the evidence; its digest is recorded")],
    as_json: AsJson = False,
) -> None:
    """公示期内实名异议 | Take an objection by name and with evidence while the publicity lasts."""
    from factory.agency.national import NationalRegistrations
    from nodes.contract.signing import sha256_hex

    office, digest = _office(home), sha256_hex(evidence.read_bytes())
    with _registry(office) as registry:
        desk = NationalRegistrations(office, registry)
        desk.object(application_id, objector=by, reason=reason, evidence_sha256=digest)
        status = desk.status(application_id)
    show(status, as_json=as_json)


@app.command("events")
def events(home: Home, as_json: AsJson = False) -> None:
    """事件链 | The chain of events, verified."""
    with _registry(_office(home)) as registry:
        count, found = registry.verify_chain(), registry.events()
    lines = [f"{e.seq:>5}  {e.body['at']}  {e.body['act']}  {e.body['actor']}  {e.body['case']}" for e in found]
    show(
        {"verified": count, "events": [event.body for event in found]},
        as_json=as_json,
        text="\n".join([*lines, f"链完整 chain verified: {count}"]),
    )


def _office(home: Path) -> "Office":
    from factory.agency.office import open_office

    return open_office(home)


def _registry(office: "Office") -> "Registry":
    from factory.agency.serve import open_registry
    from factory.agency.settings import read_settings

    settings = read_settings(office.home) if (office.home / "agency.toml").is_file() else None
    return open_registry(office, settings)


def _cut(text: str) -> "Cut":
    from factory.lifecycle.request import Cut

    resource, _, rest = text.partition(":")
    column, _, reason = rest.partition(":")
    if not resource or not column:
        raise typer.BadParameter("expected RESOURCE:COLUMN:REASON", param_hint="--cut")
    return Cut(resource, column, reason)
