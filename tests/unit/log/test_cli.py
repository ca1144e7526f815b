import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from factory.agency.trust_repository import OnlineKeys, create_repository, make_root, publish, sign_pending, stage
from factory.log.cli import app
from factory.log.witness import WitnessServer, open_home
from nodes.contract import canonical
from nodes.contract.trust import Actors, Status
from products.log import LogProof
from tests.unit.log.logs import submission
from tests.unit.log.test_monitor import actor

RUN = CliRunner()
YEAR = datetime.now(UTC).year


def run(*words, code=0):
    result = RUN.invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def trust_folder(folder, log_policy):
    """A real trust repository with two actors and this log policy."""
    now = datetime.now(UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(7)]
    online = OnlineKeys(keys[5], keys[6])
    registrars = keys[3:5]
    root = make_root(root_keys=keys[:3], registrars=[key.public_key() for key in registrars], online=online, now=now)
    window = {"not_before": now - timedelta(days=1), "not_after": now + timedelta(days=300)}
    actors = Actors(actors=tuple(actor(f"node-{number}", number).model_copy(update=window) for number in (0, 1)))
    folder.mkdir()
    create_repository(folder, root)
    targets = {
        "actors.json": canonical.dumps(actors.model_dump(mode="json")),
        "status.json": canonical.dumps(Status(items=()).model_dump(mode="json")),
        "tlog-policy.txt": log_policy,
    }
    stage(folder, targets, now=now)
    for registrar in registrars:
        sign_pending(folder, registrar, now=now)
    publish(folder, online, now=now)
    return folder


@pytest.fixture
def place(tmp_path):
    """A log with a running witness and trust data that knows both."""
    run("witness", "init", "--home", tmp_path / "w", "--name", "witness.example/1")
    vkey = (tmp_path / "w/vkey").read_text().strip()
    run("init", "--home", tmp_path / "log", "--operator", "op", "--witness", f"{vkey}={tmp_path / 'w/address'}")
    run("witness", "watch", (tmp_path / f"log/{YEAR}/vkey").read_text().strip(), "--home", tmp_path / "w")
    policy = run("policy", "--home", tmp_path / "log").stdout.encode()
    trust_folder(tmp_path / "trust", policy)
    for number in range(3):
        (tmp_path / f"s{number}.dsse.json").write_bytes(submission(number, number % 2).envelope)
    (tmp_path / "stranger.dsse.json").write_bytes(submission(0, 5).envelope)
    witness = open_home(tmp_path / "w")
    server = WitnessServer(witness)
    (tmp_path / "w/address").write_text(f"{server.url}\n")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield tmp_path
    server.shutdown()
    thread.join()
    server.server_close()
    witness.store.close()


def test_a_missing_log_says_how_to_make_one(tmp_path):
    result = run("policy", "--home", tmp_path, code=1)
    assert "log.missing" in result.stderr
    assert "shufang log init" in result.stderr


def test_usage_errors_exit_with_two(tmp_path):
    run("prove", "--home", tmp_path, code=2)
    run("monitor", tmp_path, "--trust", tmp_path, "--actor", "node-0", code=2)
    run("init", "--home", tmp_path / "log", "--operator", "Not A Name", code=2)


def test_a_statement_of_a_stranger_is_not_appended(place):
    result = run("append", place / "stranger.dsse.json", "--home", place / "log", "--trust", place / "trust", code=1)
    assert "log.entry" in result.stderr


def test_a_statement_is_appended_proved_verified_and_monitored(place):
    log, trust = ("--home", place / "log"), ("--trust", place / "trust")
    files = [place / f"s{number}.dsse.json" for number in range(3)]
    done = json.loads(run("append", *files, *log, *trust, "--json").stdout)
    assert [row["index"] for row in done["entries"]] == [0, 1, 2]
    assert (done["size"], done["not_cosigned_by"]) == (3, [])

    run("prove", *log, "--envelope", files[1], *trust, "--out", place / "1.tlog-proof")
    assert LogProof.from_bytes((place / "1.tlog-proof").read_bytes()).index == 1
    assert run("prove", *log, "--index", 1).stdout.encode() == (place / "1.tlog-proof").read_bytes()
    verdict = json.loads(run("verify", place / "1.tlog-proof", "--envelope", files[1], *trust, "--json").stdout)
    assert (verdict["valid"], verdict["index"], verdict["witnesses"]) == (True, 1, ["w1"])
    run("verify", place / "1.tlog-proof", "--envelope", files[2], *trust, code=1)
    run("cosign", *log)

    for _ in range(2):
        seen = json.loads(run("monitor", place / f"log/{YEAR}", *trust, "--state", place / "seen", "--json").stdout)
        assert (seen["alerts"], seen["entries_by_actor"]) == ([], {"node-0": 2, "node-1": 1})
    (place / "own").mkdir()
    run("monitor", place / f"log/{YEAR}", *trust, "--actor", "node-1", "--own", place / "own", code=1)
    assert json.loads(run("witness", "evidence", "--home", place / "w", "--json").stdout) == {"evidence": []}


def test_the_monitor_exits_with_one_on_an_alert(place):
    log, trust = ("--home", place / "log"), ("--trust", place / "trust")
    run("append", place / "s0.dsse.json", *log, *trust)
    (place / f"log/{YEAR}/tile/0/000.p/1").write_bytes(bytes(32))
    found = json.loads(run("monitor", place / f"log/{YEAR}", *trust, "--json", code=1).stdout)
    assert [alert["code"] for alert in found["alerts"]] == ["tree_inconsistent"] * 1
