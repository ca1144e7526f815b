"""Acceptance of the sandbox: real code in a real confined process; what it may not do comes first."""

import contextlib
import json
import socket
import subprocess
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime, timedelta, timezone

import httpx
import pytest
import uvicorn

from factory import cli
from factory.lifecycle.sandbox import SandboxFacts
from factory.pipelines.imports import review_input
from factory.registry.errors import CaseUnknownError, TransitionRefusedError
from factory.sandbox import launch
from factory.sandbox.console import Console, create_console
from factory.sandbox.errors import SandboxInputError
from factory.sandbox.running import Bounds
from factory.sandbox.sandboxes import EXPORT, RUN, Granted, Sandboxes
from factory.sandbox.screen import picture
from factory.services.actor import of_home
from factory.services.desk import Desk
from factory.serving.errors import CallRefusedError, UnauthenticatedError
from nodes.contract.signing import Envelope, sha256_hex
from nodes.contract.statement import PAYLOAD_TYPE, read
from tests.requirements.test_serving import FILES, PRODUCT, Counter
from tests.town import run as command

OPERATOR = frozenset({"operator"})
READS = """
import os
table = open(os.environ["SANDBOX_INPUTS"] + "/table.csv").read()
open(os.environ["SANDBOX_OUT"] + "/lines.txt", "w").write(str(len(table.splitlines())))
"""


class Room:
    """A sandbox at an operator whose counter offers a product to a screened developer."""

    def __init__(self, folder):
        self.counter = Counter(folder)
        self.counter.offer()
        declared = {"kind": "developer", "declared_on": "2026-01-05", "owners": ("free-ltd",)}
        self.key = self.counter.key(self.counter.client("dev-1", **declared), use="redevelopment")
        self.counter.shop.accept_terms(self.key, "t1")
        self.home = self.counter.operator.home
        self.registry = self.counter.registry
        desk = Desk(self.registry, lambda: self.counter.now().replace(microsecond=0))
        self.sandboxes = Sandboxes(desk, self.counter.operator, self.counter.shop)

    def actor(self, name="developer-desk"):
        return of_home(self.counter.operator, official=name, roles=OPERATOR)

    def grant(self, *more, **changes):
        table = Granted(name="table.csv", kind="product", product=PRODUCT, file="table.csv")
        words = {"developer": "dev-1", "purpose": "训练", "until": datetime.now(UTC) + timedelta(days=5), **changes}
        inputs = words.pop("inputs", [table, *more])
        return self.sandboxes.grant(self.actor(), "sb-1", inputs=inputs, **words)

    def run(self, script, *, key=None, bounds=None):
        self.counter.later += timedelta(minutes=2)  # the gateway's limit per minute is not what is tested here
        keys = {PRODUCT: self.key if key is None else key}
        return self.sandboxes.run(self.actor(), "sb-1", textwrap.dedent(script).encode(), keys=keys, bounds=bounds)

    def acts(self, kind, name):
        return [(e.body["act"], e.body["reason"]) for e in self.registry.events(kind=kind, case_id=name)]

    def refused(self, act, *arguments, **words):
        with pytest.raises(TransitionRefusedError) as told:
            act(*arguments, **words)
        event = self.registry.events()[-1].body
        assert event["act"].endswith(".refused")
        assert event["reason"] == told.value.refusal.code
        return told.value.refusal.code

    def files(self):
        return [path for path in self.home.rglob("*") if path.is_file() and "work" in path.parts]


@pytest.fixture
def room(tmp_path):
    made = Room(tmp_path)
    yield made
    made.registry.close()


TRIED = """
import ctypes, json, os, socket, subprocess, sys
tried = {}
def attempt(name, act):
    try:
        act()
        tried[name] = "done"
    except BaseException as error:
        tried[name] = type(error).__name__
attempt("ungranted", lambda: open(%(ungranted)r).read())
attempt("registry", lambda: open(%(registry)r, "rb").read())
attempt("passwords", lambda: open("/etc/passwd").read())
attempt("processes", lambda: os.listdir("/proc"))
attempt("write outside", lambda: open(%(outside)r, "w").write("x"))
attempt("write input", lambda: open(os.environ["SANDBOX_INPUTS"] + "/table.csv", "a").write("x"))
attempt("truncate input", lambda: os.truncate(os.environ["SANDBOX_INPUTS"] + "/table.csv", 0))
attempt("link out", lambda: os.link(os.environ["SANDBOX_INPUTS"] + "/table.csv", %(outside)r))
attempt("rename out", lambda: os.rename("script.py", %(outside)r))
attempt("network", lambda: socket.create_connection(("127.0.0.1", %(port)d), timeout=5))
attempt("name", lambda: socket.getaddrinfo("example.org", 443))
attempt("local socket", lambda: socket.socket(socket.AF_UNIX).connect(%(unix)r))
attempt("program", lambda: subprocess.run(["cp", %(ungranted)r, %(outside)r]))
attempt("fork", os.fork)
attempt("signal", lambda: os.kill(os.getppid(), 9))
attempt("our code", lambda: __import__("factory"))
libc = ctypes.CDLL(None, use_errno=True)
tried["native open"] = libc.open(%(ungranted)r.encode(), 0)
tried["native socket"] = libc.socket(2, 1, 0)
attempt("granted", lambda: open(os.environ["SANDBOX_INPUTS"] + "/table.csv").read().index("district"))
attempt("out", lambda: open(os.environ["SANDBOX_OUT"] + "/x", "w").write("x"))
open(os.environ["SANDBOX_OUT"] + "/tried.json", "w").write(json.dumps(tried))
"""


@pytest.mark.requirement("PC-SANDBOX")
@pytest.mark.requirement("RAW-NORETAIN")
@pytest.mark.requirement("RAW-NOEXPORT")
def test_code_reaches_neither_the_network_nor_what_was_not_granted_and_its_reads_are_logged(room, tmp_path):
    outside, heard = tmp_path / "copied.csv", []
    ungranted = room.home.parent / "released" / PRODUCT.replace("@", "_") / "page.html"
    assert ungranted.is_file()
    unix = tmp_path / "s"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(unix))
        local.listen()
        tcp.settimeout(0.2)
        said = {
            "ungranted": str(ungranted), "registry": str(room.home / "registry.db"), "outside": str(outside),
            "port": tcp.getsockname()[1], "unix": str(unix),
        }  # fmt: skip
        with pytest.raises(CaseUnknownError):
            room.run(TRIED % said)  # nothing runs without a grant
        room.grant()
        ended, ran = room.run(TRIED % said)
        with pytest.raises(TimeoutError):
            heard.append(tcp.accept())
    assert heard == []
    tried = json.loads(_held(room, ran, "tried.json"))
    allowed = {name for name, outcome in tried.items() if outcome == "done"}
    assert allowed == {"granted", "out"}
    assert (tried["native open"], tried["native socket"]) == (-1, -1)
    assert not outside.exists()
    logged = room.acts(RUN, ended.id)
    assert ("sandbox_run.read", "table.csv") in logged
    noticed = {reason.split(" ")[0] for act, reason in logged if act == "sandbox_run.attempt"}
    assert {"open", "os.listdir", "socket.__new__", "subprocess.Popen", "os.fork", "os.kill"} <= noticed
    assert f"open {ungranted}" in {reason for _, reason in logged}
    assert [act for act, _ in logged][:2] == ["sandbox_run.start", "sandbox_run.read"]
    assert logged[-1][0] == "sandbox_run.end"
    calls = [event.body for event in room.registry.events() if event.body["act"] == "call.answered"]
    assert {call["actor"] for call in calls} == {"dev-1"}  # the gateway metered the read as any other


def _held(room, ran, name):
    return (room.home / "sandbox" / "held" / "sb-1" / ran.held[name]).read_bytes()


@pytest.mark.requirement("PC-SANDBOX")
def test_a_sandbox_is_granted_for_a_purpose_without_raw_data_and_ends(room, tmp_path):
    raw = Granted(name="clinic", kind="resource", file="res.east.clinic")
    path = Granted(name="clinic", kind="import", file="res.east.clinic")
    for inputs in ([raw], [path], [Granted(name="t", kind="table", file="/srv/t.csv")]):
        assert room.refused(room.grant, inputs=inputs) == "sandbox.raw"
    assert room.refused(room.grant, purpose=" ") == "sandbox.purpose"
    assert room.refused(room.grant, until=datetime.now(UTC) - timedelta(days=1)) == "sandbox.ended"
    assert room.registry.cases("sandbox") == []
    file = tmp_path / "codes.csv"
    file.write_bytes(b"code,name\n110101,x\n")
    room.grant(Granted(name="codes.csv", kind="import", file=str(file)))
    assert room.refused(room.run, READS) == "sandbox.input"  # not reviewed
    said = {"name": "codes.csv", "official": "王芳", "reason": "公开", "now": room.counter.world.office.now()}
    agency, review = room.counter.world.office.identity, file.with_name("codes.csv.review")
    review.write_bytes(review_input(agency, file.read_bytes(), approve=False, **said))
    assert room.refused(room.run, READS) == "sandbox.input"
    review.write_bytes(review_input(agency, file.read_bytes(), approve=True, **said))
    ended, ran = room.run(READS)
    assert (ran.exit_code, ended.state) == (0, "ended")
    assert {reason for act, reason in room.acts(RUN, ended.id) if act == "sandbox_run.read"} == {
        "table.csv",
        "codes.csv",
    }
    room.sandboxes.close(room.actor(), "sb-1", reason="期满")
    assert room.refused(room.run, READS) == "sandbox.ended"
    assert room.files() == []


@pytest.mark.requirement("PC-SANDBOX")
@pytest.mark.requirement("DOWN-ENV")
def test_a_run_meets_what_stops_the_product_and_only_an_approved_developer_has_one(room):
    room.grant()
    with pytest.raises(UnauthenticatedError):
        room.run(READS, key="sf_none_none")
    stranger = room.counter.key(room.counter.client("bank-two"))  # did not accept the terms
    with pytest.raises(CallRefusedError):
        room.run(READS, key=stranger)
    assert room.run(READS)[1].exit_code == 0
    room.counter.shop.suspend("dev-1", by="o", reason="转售", case_ref="inc-1")
    with pytest.raises(CallRefusedError):
        room.run(READS)
    assert room.files() == []


@pytest.mark.requirement("RAW-NORETAIN")
@pytest.mark.parametrize(
    ("script", "exit_code"),
    [
        (READS + "open('copy.csv', 'w').write(table)", 0),
        (READS + "open('copy.csv', 'w').write(table)\nraise SystemExit(3)", 3),
        (READS + "import os\nos.mkdir('d')\nopen('d/c', 'w').write(table)\nos.chmod('d/c', 0)\nos.chmod('d', 0)", 0),
        (READS + "open('copy.csv', 'w').write(table)\nwhile True: pass", -9),
        (READS + "open('big', 'wb').write(bytes(2_000_000))", 1),
        ("x = bytearray(10**10)", 1),
    ],
)
def test_after_a_run_neither_input_nor_intermediate_is_left_and_the_deletion_is_signed(room, script, exit_code):
    room.grant()
    bounds = Bounds(wall_s=4, cpu_s=9, memory_bytes=2**30, file_bytes=10**6)
    before = {path for path in room.home.rglob("*") if path.is_file()}
    ended, ran = room.run(script, bounds=bounds)
    assert ran.exit_code == exit_code
    assert room.files() == []
    added = {path for path in room.home.rglob("*") if path.is_file()} - before
    canary = b"d07,70"
    for path in added:
        if not path.name.startswith("registry.db"):
            assert canary not in path.read_bytes(), path
    [record] = (room.home / "sandbox" / "deleted").iterdir()
    subjects, said = read(Envelope.from_bytes(record.read_bytes()).open(room.counter.operator.key.public, PAYLOAD_TYPE),
                          "urn:shufang:predicate:deletion-record/v1")  # fmt: skip
    names = {name for name, _ in subjects}
    assert {"in/table.csv", "area/script.py", "area/prints.txt"} <= names
    assert said["run"] == ended.id
    assert record.read_bytes() == ran.deletion
    events = [event.body for event in room.registry.events(kind=RUN, case_id=ended.id)]
    assert events[-1]["evidence"] == {"deletion": sha256_hex(ran.deletion)}


@pytest.mark.requirement("RAW-NORETAIN")
def test_a_run_that_was_killed_is_cleared_and_recorded_before_the_next_one(room, monkeypatch):
    room.grant()
    module = sys.modules["factory.sandbox.running"]

    def killed(*_arguments, **_words):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "remove", killed)  # as if the process ended here
        patch.setattr(Sandboxes, "_end", killed)
        with pytest.raises(KeyboardInterrupt):
            room.run(READS)
    [left] = room.registry.cases(RUN)
    assert left.state == "running"
    assert room.files() != []
    facts = SandboxFacts(now=room.sandboxes.desk.clock(), removed=False)
    assert room.refused(room.sandboxes.desk.move, room.actor(), RUN, left.id, "end", facts=facts) == "sandbox.retained"
    ended, _ = room.run(READS)
    assert room.files() == []
    assert {case.state for case in room.registry.cases(RUN)} == {"ended"}
    assert len(list((room.home / "sandbox" / "deleted").iterdir())) == 2
    assert ended.id != left.id


@pytest.mark.requirement("RAW-NOEXPORT")
def test_an_input_does_not_leave_and_a_result_only_after_another_person_approved(room):
    room.grant()
    ended, _ = room.run(
        """
        import os
        given, out = os.environ["SANDBOX_INPUTS"], os.environ["SANDBOX_OUT"]
        table = open(given + "/table.csv").read()
        open(out + "/copy.csv", "w").write(table)
        open(out + "/sorted.csv", "w").write("\\n".join(sorted(table.splitlines(), reverse=True)))
        open(out + "/part.csv", "w").write("\\n".join(table.splitlines()[:9]))
        open(out + "/mean.json", "w").write('{"mean": 195}')
        """
    )
    ask = lambda name, who="li": room.sandboxes.ask(room.actor(who), ended.id, name, reason="交付")  # noqa: E731
    for name in ("copy.csv", "sorted.csv", "part.csv"):
        assert room.refused(ask, name) == "sandbox.copy"
    for name in ("table.csv", "../in/table.csv", "script.py", ""):
        assert room.refused(ask, name) == "sandbox.unknown"
    asked = ask("mean.json")
    take = lambda: room.sandboxes.take(room.actor("li"), asked.id)  # noqa: E731

    def decide(who, **changes):
        return room.sandboxes.decide(room.actor(who), asked.id, **{"approve": True, "reason": "汇总", **changes})

    assert room.refused(take) == "sandbox_export.state"
    assert room.refused(decide, "li") == "duties.own_case"
    assert room.refused(decide, "wang", reason=" ") == "sandbox.reason"
    assert room.refused(take) == "sandbox_export.state"
    decide("wang")
    assert take() == ("mean.json", b'{"mean": 195}')
    assert room.refused(take) == "sandbox_export.state"  # once
    second = ask("mean.json")
    room.sandboxes.decide(room.actor("wang"), second.id, approve=False, reason="用途不符")
    assert room.refused(room.sandboxes.take, room.actor("li"), second.id) == "sandbox_export.state"
    assert [act for act, _ in room.acts(EXPORT, second.id)][-1] == "sandbox_export.take.refused"
    assert room.registry.verify_chain() > 0


@pytest.mark.requirement("RAW-NOEXPORT")
@pytest.mark.parametrize("script", ["os.symlink('/etc/passwd', 'out/x')", "os.mkdir('out/d')", "os.mkfifo('out/p')"])
def test_links_and_folders_do_not_leave_and_all_of_it_is_deleted(room, script):
    room.grant()
    with pytest.raises(SandboxInputError, match="plain files"):
        room.run("import os\n" + script)
    assert room.files() == []
    assert not (room.home / "sandbox" / "held").exists() or not any((room.home / "sandbox" / "held" / "sb-1").iterdir())
    assert room.registry.cases(RUN)[0].state == "ended"


@pytest.mark.requirement("PC-SANDBOX")
def test_a_machine_that_cannot_confine_runs_nothing(room, tmp_path):
    script, mark = tmp_path / "s.py", tmp_path / "ran"
    script.write_text(f"open({str(mark)!r}, 'w')", "utf-8")
    limits = {"cpu_s": 9, "memory_bytes": 2**30, "file_bytes": 10**6}
    told = {"read": [], "inputs": str(tmp_path / "none"), "work": str(tmp_path), "script": str(script), "report": 2}
    code = f"import sys; sys.argv = ['x', {json.dumps({**told, 'limits': limits})!r}]; import runpy, platform; "
    code += "platform.machine = lambda: 'vax'; runpy.run_path(" + repr(launch.__file__) + ", run_name='__main__')"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == launch.UNUSABLE
    assert "vax" in done.stderr
    assert not mark.exists()


@pytest.mark.requirement("PC-SANDBOX")
def test_the_commands_do_it_and_say_what_is_missing(room, tmp_path):
    home = ("--home", room.home)
    released = room.home / "released"
    released.symlink_to(room.home.parent / "released")
    (room.home / "gateway.toml").write_text('gateways = ["https://gateway.yunzhou.example"]\n', "utf-8")
    file, script, key = tmp_path / "sandbox.toml", tmp_path / "s.py", tmp_path / "key"
    file.write_text("name = 'sb-2'\n", "utf-8")
    grant = ("sandbox", "grant", file, "--by", "li", *home, "--json")
    assert command(cli.app, *grant).error.code == "sandbox.input"
    file.write_text(
        f"name = 'sb-2'\ndeveloper = 'dev-1'\npurpose = '训练'\nuntil = {datetime.now(UTC).date() + timedelta(days=3)}\n"
        f"[[inputs]]\nname = 'table.csv'\nkind = 'product'\nproduct = '{PRODUCT}'\nfile = 'table.csv'\n",
        "utf-8",
    )
    assert command(cli.app, *grant).ok()["state"] == "open"
    script.write_text(READS, "utf-8")
    key.write_text(room.key + "\n", "utf-8")
    run = ("sandbox", "run", "sb-2", script, "--by", "li", *home, "--json")
    assert command(cli.app, *run).error.refusal.code == "sandbox.input"
    ran = command(cli.app, *run, "--key-file", f"{PRODUCT}={key}").ok()
    assert (ran["exit_code"], ran["held"]) == (0, ["lines.txt"])
    ask = ("sandbox", "ask", ran["run"], "lines.txt", "--reason", "交付", *home, "--json", "--by", "li")
    export = command(cli.app, *ask).ok()["export"]
    out = tmp_path / "lines.txt"
    take = ("sandbox", "take", export, "--by", "li", "--out", out, *home, "--json")
    assert command(cli.app, *take).exit_code == 1
    assert not out.exists()
    decide = ("sandbox", "decide", export, "--approve", "--reason", "汇总", "--by", "wang", *home, "--json")
    assert command(cli.app, *decide).ok()["state"] == "approved"
    command(cli.app, *take).ok()
    assert out.read_text("utf-8") == str(len(FILES["table.csv"].splitlines()))
    close = ("sandbox", "close", "sb-2", "--reason", "期满", "--by", "li", *home, "--json")
    assert command(cli.app, *close).ok()["state"] == "closed"


@contextlib.contextmanager
def console_of(room):
    """Serve the work console on a loopback socket."""
    console = Console(room.sandboxes)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(create_console(console), log_level="error", access_log=False, ws="none", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", trust_env=False) as http:
                yield console, http
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.requirement("RAW-SCREEN")
def test_a_screen_shows_person_and_time_and_gives_nothing_to_copy_download_or_print(room):
    pytest.importorskip("typst", reason="the extra `reports` is not installed")
    room.grant()
    ended, _ = room.run(READS + "open(os.environ['SANDBOX_OUT'] + '/t.txt', 'w').write('mean 195\\n' * 9)")
    attempts = lambda: [a for a, _ in room.acts(RUN, ended.id) if ".screen." in a]  # noqa: E731
    with console_of(room) as (console, http):
        for wrong in ("table.csv", "../in/table.csv"):
            assert room.refused(console.open, room.actor("li"), ended.id, wrong) == "sandbox.unknown"
        li, wang = (f"/screens/{console.open(room.actor(who), ended.id, 't.txt')}" for who in ("li", "wang"))
        assert http.get("/screens/none").status_code == 404
        assert attempts() == []
        refused = [
            http.get(f"{li}/picture"),  # without a page around it
            http.get(f"{li}/picture", headers={"Sec-Fetch-Dest": "document"}),
            http.get(f"{li}/t.txt"),
            http.get(f"{li}/download"),
            http.post(f"{li}/attempts", json={"kind": "copy"}),
            http.post(f"{li}/attempts", json={"kind": "print"}),
            http.post(f"{li}/attempts", json={"kind": "save"}),
        ]
        assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(403, "screen.export")}
        words = ("download",) * 4 + ("copy", "print", "save")
        assert attempts() == [f"sandbox_run.screen.{word}.refused" for word in words]
        actors = {
            e.body["actor"] for e in room.registry.events(kind=RUN, case_id=ended.id) if ".screen." in e.body["act"]
        }
        assert actors == {"li"}
        page = http.get(li)
        assert page.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        now = room.sandboxes.desk.clock().astimezone(timezone(timedelta(hours=8)))
        assert f"li  {now:%Y-%m-%d %H:}" in page.text
        assert "mean 195" not in page.text  # a picture, no text
        assert "@media print{body{display:none}}" in page.text
        as_image = {"Sec-Fetch-Dest": "image"}
        pictures = [http.get(f"{place}/picture", headers=as_image) for place in (li, wang)]
        assert [answer.headers["content-type"] for answer in pictures] == ["image/png"] * 2
        assert pictures[0].content[:8] == b"\x89PNG\r\n\x1a\n"
        assert pictures[0].content != pictures[1].content  # each carries its person
        room.counter.later += timedelta(minutes=16)
        assert http.get(li).status_code == 404
        assert http.get(f"{li}/picture", headers=as_image).status_code == 404
    looked = [reason for act, reason in room.acts(RUN, ended.id) if act == "sandbox_run.look"]
    assert looked == ["t.txt", "t.txt"]


@pytest.mark.requirement("RAW-SCREEN")
def test_the_mark_lies_in_the_picture_itself():
    pytest.importorskip("typst", reason="the extra `reports` is not installed")
    now = datetime(2026, 6, 1, 8, 0, 0, tzinfo=UTC)
    made = picture(b"mean 195\n", person="li", now=now)
    assert made == picture(b"mean 195\n", person="li", now=now)
    assert made != picture(b"mean 195\n", person="wang", now=now)
    assert made != picture(b"mean 195\n", person="li", now=now + timedelta(seconds=1))
    with pytest.raises(SandboxInputError, match="UTF-8"):
        picture(b"\xff\xfe", person="li", now=now)
