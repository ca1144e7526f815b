"""What a person reads when something is wrong: one message with a code and a next step, and nothing left behind."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from factory import cli
from factory.demo.run import DemoDataError, DemoFolderError, run_demo
from factory.hub.superlink import HubSettings, HubStartError
from factory.hub.superlink import run as run_hub
from factory.identity import CertificateExpiredError, create_identity, load_identity
from factory.law.files import proposed
from factory.registry.errors import CaseUnknownError, RegistryUnusableError
from factory.registry.store import Act, Registry
from factory.site.founding import UNFINISHED, SiteExistsError, SiteMissingError, made_whole, open_site
from factory.site.layout import Site
from factory.site.processes import ProcessFailedError, quoted
from factory.site.stack import start_stack
from factory.terminal import in_our_words
from factory.workshop import StepRefusedError, Workshop
from nodes import cli as node_cli
from quality import pages
from tests import offices
from tests.offices import NOW

ROOT = Path(__file__).parents[2]
WHO = ("--organisation", "org-a", "--title-zh", "甲", "--title-en", "A")


@pytest.fixture
def shufang(monkeypatch, capsys):
    """Run `shufang` in this process and return exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["shufang", *map(str, arguments)])
        code = cli.run()
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def shufang_node(monkeypatch, capsys):
    """Run `shufang-node` in this process and return exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["shufang-node", *map(str, arguments)])
        code = 0
        try:
            node_cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_wrong_name_of_an_actor_is_one_line_without_the_value(shufang, tmp_path):
    code, _, err = shufang("identity", "init", "--home", tmp_path / "a", "--id", "Bad Id", *WHO, "--role", "reviewer")
    assert code == 1
    assert "错误 factory.input" in err
    assert "id:" in err
    assert "Bad Id" not in err
    assert not (tmp_path / "a").exists()


def test_an_unknown_role_is_an_error_as_json_too(shufang, tmp_path):
    code, out, err = shufang(
        "identity", "init", "--home", tmp_path / "a", "--id", "a", *WHO, "--role", "king", "--json"
    )
    assert code == 1
    assert json.loads(out)["error"] == "factory.input"
    assert "Traceback" not in err


def test_a_missing_file_is_called_missing_and_not_a_fault_of_the_disk(shufang, tmp_path):
    code, _, err = shufang(
        "identity", "init", "--home", tmp_path / "a", "--id", "a", *WHO, "--role", "reviewer", "--root", tmp_path / "no"
    )
    assert code == 1
    assert "factory.file" in err
    assert "correct the path" in err


def test_a_file_that_is_no_utf8_is_an_input_error(shufang, tmp_path):
    home = tmp_path / "a"
    shufang("identity", "init", "--home", home, "--id", "a", *WHO, "--role", "reviewer")
    (home / "identity.toml").write_bytes("title = '甲'".encode("gb18030"))
    code, _, err = shufang("identity", "show", "--home", home)
    assert code == 1
    assert "factory.input" in err
    assert "UTF-8" in err


def test_a_key_that_others_may_read_is_refused_with_the_command_that_helps(shufang, tmp_path):
    home = tmp_path / "a"
    shufang("identity", "init", "--home", home, "--id", "a", *WHO, "--role", "reviewer")
    (home / "keys/statement.pem").chmod(0o644)
    code, _, err = shufang("identity", "show", "--home", home)
    assert code == 1
    assert "home.unsafe_key" in err
    assert "chmod 600" in err


def test_an_expired_certificate_is_said_before_anybody_is_asked(tmp_path):
    made = offices.world(tmp_path, now=datetime.now(UTC) - timedelta(days=500))
    bank = made.add("bank", "bank-org", "application_unit")
    made.publish()
    made.install()
    with pytest.raises(CertificateExpiredError, match="shufang identity rotate --home"):
        load_identity(bank.home).tls_certificate_path  # noqa: B018


def test_wrong_use_of_verify_ends_with_4_because_2_is_a_verdict(shufang):
    assert shufang("verify")[0] == 4
    assert shufang("verify", "--nope")[0] == 4


def test_wrong_use_of_other_commands_ends_with_2_and_one_suggestion(shufang):
    code, _, err = shufang("dmo")
    assert code == 2
    assert err.count("Did you mean") == 1


def test_a_home_without_deployment_names_the_command_that_makes_one(shufang, tmp_path):
    for command in (("status",), ("down",), ("catalogue",), ("product", "list")):
        code, _, err = shufang(*command, "--home", tmp_path / "no where")
        assert code == 1
        assert "site.missing" in err
        assert f"shufang up --home '{tmp_path / 'no where'}'" in err


def test_a_full_disk_is_named_as_such(shufang, monkeypatch, tmp_path):
    home = tmp_path / "a"
    done = subprocess.run(
        [
            "bash", "-c", 'ulimit -f 0; trap "" XFSZ; exec "$0" -m factory.cli identity init "$@"', sys.executable,
            "--home", str(home), "--id", "a", *WHO, "--role", "reviewer",
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "factory.storage" in done.stderr
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "identity.toml").exists()


def test_a_node_with_a_wrong_root_leaves_no_folder(shufang_node, tmp_path):
    (tmp_path / "root.json").write_text("{}")
    code, _, err = shufang_node("init", "--home", tmp_path / "n", "--id", "n", *WHO, "--root", tmp_path / "root.json")
    assert code == 1
    assert "node.trust" in err
    assert not (tmp_path / "n").exists()


def test_a_folder_where_a_file_is_expected_is_one_line_at_the_node_too(shufang_node, tmp_path):
    code, _, err = shufang_node("catalogue", "--home", tmp_path)
    assert code == 1
    assert "node.settings" in err
    assert "shufang-node init" in err


def test_a_deployment_is_not_made_among_other_files(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SiteExistsError, match="choose another folder"), made_whole(tmp_path):
        raise AssertionError("not reached")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_founding_that_fails_leaves_nothing(tmp_path):
    folder = tmp_path / "site"
    with pytest.raises(KeyboardInterrupt), made_whole(folder):
        (folder / "agency").mkdir()
        raise KeyboardInterrupt
    assert not folder.exists()


def test_a_founding_that_was_killed_is_made_anew_and_never_opened(tmp_path):
    (tmp_path / UNFINISHED).touch()
    (tmp_path / "site.json").write_text('{"departments": ["east"]}')
    with pytest.raises(SiteMissingError, match="anew"):
        open_site(tmp_path)
    with made_whole(tmp_path):
        assert not (tmp_path / "site.json").exists()
    assert not (tmp_path / UNFINISHED).exists()


def test_the_main_job_touches_no_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DemoFolderError):
        run_demo(tmp_path)
    with pytest.raises(DemoFolderError):
        run_demo(tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_open_tables_that_are_not_there_are_named_before_anything_is_made(tmp_path):
    with pytest.raises(DemoDataError, match="heart_disease_4site"):
        run_demo(tmp_path / "out", data=tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_taken_port_is_named_before_anything_starts(tmp_path):
    site = Site(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        site.hub_settings.parent.mkdir(parents=True)
        site.hub_settings.write_text(f"[hub]\nport = 0\n[relay]\nport = {port}\n")
        with pytest.raises(ProcessFailedError, match=f"port {port} of the relay"):
            start_stack(site)
    assert not site.run.exists()


def test_paths_in_next_steps_can_be_pasted_into_a_shell():
    assert quoted(Path("数 坊")) == "'数 坊'"


def test_a_stopped_deployment_is_said_at_once_and_not_waited_for(shufang, tmp_path):
    shufang("identity", "init", "--home", tmp_path / "operator", "--id", "operator", *WHO, "--role", "operator")
    (tmp_path / "site.json").write_text('{"departments": ["east", "west", "north"]}')
    begun = time.monotonic()
    code, _, err = shufang("product", "test", "a@1.0.0", "--home", tmp_path)
    assert code == 1
    assert "site.stopped" in err
    assert "shufang up" in err
    assert time.monotonic() - begun < 20


@pytest.fixture
def workshop(tmp_path):
    """The workshop with a registry and nobody to talk to."""
    operator = create_identity(
        tmp_path / "op", actor_id="op", organisation="o", title_zh="甲", title_en="A", roles=("reviewer",)
    )
    with Registry.at(tmp_path / "registry.db") as registry:
        for state in ("building", "built", "tested"):
            act = Act("op", "operator", "o", "product.start")
            registry.create("product", f"{state}@1.0.0", state=state, document={"a": 1}, act=act, now=NOW)
        yield Workshop(operator, None, None, None, registry, None, proposed("NATIONAL"))


def test_what_has_been_built_is_not_built_over(workshop):
    for state in ("built", "tested"):
        with pytest.raises(StepRefusedError, match="raise `version`"):
            workshop.require_buildable(f"{state}@1.0.0")
    assert workshop.require_buildable("new@1.0.0") is None
    assert workshop.require_buildable("building@1.0.0").state == "building"


def test_a_step_that_comes_too_early_names_the_one_before_it(workshop):
    with pytest.raises(StepRefusedError, match=r"shufang product test built@1\.0\.0"):
        workshop.lay_bundle("built@1.0.0")
    with pytest.raises(StepRefusedError, match="shufang product build"):
        workshop.register("building@1.0.0")
    with pytest.raises(CaseUnknownError):
        workshop.lay_release("none@1.0.0")


def test_a_file_that_is_no_registry_is_one_message(tmp_path):
    (tmp_path / "registry.db").write_bytes(b"no database" * 100)
    with pytest.raises(RegistryUnusableError, match="not a database"):
        Registry.at(tmp_path / "registry.db")


def test_a_registry_on_a_full_disk_is_one_message_and_keeps_what_it_had(tmp_path):
    act = Act("op", "operator", "o", "product.start")
    with Registry.at(tmp_path / "registry.db") as registry:
        registry.create("product", "a@1.0.0", state="built", document={}, act=act, now=NOW)
        with pytest.raises(RegistryUnusableError, match="full"), registry.transaction() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
            registry._record(connection, ("product", "b@1.0.0", "built"), Act("op", "o", "o", "x", "y" * 9000), NOW)
        assert [case.id for case in registry.cases("product")] == ["a@1.0.0"]
        assert registry.verify_chain() == 1


def test_a_report_that_cannot_be_written_leaves_no_half_of_it(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OSError, match="directory"):
        pages.replace(tmp_path / "report.html", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_hub_that_does_not_answer_is_no_traceback():
    assert in_our_words(httpx.ConnectError("refused")).code == "factory.connection"


def test_what_is_a_fault_of_ours_is_not_dressed_up():
    assert in_our_words(KeyError("x")) is None


def test_the_ports_of_an_earlier_run_of_the_hub_are_forgotten_before_it_listens(tmp_path):
    settings = HubSettings(tmp_path, "127.0.0.1", 0, tmp_path / "no", tmp_path / "no", tmp_path / "no")
    settings.note_ports(1, 2)
    with pytest.raises(HubStartError):
        asyncio.run(run_hub(settings))
    assert not (tmp_path / "ports.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_main_job_leaves_no_process_and_can_be_run_again(tmp_path, number):
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "factory.cli", "demo", "--out", str(out)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (out / "agency").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    said = process.communicate(timeout=120)[0].decode()
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert not _processes_in(out)
    assert not out.exists() or (out / "agency").exists() or not any(out.iterdir())


def _processes_in(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line.replace("\0", " "))
    return found
