"""SQLite and PostgreSQL keep the same, whatever dies, and an older registry becomes the present one."""

import os
import signal
import sqlite3
import sys
import threading

import pytest

from factory.registry import schema
from factory.registry.database import Database
from factory.registry.errors import CaseExistsError, ChainBrokenError, RegistryOutdatedError, RegistryUnusableError
from factory.registry.store import Act, Registry
from tests.registries import KINDS, NOW, registry_url

ACT = Act("official", "agency", "bureau", "test.act", "why", {"paper": "ab" * 32})


@pytest.fixture(params=KINDS)
def url(request, tmp_path):
    with registry_url(request.param, tmp_path) as found:
        yield found


def dump(registry):
    rows = {}
    with registry.database.reading() as connection:
        for name in ("cases", "artefacts", "events"):
            table = schema.table(name)
            rows[name] = [tuple(row) for row in connection.execute(table.select().order_by(*table.primary_key))]
    return rows


def life(registry):
    for name in ("r-1", "R-2", "r_3", "r-10", "é"):
        document = {"n": 1, "text": "二十", "agreement_id": "agr-1" if name == "r-1" else ""}
        registry.create("request", name, state="submitted", document=document, act=ACT, now=NOW)
    case = registry.get("request", "r-1")
    registry.change(case, state="approved", act=ACT, now=NOW, document={"n": 2}, artefacts={"a": bytes(range(256))})
    registry.put("request", "r-1", "a", b"other")
    registry.record(ACT, kind="query", case_id="q", now=NOW)
    with pytest.raises(CaseExistsError):
        registry.create("request", "r-1", state="submitted", document={}, act=ACT, now=NOW)


def test_both_databases_keep_the_same(tmp_path):
    dumps = []
    for kind in KINDS:
        with registry_url(kind, tmp_path) as url, Registry(url) as registry:
            life(registry)
            assert [case.id for case in registry.cases("request", after="R-2")] == ["r-1", "r-10", "r_3", "é"]
            assert [case.id for case in registry.cases("request", within=("other", frozenset({"agr-1"})))] == ["r-1"]
            dumps.append(dump(registry))
    assert dumps[0] == dumps[1]


def test_what_fails_inside_a_transaction_leaves_nothing(url):
    with Registry(url) as registry:
        with pytest.raises(RuntimeError), registry.transaction():
            registry.create("request", "r-1", state="submitted", document={}, act=ACT, now=NOW)
            registry.put("request", "r-1", "a", b"1")
            assert registry.get("request", "r-1").revision == 1
            raise RuntimeError
        assert registry.cases("request") == []
        assert registry.verify_chain() == 0


def test_two_hundred_writers_lose_no_change(url):
    def write(number):
        try:
            with registry.transaction():
                case = registry.get("request", "r-1")
                document = {"n": int(case.document["n"]) + 1}
                registry.change(case, state="open", act=ACT, now=NOW, document=document)
        except Exception as error:  # noqa: BLE001  every failure is a failure of the test
            failed.append((number, error))

    failed = []
    with Registry(url) as registry:
        registry.create("request", "r-1", state="open", document={"n": 0}, act=ACT, now=NOW)
        threads = [threading.Thread(target=write, args=(number,)) for number in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert registry.get("request", "r-1").document == {"n": 200}
        assert registry.verify_chain() == 201


@pytest.mark.requirement("SRC-OPS")
def test_an_update_is_found_by_its_entry_and_a_change_behind_the_back_is_seen(url):
    from sqlalchemy import create_engine

    with Registry(url) as registry:
        case = registry.create("resource", "res.a", state="draft", document={"n": 1}, act=ACT, now=NOW)
        after = registry.change(case, state="draft", document={"n": 2}, act=ACT, now=NOW)
        registry.create("resource", "res.b", state="draft", document={"n": 1}, act=ACT, now=NOW)
        event = registry.events(kind="resource", case_id="res.a")[-1].body
        assert (event["actor"], event["act"], event["at"]) == ("official", "test.act", "2026-03-02T08:00:00Z")
        assert (event["before"], event["after"]) == (case.sha256, after.sha256)
        assert registry.verify_cases() == 2
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE cases SET state = 'active' WHERE id = 'res.b'")
        engine.dispose()
        assert registry.verify_chain() == 3
        with pytest.raises(ChainBrokenError, match=r"res\.b"):
            registry.verify_cases()


class Killer:
    """Ends its own process, as kill -9 does, before the statement of this number; commits are statements too."""

    def __init__(self, database, number):
        from sqlalchemy import event

        self.left = number
        for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
            event.listen(database._engine, name, self.count)

    def count(self, *_):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_at(url, number):
    """Let a process open two cases and move one, and kill it at one of its writes; return what it acknowledged."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            registry = Registry(url)
            Killer(registry.database, number)
            name = f"r-{number}"
            case = registry.create("request", name, state="submitted", document={"n": 1}, act=ACT, now=NOW)
            os.write(write, b"1")
            registry.change(case, state="approved", act=ACT, now=NOW, artefacts={"a": b"1"})
            os.write(write, b"2")
        finally:
            os._exit(0)
    os.close(write)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(read, "rb") as file:
        return file.read(), os.WIFSIGNALED(status)


def test_a_writer_killed_at_any_write_leaves_all_of_an_act_or_nothing(url):
    Registry(url).close()
    events = 0
    for number in range(200):
        told, was_killed = killed_at(url, number)
        with Registry(url) as registry:
            kept = {case.id: case.state for case in registry.cases("request")}
            state = kept.get(f"r-{number}")
            assert state in {None, "submitted", "approved"}
            if b"1" in told:
                assert state is not None
            if b"2" in told:
                assert state == "approved"
            assert (registry.artefacts("request", f"r-{number}") != {}) == (state == "approved")
            found = registry.verify_chain()
            assert found == events + {None: 0, "submitted": 1, "approved": 2}[state]
            events = found
        if not was_killed:
            assert number > 10
            return
    raise AssertionError("expected the process to end by itself once it has written everything")


def old_registry(url):
    """Lay out a registry as the first release did, with two cases."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from sqlalchemy import create_engine

    from factory.registry.migrations.versions import r0001_cases

    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        r0001_cases.upgrade()
        for statement in (
            "INSERT INTO cases VALUES ('request', 'r-1', 'submitted', 1, :document)",
            "INSERT INTO events VALUES (1, 'request', 'r-1', :sha256, :body)",
        ):
            from sqlalchemy import text

            connection.execute(
                text(statement).bindparams(
                    **{
                        name: value
                        for name, value in {
                            "document": b'{"agreement_id":"agr-1"}',
                            "sha256": "ab" * 32,
                            "body": b'{"actor":"li","organisation":"org-operator"}',
                        }.items()
                        if f":{name}" in statement
                    }
                )
            )
    engine.dispose()


def layout(url):
    from sqlalchemy import create_engine, inspect

    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    found = inspect(engine)
    described = {
        name: (
            {(c["name"], str(c["type"]), c["nullable"], bool(c.get("primary_key"))) for c in found.get_columns(name)},
            {(i["name"], tuple(i["column_names"])) for i in found.get_indexes(name)},
        )
        for name in found.get_table_names()
    }
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    engine.dispose()
    return described, version


@pytest.mark.parametrize("kind", KINDS)
def test_an_old_registry_becomes_what_a_new_one_is(kind, tmp_path):
    (tmp_path / "new").mkdir()
    with registry_url(kind, tmp_path / "new") as fresh, registry_url(kind, tmp_path) as url:
        Registry(fresh).close()
        old_registry(url)
        with Registry(url, upgrade=True) as registry:
            case = registry.get("request", "r-1")
            assert (case.organisation, case.agreement) == ("org-operator", "agr-1")
            assert [event.seq for event in registry.events(actor="li")] == [1]
            assert registry.cases("request", within=("org-operator", frozenset())) == [case]
        assert layout(url) == layout(fresh)


def test_an_old_registry_that_others_may_use_is_refused_with_the_command(tmp_path):
    with registry_url("postgresql", tmp_path) as url:
        old_registry(url)
        with pytest.raises(RegistryOutdatedError, match="shufang registry upgrade --url postgresql://postgres@"):
            Registry(url)
        before = layout_names(url)
        assert "credentials" not in before


def layout_names(url):
    from sqlalchemy import create_engine, inspect

    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


def test_an_old_file_is_brought_up_to_date_by_opening_it(tmp_path):
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    old_registry(url)
    with Registry(url) as registry:
        assert registry.get("request", "r-1").agreement == "agr-1"


def test_a_registry_of_a_later_release_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    Registry(url).close()
    with sqlite3.connect(tmp_path / "registry.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'r9999'")
    with pytest.raises(RegistryOutdatedError, match="install the release"):
        Registry(url)


@pytest.mark.parametrize("url", ["nonsense", "oracle://x/y", "postgresql://postgres@127.0.0.1:1/none"])
def test_an_address_that_is_no_registry_is_said(url):
    with pytest.raises(RegistryUnusableError):
        Database(url)


def test_the_drivers_load_late():
    import subprocess

    code = "import factory.registry.store, sys; sys.exit('sqlalchemy' in sys.modules or 'alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
