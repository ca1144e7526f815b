"""A department's node as real processes, made with its own commands and reached over the relay."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from factory.hub.relay_bus import RelayBus
from factory.release.nodes import NodeDesk
from nodes.relay_client import RelayPlaneSettings
from tests import offices
from tests.node_world import entry, write_table
from tests.offices import world

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def node(*arguments: str, home: Path, code: int = 0) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "nodes.cli", *arguments, "--home", str(home), "--json"],
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == code, done.stderr.decode()
    return json.loads(done.stdout.splitlines()[-1])


def wait_for(claim, seconds: float = 60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := claim()) is not None:
            return found
        time.sleep(0.1)
    raise AssertionError("not in time")


def test_a_node_is_made_admitted_bound_started_killed_and_ended(tmp_path):
    made = world(tmp_path, now=datetime.now(UTC))
    home = tmp_path / "east"
    (tmp_path / "1.root.json").write_bytes(made.office.root())
    operator = made.add("operator", "operator-org", "operator")
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "relay.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "relay.crt").write_bytes(made.office.issue_server(key.public_key(), "relay", hosts=("127.0.0.1",)))
    (tmp_path / "relay.toml").write_text(
        '[relay]\nport = 0\ncert_path = "relay.crt"\nkey_path = "relay.key"\nca_path = "ca.crt"\n'
        'actors_path = "actors.json"\nport_path = "relay.port"\n',
        encoding="utf-8",
    )
    node(
        "init",
        "--id",
        "node-east",
        "--organisation",
        "org.east",
        "--title-zh",
        "云东区",
        "--title-en",
        "East",
        "--plane",
        "relay",
        "--root",
        str(tmp_path / "1.root.json"),
        home=home,
    )
    offices.ready(made.office, (home / "enrolment.json").read_bytes())
    made.office.admit((home / "enrolment.json").read_bytes())
    made.publish()
    made.install()
    (tmp_path / "answer.json").write_bytes(made.office.response("node-east"))
    node("admit-response", str(tmp_path / "answer.json"), home=home)
    for name in ("actors.json", "ca.crt"):
        (tmp_path / name).write_bytes(made.office.trust().targets[name])
    relay = subprocess.Popen(
        [sys.executable, "-m", "factory.hub.relay", "--settings", str(tmp_path / "relay.toml")], cwd=ROOT
    )
    try:
        port = wait_for(
            lambda: (tmp_path / "relay.port").read_text() if (tmp_path / "relay.port").exists() else None
        ).strip()
        settings = (
            (home / "node.toml")
            .read_text(encoding="utf-8")
            .replace('relay = ""', f'relay = "https://127.0.0.1:{port}"')
        )
        (home / "node.toml").write_text(settings, encoding="utf-8")
        write_table(home / "tables/clinic.csv")
        (tmp_path / "clinic.toml").write_text(entry().to_toml(), encoding="utf-8")
        node("bind", str(tmp_path / "clinic.toml"), home=home)
        node("up", "--detach", home=home)
        bus = RelayBus(
            "operator",
            RelayPlaneSettings(
                f"https://127.0.0.1:{port}",
                tmp_path / "ca.crt",
                operator.home / "certs/tls.crt",
                operator.home / "keys/tls.pem",
            ),
        )
        keys = {a.id: a.verify_key for a in made.office.trust().actors.actors}
        desk = NodeDesk(bus, "operator", operator.key, keys, timeout_s=60)
        first = desk.ask("node-east", "node.describe")
        assert [item["state"] for item in first.body["resources"]] == ["held"]
        status = node("status", home=home)
        (agent,) = [child for child in status["children"] if child["name"] == "agent"]
        os.kill(agent["pid"], signal.SIGKILL)
        again = desk.ask("node-east", "node.describe")
        assert again.body == first.body
        levels = {line["check"]: line["level"] for line in _doctor(home)}
        assert levels["relay"] == "ok"
        assert levels["clock/relay"] == "ok"
        assert levels["books"] == "ok"
        bus.close()
    finally:
        stopped = node("down", home=home)
        relay.terminate()
        relay.wait(20)
    assert stopped["stopped"]
    assert not Path(f"/proc/{status['children'][0]['pid']}").exists()


def _doctor(home: Path) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-m", "nodes.cli", "doctor", "--home", str(home), "--json"],
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    return json.loads(done.stdout)
