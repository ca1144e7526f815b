"""The verification service of an application unit over real processes: keys, quota, receipts, whole table, bad input."""

import json
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from factory.client.match import Invitation
from factory.federation.session import require
from factory.pipelines import verification
from factory.pipelines.recipe import parse_recipe
from factory.trial.world import World
from tests import trials

pytestmark = pytest.mark.xdist_group("trials")
PURPOSE = "identity-check"


class Service:
    """A world with an open session, and the unit's command line in it."""

    def __init__(self, world: World, folder: Path, recipe) -> None:
        self.world, self.folder = world, folder
        self.home = world.client_home("bank")
        grant, digest, _ = world.grant()
        self.session = world.session(grant, digest)
        answers = require(
            verification.open_prepared(
                self.session, verification.parameters_of(recipe), recipe, now=lambda: datetime.now(UTC)
            )
        )
        self.invitation = folder / "invitation.bin"
        self.invitation.write_bytes(
            Invitation(self.session.order_envelopes["north"], answers["north"].envelope).to_bytes()
        )

    def shufang(self, *words, code: int = 0) -> str:
        done = subprocess.run(
            [Path(sys.executable).parent / "shufang", *map(str, words)],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def reached(self) -> list[str]:
        return ["--home", str(self.home), "--relay", self.world.relay_url]

    def key(self, name: str, *, quota: int = 100) -> str:
        words = ("key", "add", name, "--home", self.home, "--purpose", PURPOSE, "--quota-day", quota)
        return self.shufang("client", *words).strip()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    recipe = parse_recipe((trials.EXAMPLES / "verification.toml").read_text("utf-8"), name="example")
    tables = trials.persons(folder)
    with World(recipe, {"north.persons": tables["north"]}) as world:
        yield Service(world, folder, recipe)


@pytest.fixture(scope="module")
def people(service):
    import csv

    with (service.folder / "persons.csv").open(encoding="utf-8", newline="") as file:
        return [{"name": row["name"], "id_no": row["id_no"]} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def url(service):
    words = [Path(sys.executable).parent / "shufang", "client", "serve", service.invitation, *service.reached()]
    with subprocess.Popen(words, stdout=subprocess.PIPE, encoding="utf-8") as process:
        line = process.stdout.readline().strip()
        assert line.startswith("http://127.0.0.1:")
        for _ in range(200):
            try:
                httpx.get(line)
                break
            except httpx.ConnectError:
                threading.Event().wait(0.05)
        yield line
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)


def ask(url, key, records, *, purpose=PURPOSE, **headers):
    return httpx.post(
        url,
        json={"purpose": purpose, "records": records},
        headers={"Authorization": f"Bearer {key}"} | headers,
        timeout=60,
    )


def problem(answer) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["detail"]
    return answer.status_code, body["code"]


def test_one_record_on_the_command_line_is_yes_or_no(service, people):
    options = ("--invitation", service.invitation, *service.reached())
    yes = [f"{field}={value}" for field, value in people[0].items()]
    assert service.shufang("verify-entity", *yes, *options).strip() == "是 yes"
    no = [yes[0], "id_no=110101199001011299"]
    assert json.loads(service.shufang("verify-entity", *no, "--json", *options, code=1)) == {"match": False}
    assert "client.record" in service.shufang("verify-entity", yes[0], *options, code=1)
    service.shufang("verify-entity", "name", *options, code=2)


def test_a_program_asks_with_its_key_and_gets_an_answer_per_record(service, url, people):
    key = service.key("loans")
    answer = ask(url, key, [people[1], {"name": "不在", "id_no": "1"}, people[2]])
    assert answer.status_code == 200
    assert answer.json() == {
        "answers": [{"match": True, "band": None}, {"match": False, "band": None}, {"match": True, "band": None}],
        "asked": 3,
    }


def test_the_same_call_sent_again_asks_nothing_and_another_under_its_name_is_refused(service, url, people):
    key = service.key("again", quota=2)
    first = ask(url, key, people[:2], **{"Idempotency-Key": "call-1"})
    assert ask(url, key, people[:2], **{"Idempotency-Key": "call-1"}).json() == first.json()
    assert problem(ask(url, key, people[2:4], **{"Idempotency-Key": "call-1"})) == (409, "client.idempotency")
    assert problem(ask(url, key, people[:1])) == (429, "client.quota")


def test_without_its_key_for_its_purpose_nobody_asks(service, url, people):
    key = service.key("strict")
    assert problem(ask(url, "sfc_other", people[:1])) == (401, "client.key")
    assert problem(httpx.post(url, json={"purpose": PURPOSE, "records": people[:1]})) == (401, "client.key")
    assert problem(ask(url, key, people[:1], purpose="marketing")) == (403, "client.purpose")
    service.shufang("client", "key", "revoke", "strict", "--home", service.home)
    assert problem(ask(url, key, people[:1])) == (401, "client.key")
    rows = json.loads(service.shufang("client", "key", "list", "--home", service.home, "--json"))
    assert [row["used_today"] for row in rows if row["name"] == "strict"] == [0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"purpose": "identity-check", "records": []}',
        b'{"purpose": "identity-check", "records": [{"name": "a"}]}',
        b'{"purpose": "identity-check", "records": [{"name": "a", "id_no": "1", "more": "x"}]}',
        b'{"purpose": "identity-check", "records": [{"name": 1, "id_no": "1"}]}',
        b'{"purpose": "identity-check", "records": [{"name": " ", "id_no": "1"}]}',
        b'{"purpose": "identity-check", "records": [{"name": "\\ud800", "id_no": "1"}]}',
        ('{"purpose": "identity-check", "records": [{"name": "' + "\ufdfa" * 200 + '", "id_no": "1"}]}').encode(),
    ],
)
def test_a_body_that_does_not_fit_is_refused_and_counts_nothing(service, url, body):
    key = "malformed-key"
    rows = json.loads(service.shufang("client", "key", "list", "--home", service.home, "--json"))
    if key not in {row["name"] for row in rows}:
        (service.folder / key).write_text(service.key(key))
    secret = (service.folder / key).read_text()
    answer = httpx.post(
        url, content=body, headers={"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    )
    assert problem(answer)[0] == 422
    rows = json.loads(service.shufang("client", "key", "list", "--home", service.home, "--json"))
    assert [row["used_today"] for row in rows if row["name"] == key] == [0]


def test_random_calls_never_break_the_service(service, url):
    """Properties of the OpenAPI document hold for whatever is sent."""
    document = httpx.get(url.removesuffix("/v1/verifications") + "/openapi.json").json()
    import hypothesis
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

    key = service.key("fuzz", quota=1_000_000)
    operation = schemathesis.openapi.from_dict(document)["/v1/verifications"]["POST"]
    seen = set()

    @hypothesis.given(case=operation.as_strategy())
    @hypothesis.settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def holds(case):
        headers = {"Authorization": f"Bearer {key}"}
        response = case.call(base_url=url.removesuffix("/v1/verifications"), headers=headers)
        seen.add(response.status_code)
        case.validate_response(response, checks=[not_a_server_error, status_code_conformance, content_type_conformance])

    holds()
    assert seen & {403, 422}


def test_both_signatures_are_kept_and_a_changed_one_is_noticed(service, url, people):
    before = json.loads(service.shufang("client", "receipts", "--home", service.home, "--json"))
    ask(url, service.key("receipts"), people[:20])
    (row,) = json.loads(service.shufang("client", "receipts", "--home", service.home, "--json"))
    assert row["records"] == (before[0]["records"] if before else 0) + 20
    assert row["batches"] - (before[0]["batches"] if before else 0) == 2  # the order allows sixteen in one
    import sqlite3

    with sqlite3.connect(service.home / "client.db") as db:
        kept = db.execute("SELECT asked FROM receipts WHERE rowid = (SELECT MAX(rowid) FROM receipts)").fetchone()[0]
        other = db.execute("SELECT asked FROM receipts WHERE rowid = 1").fetchone()[0]
        db.execute("UPDATE receipts SET asked = ? WHERE rowid = (SELECT MAX(rowid) FROM receipts)", (other,))
    db.close()
    assert "expected the answer to this very question" in service.shufang(
        "client", "receipts", "--home", service.home, code=1
    )
    with sqlite3.connect(service.home / "client.db") as db:
        db.execute("UPDATE receipts SET asked = ? WHERE rowid = (SELECT MAX(rowid) FROM receipts)", (kept,))
    db.close()
    for person in people[:20]:
        assert person["id_no"].encode() not in (service.home / "client.db").read_bytes()


def test_going_through_numbers_holds_the_key_until_an_officer_releases_it(service, url, people):
    key = service.key("guess", quota=1000)
    guesses = [{"name": "王小一", "id_no": f"11010119900101{number:04d}"} for number in range(200)]
    assert ask(url, key, guesses).status_code == 200
    assert problem(ask(url, key, people[:1])) == (403, "client.key_held")
    assert json.loads(service.shufang("client", "alarms", "--home", service.home, "--json"))[-1]["key"] == "guess"
    service.shufang("client", "key", "release", "guess", "--home", service.home)
    assert ask(url, key, people[:1]).status_code == 200


def test_one_long_call_through_numbers_ends_at_the_alarm_and_answers_nothing(service, url):
    def asked():
        return sum(row["records"] for row in json.loads(service.shufang("client", "receipts", *home, "--json")))

    home = ("--home", service.home)
    key, before = service.key("sweep", quota=1000), asked()
    sweep = [{"name": "王小一", "id_no": f"11010119900101{number:04d}"} for number in range(600)]
    assert problem(ask(url, key, sweep)) == (403, "client.key_held")
    assert asked() - before == 200  # the department was not asked for the rest
    service.shufang("client", "key", "release", "sweep", *home)


def test_the_whole_table_is_kept_for_the_next_process(service, people):
    options = ("--invitation", service.invitation, *service.reached(), "--whole-table")
    words = [f"{field}={value}" for field, value in people[5].items()]
    assert service.shufang("verify-entity", *words, *options).strip() == "是 yes"
    (kept,) = (service.home / "tables").glob("*.tags")
    made = kept.stat().st_mtime_ns
    assert kept.stat().st_mode & 0o777 == 0o600
    assert service.shufang("verify-entity", *words, *options).strip() == "是 yes"
    assert kept.stat().st_mtime_ns == made


def test_when_the_session_is_over_the_next_call_says_so(service, url, people):
    key = service.key("late")
    service.session.close()
    status, code = problem(ask(url, key, people[:1]))
    assert (status, code) == (403, "factory.node_refused")
