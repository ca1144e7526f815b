"""The registry: nothing is lost, overwritten or altered unseen."""

import sqlite3
import threading
from datetime import UTC, datetime

import pytest

from factory.registry.errors import CaseChangedError, CaseExistsError, CaseUnknownError, ChainBrokenError
from factory.registry.store import Act, Registry

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
ACT = Act("official", "agency", "bureau", "test.act", "why", {"paper": "ab" * 32})


@pytest.fixture
def registry(tmp_path):
    with Registry.at(tmp_path / "registry.db") as registry:
        yield registry


def create(registry, name="r-1"):
    return registry.create("request", name, state="submitted", document={"n": 1}, act=ACT, now=NOW)


def test_a_name_is_taken_once(registry):
    create(registry)
    with pytest.raises(CaseExistsError):
        create(registry)
    assert registry.verify_chain() == 1


def test_an_unknown_case_is_named(registry):
    with pytest.raises(CaseUnknownError, match="r-9"):
        registry.get("request", "r-9")


def test_a_writer_who_read_an_older_revision_is_refused_and_nothing_is_recorded(registry):
    case = create(registry)
    registry.change(case, state="approved", act=ACT, now=NOW, artefacts={"a": b"1"})
    with pytest.raises(CaseChangedError):
        registry.change(case, state="rejected", act=ACT, now=NOW, artefacts={"a": b"2"})
    assert registry.get("request", "r-1").state == "approved"
    assert registry.artefacts("request", "r-1") == {"a": b"1"}
    assert registry.verify_chain() == 2


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE events SET body = replace(body, 'why', 'wky') WHERE seq = 2",
        "DELETE FROM events WHERE seq = 2",
        "UPDATE events SET sha256 = substr(sha256, 2) || '0' WHERE seq = 1",
        "UPDATE events SET seq = 9 WHERE seq = 3",
    ],
)
def test_an_altered_event_breaks_the_chain(registry, tmp_path, damage):
    for number in range(3):
        create(registry, f"r-{number}")
    assert registry.verify_chain() == 3
    registry.close()
    connection = sqlite3.connect(tmp_path / "registry.db")
    with connection:
        connection.execute(
            damage.replace("replace(body, 'why', 'wky')", "CAST(replace(CAST(body AS TEXT), 'why', 'wky') AS BLOB)")
        )
    connection.close()
    with Registry.at(tmp_path / "registry.db") as again, pytest.raises(ChainBrokenError):
        again.verify_chain()


def test_writers_at_the_same_time_lose_nothing(registry):
    def write(start):
        for number in range(5):
            create(registry, f"r-{start}-{number}")

    threads = [threading.Thread(target=write, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.cases("request")) == 20
    assert registry.verify_chain() == 20


def test_the_file_is_for_its_owner_alone(tmp_path):
    with Registry.at(tmp_path / "r.db"):
        assert (tmp_path / "r.db").stat().st_mode & 0o077 == 0


def test_what_was_recorded_is_there_after_opening_again(tmp_path):
    with Registry.at(tmp_path / "r.db") as registry:
        create(registry)
    with Registry.at(tmp_path / "r.db") as registry:
        assert registry.get("request", "r-1").document == {"n": 1}
        assert registry.events()[0].body["evidence"] == {"paper": "ab" * 32}
