"""Tables on real database servers and in workbooks, as tasks see them."""

from datetime import UTC, datetime

import pytest

from nodes import tables
from nodes.catalogue_entries import Column, Storage, parse_entry
from nodes.contract.messages import Condition, ResourceUse
from nodes.errors import CatalogueError, TableChangedError, TableError, TableMissingError
from nodes.quality_gate import run_quality, suggest_suite
from nodes.tables import GrantedTable
from tests.databases import server, write_connection
from tests.node_world import entry
from tests.unit.quality.test_databases import write_workbook

COLUMNS = (
    Column(name="no", type="integer"),
    Column(name="name", type="text"),
    Column(name="amount", type="number"),
    Column(name="day", type="date"),
)
ROWS = ["(1, '张三', 10.50, '2026-01-02')", "(2, NULL, -3.25, '2026-01-03')", "(3, '李四', NULL, NULL)"]


@pytest.fixture(params=["postgresql", "mysql"])
def database(request):
    found = server(request.param)
    found.create("no INT, name VARCHAR(20), amount DECIMAL(12,2), day DATE", ROWS)
    yield found
    found.drop()


def made(database, home, **storage):
    write_connection(home / "connections" / "main.toml", database.kind)
    stated = {"format": database.kind, "connection": "main", "table": database.table, **storage}
    return entry(columns=COLUMNS, storage=Storage(**stated))


def view(item, home, row_filter=()):
    return GrantedTable(
        item, home, ResourceUse(resource=item.id, version=1, columns=("no", "amount", "day"), row_filter=row_filter)
    )


@pytest.mark.parametrize(
    "storage",
    [
        {"format": "postgresql", "table": "t"},
        {"format": "mysql", "connection": "main"},
        {"format": "mysql", "connection": "main", "table": "t", "path": "t.csv"},
        {"format": "mysql", "connection": "../main", "table": "t"},
        {"format": "csv", "path": "t.csv", "connection": "main", "table": "t"},
        {"format": "csv", "path": "t.csv", "sheet": "a"},
        {"format": "mysql", "connection": "main", "table": "t", "password": "x"},
    ],
)
def test_storage_that_names_no_one_place_or_holds_a_secret_is_refused(storage):
    document = entry(columns=COLUMNS, storage=Storage(path="t.csv")).model_dump(by_alias=True)
    document["columns"] = list(document["columns"])
    with pytest.raises(CatalogueError):
        parse_entry({**document, "storage": storage}, source="t.toml")


def test_a_database_table_is_read_with_filter_and_columns_applied(tmp_path, database):
    item = made(database, tmp_path)
    tables.check_table(item, tmp_path)
    assert tables.row_count(item, tmp_path) == 3
    frame = view(item, tmp_path).frame()
    assert list(frame.columns) == ["no", "amount", "day"]
    assert sorted(frame["no"].tolist()) == [1, 2, 3]
    kept = view(item, tmp_path, (Condition(column="amount", operator="lt", values=("0",)),)).frame()
    assert (kept["amount"].tolist(), kept["day"].tolist()) == ([-3.25], ["2026-01-03"])


def test_the_entry_of_a_database_survives_its_file(tmp_path, database):
    import tomllib

    item = made(database, tmp_path)
    assert parse_entry(tomllib.loads(item.to_toml()), source="t.toml") == item
    assert "connection" not in str(item.public_extract())


def test_the_commitment_follows_the_rows_and_not_their_sequence(tmp_path, database):
    item = made(database, tmp_path)
    first = tables.commitment(item, tmp_path, b"k" * 32)
    assert first != tables.commitment(item, tmp_path, b"l" * 32)
    database.change("DELETE FROM {table} WHERE no = 1")
    gone = tables.commitment(item, tmp_path, b"k" * 32)
    database.change("INSERT INTO {table} VALUES (1, '张三', 10.50, '2026-01-02')")
    assert gone != first
    assert tables.commitment(item, tmp_path, b"k" * 32) == first
    assert tables.fingerprint(item, tmp_path) == ""


def test_a_lost_connection_a_missing_table_and_other_columns_are_told_apart_without_a_value(tmp_path, database):
    item = made(database, tmp_path)
    with pytest.raises(TableMissingError):
        tables.check_table(made(database, tmp_path, table="nowhere_at_all"), tmp_path)
    with pytest.raises(TableMissingError, match="connection file"):
        tables.check_table(made(database, tmp_path, connection="other"), tmp_path)
    database.change("ALTER TABLE {table} DROP COLUMN day")
    with pytest.raises(TableChangedError):
        tables.check_columns(item, tmp_path)


def test_a_workbook_is_read_like_a_csv(tmp_path):
    write_workbook(tmp_path / "t.xlsx", [["no", "name", "amount", "day"], [1, "张三", 10.5, "2026-01-02"], [2]])
    item = entry(columns=COLUMNS, storage=Storage(path="t.xlsx", format="excel"))
    frame = view(item, tmp_path).frame()
    assert frame["amount"].tolist()[0] == 10.5
    assert frame["no"].tolist() == [1, 2]
    (tmp_path / "t.xlsx").write_bytes(b"none")
    with pytest.raises(TableError):
        tables.check_columns(item, tmp_path)


@pytest.mark.slow
def test_a_database_table_passes_the_gate_and_a_changed_one_is_noticed(world, database):
    rows = [f"({i}, '张{i}', {i}.5, '2026-02-01')" for i in range(10, 200)]
    database.change("DELETE FROM {table}")
    database.change("INSERT INTO {table} VALUES " + ", ".join(rows))
    item = made(database, world.home)
    suggest_suite(item, settings=world.settings)
    done = run_quality(item, settings=world.settings, keys=world.keys, books=world.books, now=datetime.now(UTC))
    assert (done.record.state, done.findings) == ("active", ())
    database.change("UPDATE {table} SET amount = 1 WHERE no = 12")
    assert tables.commitment(item, world.home, world.keys.commitment) != done.record.commitment
