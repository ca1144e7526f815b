"""``shufang log``: the transparency log, its witnesses and its monitor.

Exit codes: 0 ok, 1 a negative verdict (a proof that does not hold, an alert) or a refusal,
2 usage. Only this module writes to the terminal.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from factory.trust import Trust
    from products.log import LogProof, Witnessed

app = typer.Typer(
    help="透明日志：追加、证明、核验、见证、监测 | The transparency log: append, prove, verify, witness, monitor.",
    no_args_is_help=True,
    add_completion=False,
)
witness_app = typer.Typer(help="见证方 | A witness of logs.", no_args_is_help=True)
app.add_typer(witness_app, name="witness")

Home = Annotated[Path, typer.Option("--home", help="日志目录 | folder of the log")]
WitnessHome = Annotated[Path, typer.Option("--home", help="见证方目录 | folder of the witness")]
TrustFolder = Annotated[Path, typer.Option("--trust", help="信任数据目录 | folder of the agency's trust data")]
Year = Annotated[int | None, typer.Option("--year", help="年份分片，默认今年 | yearly shard, this year unless given")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="加密静态密钥的口令文件，没有则生成 | encrypts the keys; made if missing"),
]
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")]


@app.command("init")
def init(
    *,
    home: Home,
    operator: Annotated[str, typer.Option(help="运营机构代号 | name of the operator")] = "operator",
    year: Year = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(help="见证方：公钥=地址 | witness: VKEY=http://127.0.0.1:PORT or VKEY=FILE with its address"),
    ] = None,
    quorum: Annotated[int | None, typer.Option(help="法定见证数 | witnesses that have to cosign")] = None,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """建立日志或准备年度分片 | Make a log, set its witnesses, or prepare the shard of a year.

    Example: shufang log init --home log --operator op --witness "$(cat w/vkey)=w/address"
    """
    from factory.log.home import SETTINGS_FILE, LogHome, WitnessPlace, witness_key, year_of

    with _reporting():
        places = []
        for text in witness or []:
            # A key in base64 may itself end in "=": the address begins behind the last one.
            vkey, _, address = text.rpartition("=")
            places.append(WitnessPlace(witness_key(vkey), address))
        if (home / SETTINGS_FILE).exists():
            log = LogHome.read(home)
            log = log.with_witnesses(places, quorum or len(places) // 2 + 1) if places else log
        else:
            log = LogHome.create(home, operator=operator, witnesses=places, quorum=quorum)
        key = log.prepare(year or year_of(datetime.now(UTC)), passphrase_file=passphrase_file)
    _print({"origin": key.name, "vkey": key.vkey}, [f"{key.name}", f"公钥 vkey: {key.vkey}"], as_json=as_json)


@app.command("encrypt")
def encrypt(
    folder: Annotated[Path, typer.Argument(help="日志或见证方目录 | home of a log or a witness")],
    passphrase_file: Annotated[Path, typer.Argument(help="口令文件，0600 | file with the passphrase, mode 0600")],
    as_json: AsJson = False,
) -> None:
    """加密日志或见证方的静态密钥 | Encrypt the keys of a log or a witness at rest."""
    from factory.key_files import encrypt_folder

    with _reporting():
        names = encrypt_folder(folder / "keys", passphrase_file)
    _print({"encrypted": names}, names, as_json=as_json)


@app.command("policy")
def policy(home: Home) -> None:
    """输出供主管机构签署的日志策略 | Print the log policy (tlog-policy.txt) for the agency to sign.

    Example: shufang log policy --home log > tlog-policy.txt
    """
    from factory.log.home import LogHome

    with _reporting():
        sys.stdout.write(LogHome.read(home).policy_text().decode())


@app.command("append")
def append(
    *,
    envelopes: Annotated[list[Path], typer.Argument(help="声明文件 *.dsse.json | signed statements")],
    home: Home,
    trust: TrustFolder,
    wait_s: Annotated[float, typer.Option("--wait-s", help="等待另一写入者 | wait for another writer")] = 10.0,
    cosigned: Annotated[
        bool, typer.Option("--cosign/--no-cosign", help="随后请见证方联署 | then ask the witnesses")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """追加声明 | Append signed statements; what is in the log already keeps its place.

    Example: shufang log append --home log --trust trust attestations/*.dsse.json
    """
    from factory.log.home import LogHome
    from factory.log.log import Log, submissions

    with _reporting():
        now = datetime.now(UTC)
        items = submissions([path.read_bytes() for path in envelopes], _trust(trust, now).actors)
        with Log.open(LogHome.read(home), now=now, wait_s=wait_s) as log:
            indices = log.append(items)
            refusals = log.cosign().refusals if cosigned and log.shard.home.settings.witnesses else ()
            head = log.checkpoint
    rows = [{"file": path.name, "index": index} for path, index in zip(envelopes, indices, strict=True)]
    lines = [f"{row['index']:>8}  {row['file']}" for row in rows]
    lines += [f"未联署 not cosigned by {name}: {reason}" for name, reason in refusals]
    lines += [f"{head.origin}  共 {head.size} 条 entries"]
    body = {
        "origin": head.origin,
        "size": head.size,
        "root_hex": head.root.hex(),
        "entries": rows,
        "not_cosigned_by": [name for name, _ in refusals],
    }
    _print(body, lines, as_json=as_json)


@app.command("cosign")
def cosign(home: Home, year: Year = None, as_json: AsJson = False) -> None:
    """请见证方联署最新检查点 | Ask the witnesses to cosign the latest checkpoint.

    Example: shufang log cosign --home log
    """
    from factory.log.home import LogHome, year_of
    from factory.log.log import cosign as ask
    from factory.log.shard import Shard

    with _reporting():
        done = ask(Shard(LogHome.read(home), year or year_of(datetime.now(UTC))))
    head = done.note.checkpoint
    witnesses = [line.name for line in done.note.lines[1:]]
    body = {"origin": head.origin, "size": head.size, "witnesses": witnesses}
    lines = [f"{head.origin}  {head.size} 条 entries, 联署 cosigned by {', '.join(witnesses)}"]
    lines += [f"未联署 not cosigned by {name}: {reason}" for name, reason in done.refusals]
    _print(body, lines, as_json=as_json)


@app.command("prove")
def prove(
    *,
    home: Home,
    index: Annotated[int | None, typer.Option(help="条目序号 | entry")] = None,
    envelope: Annotated[Path | None, typer.Option(help="声明文件 | signed statement")] = None,
    trust: Annotated[
        Path | None, typer.Option("--trust", help="信任数据目录，配合 --envelope | with --envelope")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="写入文件 | write to a file")] = None,
    year: Year = None,
) -> None:
    """生成存在证明 | Write the tlog-proof of an entry, by index or by statement.

    Example: shufang log prove --home log --index 0 --out release.tlog-proof
    """
    from factory.log.errors import LogMissingError
    from factory.log.files import DurableFiles
    from factory.log.home import LogHome, year_of
    from factory.log.log import entry_of, submissions
    from factory.log.shard import Shard
    from products.log import leaf_hash

    if (index is None) == (envelope is None) or (envelope is not None and trust is None):
        raise typer.BadParameter("请给出 --index,或 --envelope 与 --trust | give --index, or --envelope and --trust")
    with _reporting():
        now = datetime.now(UTC)
        shard = Shard(LogHome.read(home), year or year_of(now))
        if envelope is not None and trust is not None:
            item = submissions([envelope.read_bytes()], _trust(trust, now).actors)[0]
            index = shard.find(leaf_hash(entry_of(item)))
        if index is None:
            raise LogMissingError("the log does not hold this statement; append it first")
        proof = shard.prove(index)
        if out is not None:
            DurableFiles().replace(out, proof)
        else:
            sys.stdout.write(proof.decode())


@app.command("verify")
def verify(
    proof: Annotated[Path, typer.Argument(help="证明文件 *.tlog-proof | proof")],
    envelope: Annotated[Path, typer.Option(help="声明文件 *.dsse.json | signed statement")],
    trust: TrustFolder,
    as_json: AsJson = False,
) -> None:
    """核验存在证明：签名、包含、检查点、见证 | Verify a proof: signature, inclusion, checkpoint, witnesses.

    Example: shufang log verify release.tlog-proof --envelope release.operator.dsse.json --trust trust
    """
    from factory.log.log import entry_of, submissions
    from products.log import LogProof, TlogPolicy, verify_checkpoint

    with _reporting():
        data = _trust(trust, datetime.now(UTC))
        parsed = LogProof.from_bytes(proof.read_bytes())
        witnessed = verify_checkpoint(parsed.note, TlogPolicy.from_bytes(data.target("tlog-policy.txt")))
        parsed.verify(entry_of(submissions([envelope.read_bytes()], data.actors)[0]))
    _print(_verdict(parsed, witnessed), [f"有效 valid: {witnessed.checkpoint.origin} #{parsed.index}"], as_json=as_json)


@app.command("monitor")
def monitor(
    *,
    shard: Annotated[Path, typer.Argument(help="分片公开目录 | public folder of a shard (checkpoint, tile/)")],
    trust: TrustFolder,
    package: Annotated[list[Path] | None, typer.Option(help="已发布数据包目录 | folder of released packages")] = None,
    state: Annotated[
        Path | None, typer.Option(help="上次所见检查点 | file that keeps the checkpoint of the visit")
    ] = None,
    actor: Annotated[str | None, typer.Option(help="核对以本方名义的条目 | check entries in this actor's name")] = None,
    own: Annotated[Path | None, typer.Option(help="本方签署的声明目录 | folder of statements it signed")] = None,
    as_json: AsJson = False,
) -> None:
    """监测：重放整个分片并报警 | Replay a whole shard and raise alerts; exit 1 if there are any.

    Example: shufang log monitor log/2026 --trust trust --package out/packages --state seen
    """
    from factory.log.errors import LogMissingError
    from factory.log.files import DurableFiles
    from factory.log.monitor import check_own, check_packages, read_envelopes, replay
    from products.log import SignedCheckpoint, TlogPolicy

    if (actor is None) != (own is None):
        raise typer.BadParameter("--actor 与 --own 须同时给出 | give --actor and --own together")
    with _reporting():
        data = _trust(trust, datetime.now(UTC))
        log_policy = TlogPolicy.from_bytes(data.target("tlog-policy.txt"))
        claimed = SignedCheckpoint.from_bytes((shard / "checkpoint").read_bytes()).checkpoint.origin
        previous = SignedCheckpoint.from_bytes(state.read_bytes()) if state is not None and state.exists() else None
        origin = previous.checkpoint.origin if previous is not None else claimed
        key = next((key for key in log_policy.logs if key.name == origin), None)
        if key is None:
            raise LogMissingError(f"the agency's log policy knows no log {origin[:80]}")
        head = previous.checkpoint if previous is not None else None
        found = replay(shard, key, actors=data.actors, policy=log_policy, previous=head)
        if package:
            check_packages(found, read_envelopes(package), data.actors)
        if actor is not None and own is not None:
            check_own(found, actor, data.actors, read_envelopes([own]))
        if state is not None and found.note is not None and not found.alerts:
            DurableFiles().replace(state, found.note.to_bytes())
    size = found.note.checkpoint.size if found.note else None
    alerts = [{"code": alert.code, "index": alert.index, "message": alert.message} for alert in found.alerts]
    body = {"origin": origin, "size": size, "entries_by_actor": dict(found.entries_by_actor), "alerts": alerts}
    lines = [f"警报 alert {alert['code']}: {alert['message']}" for alert in alerts]
    lines += [f"{origin}: {size} 条 entries, {len(alerts)} 项警报 alerts"]
    _print(body, lines, as_json=as_json)
    if alerts:
        raise typer.Exit(1)


@witness_app.command("init")
def witness_init(
    home: WitnessHome,
    name: Annotated[str, typer.Option(help="见证方名称 | name of the witness, like witness.example/1")],
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """建立见证方及其密钥 | Make a witness and its key.

    Example: shufang log witness init --home w --name witness.example/1
    """
    from factory.log.witness import create_home

    with _reporting():
        key = create_home(home, name=name, passphrase_file=passphrase_file)
    _print({"name": key.name, "vkey": key.vkey}, [f"公钥 vkey: {key.vkey}"], as_json=as_json)


@witness_app.command("watch")
def witness_watch(
    vkey: Annotated[str, typer.Argument(help="日志公钥 | verifier key of a log")],
    home: WitnessHome,
) -> None:
    """开始见证一个日志 | Accept checkpoints of a log.

    Example: shufang log witness watch "$(cat log/2026/vkey)" --home w
    """
    from factory.log.witness import open_home
    from products.log import NoteKey

    with _reporting():
        witness = open_home(home)
        witness.store.watch(NoteKey.from_vkey(vkey))
        witness.store.close()


@witness_app.command("serve")
def witness_serve(
    home: WitnessHome,
    port: Annotated[int, typer.Option(help="127.0.0.1 端口,0 为空闲端口 | port; a free one unless given")] = 0,
) -> None:
    """在本机回环地址提供见证服务 | Serve on the loopback until stopped.

    Example: shufang log witness serve --home w
    """
    from factory.log.witness import serve

    with _reporting():
        raise typer.Exit(serve(home, port=port))


@witness_app.command("evidence")
def witness_evidence(home: WitnessHome, as_json: AsJson = False) -> None:
    """列出已保存的违规证据 | List kept evidence of misbehaviour; exit 1 if there is any.

    Example: shufang log witness evidence --home w --json
    """
    from factory.log.witness import open_home

    with _reporting():
        witness = open_home(home)
        items = witness.store.evidence()
        witness.store.close()
    rows = [
        {
            "origin": item.origin,
            "kind": item.kind,
            "time_s": item.time_s,
            "request": item.request.decode("utf-8", "replace"),
            "held": item.held.decode("utf-8", "replace"),
        }
        for item in items
    ]
    lines = [f"{item.kind} {item.origin} {item.time_s}\n{item.request.decode('utf-8', 'replace')}" for item in items]
    _print({"evidence": rows}, lines or ["无证据 no evidence"], as_json=as_json)
    if items:
        raise typer.Exit(1)


@contextmanager
def _reporting() -> Iterator[None]:
    """Turn errors into one line and exit code 1."""
    from factory.errors import FactoryError
    from nodes.contract.errors import ContractError
    from products.errors import ProductError

    try:
        yield
    except (FactoryError, ContractError, ProductError) as error:
        sys.stderr.write(f"错误 error [{error.code}]: {error}\n")
        raise typer.Exit(1) from None
    except OSError as error:
        sys.stderr.write(f"错误 error: {error.filename or ''}: {error.strerror}\n")
        raise typer.Exit(1) from None
    except ValueError as error:
        sys.stderr.write(f"用法 usage: {error}\n")
        raise typer.Exit(2) from None


def _trust(folder: Path, now: datetime) -> "Trust":
    from factory.trust import load_trust

    return load_trust(folder, now=now)


def _verdict(proof: "LogProof", witnessed: "Witnessed") -> dict[str, Any]:
    head = witnessed.checkpoint
    return {
        "valid": True,
        "origin": head.origin,
        "index": proof.index,
        "size": head.size,
        "witnessed_at": witnessed.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "witnesses": list(witnessed.witnesses),
    }


def _print(body: dict[str, Any], lines: list[str], *, as_json: bool) -> None:
    text = json.dumps(body, ensure_ascii=False, indent=1) if as_json else "\n".join(lines)
    sys.stdout.write(f"{text}\n")
