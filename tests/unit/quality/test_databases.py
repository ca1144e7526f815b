"""Tables of real PostgreSQL and MariaDB servers, and of workbooks: read, judged, and broken in every way."""

import socket
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from quality.errors import SourceError
from quality.run import assess
from quality.sources import source_of
from quality.suite import Rule, Suite
from tests.databases import server, write_connection

NOW = datetime(2026, 3, 2, 4, tzinfo=UTC)
SUITE = Suite(
    "res.t",
    "1.0.0",
    {"no": "integer", "name": "text", "amount": "number", "day": "date"},
    (
        Rule("R-KEY", "expect_column_values_to_be_unique", {"column": "no"}, "0304", "critical", "编号", "number"),
        Rule("R-NAME", "expect_column_values_to_not_be_null", {"column": "name"}, "0201", "major", "名称", "name"),
        Rule(
            "R-SUM",
            "expect_column_values_to_be_between",
            {"column": "amount", "min_value": 0},
            "0104",
            "major",
            "金额",
            "amount",
        ),
    ),
)


@pytest.fixture(params=["postgresql", "mysql"])
def database(request):
    found = server(request.param)
    yield found
    found.drop()


def rows_of(count):
    return [
        f"({i}, {'NULL' if i % 40 == 7 else f'''{chr(39)}名{i}{chr(39)}'''}, {-1 if i % 50 == 3 else i}.25, '2026-02-{i % 28 + 1:02d}')"
        for i in range(count)
    ]


def counts(result):
    return {item.rule.id: (item.rows, item.missing, item.failing) for item in result.rules}


def test_a_connection_that_others_can_read_is_a_finding(tmp_path):
    path = write_connection(tmp_path / "main.toml", "postgresql", mode=0o644)
    result = assess(source_of(path, table="t"), SUITE, now=NOW)
    assert (result.findings, result.score.verdict) == (("source.connection",), "held")


@pytest.mark.parametrize(
    "changes", [{"port": 1}, {"database": "nowhere"}, {"user": "nobody_here", "password": "it's \\ wrong"}]
)
def test_a_server_that_cannot_be_entered_is_a_finding_without_address_or_user(tmp_path, database, changes):
    if database.kind == "postgresql" and "user" in changes:
        changes = {"user": "nobody_here"}
    path = write_connection(tmp_path / "main.toml", database.kind)
    text = path.read_text(encoding="utf-8")
    for key, value in changes.items():
        lines = [line for line in text.splitlines() if not line.startswith(key)]
        text = "\n".join([*lines, f"{key} = {value!r}" if isinstance(value, int) else f"{key} = '''{value}'''"])
    path.write_text(text, encoding="utf-8")
    result = assess(source_of(path, table=database.table), SUITE, now=NOW)
    assert result.findings == ("source.unreachable",)


def test_a_table_that_is_not_there_is_a_finding(tmp_path, database):
    path = write_connection(tmp_path / "main.toml", database.kind)
    assert assess(source_of(path, table="nowhere.t"), SUITE, now=NOW).findings == ("source.missing",)
    assert assess(source_of(path, table='t"; DROP'), SUITE, now=NOW).findings == ("source.missing",)


def test_a_table_on_a_server_is_judged_as_the_same_table_in_a_file(tmp_path, database):
    database.create("no INT, name VARCHAR(20), amount DECIMAL(12,2), day DATE", rows_of(1_000))
    path = write_connection(tmp_path / "main.toml", database.kind)
    result = assess(source_of(path, table=database.table), SUITE, now=NOW)
    lines = [line.strip("()").replace("NULL", "").replace("'", "").replace(" ", "") for line in rows_of(1_000)]
    (tmp_path / "t.csv").write_text("no,name,amount,day\n" + "\n".join(lines) + "\n", encoding="utf-8")
    same = assess(source_of(tmp_path / "t.csv"), SUITE, now=NOW)
    assert result.kind == database.kind
    for rule in ("R-KEY", "R-NAME", "R-SUM"):
        assert counts(result)[rule] == counts(same)[rule]
    assert counts(result)["R-NAME"] == (1_000, 0, 25)
    assert result.findings == same.findings == ()


def test_a_date_that_mariadb_keeps_as_zeroes_is_counted_as_unreadable(tmp_path):
    database = server("mysql")
    try:
        database.create("no INT, name VARCHAR(20), amount DECIMAL(12,2), day DATE", rows_of(100))
        database.change("UPDATE {table} SET day = '0000-00-00' WHERE no < 8")
        path = write_connection(tmp_path / "main.toml", "mysql")
        result = assess(source_of(path, table=database.table), SUITE, now=NOW)
    finally:
        database.drop()
    assert [item.failing for item in result.rules if item.rule.title_en == "Cells can be read as date"] == [8]


class Unplugged:
    """A cable between us and a real server that is pulled after so many bytes of its answers."""

    def __init__(self, port, after_bytes):
        self.to, self.left = port, after_bytes
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with suppress(OSError):
            while True:  # a client may try with and without encryption
                client, _ = self.listener.accept()
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client):
        server_side = socket.create_connection(("127.0.0.1", self.to))
        threading.Thread(target=self._pass, args=(client, server_side, None), daemon=True).start()
        self._pass(server_side, client, self.left)
        for end in (client, server_side):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _pass(self, source, sink, left):
        with suppress(OSError):
            while data := source.recv(4_096):
                if left is not None and len(data) > left:
                    return
                left = None if left is None else left - len(data)
                sink.sendall(data)


def test_a_database_that_is_unplugged_while_it_is_read_is_a_finding(tmp_path, database):
    database.create("no INT, name VARCHAR(20), amount DECIMAL(12,2), day DATE", rows_of(60_000))
    cable = Unplugged({"postgresql": 5432, "mysql": 3306}[database.kind], 1_000_000)
    path = write_connection(tmp_path / "main.toml", database.kind, port=cable.port)
    result = assess(source_of(path, table=database.table), SUITE, now=NOW)
    cable.listener.close()
    assert result.findings == ("source.unreadable",)
    assert result.score.verdict == "held"
    whole = write_connection(tmp_path / "main.toml", database.kind)
    assert assess(source_of(whole, table=database.table), SUITE, now=NOW).findings == ()


CANARY = "CANARY-110101199003077777"


def test_a_server_error_that_quotes_a_cell_does_not_get_out(tmp_path, database, capfd, caplog):
    import json
    import logging

    from quality.cli import main
    from quality.suite import document

    caplog.set_level(logging.DEBUG)
    database.create("no VARCHAR(60)", [f"('{i}')" for i in range(50)] + [f"('{CANARY}')"])
    wrong = {"postgresql": "CAST(no AS INT)", "mysql": f"{database.table}_f(no)"}[database.kind]
    try:
        if database.kind == "mysql":
            signal = "IF t LIKE 'CANARY%' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = t; END IF; RETURN 1;"
            database.change(f"CREATE FUNCTION {{table}}_f(t VARCHAR(60)) RETURNS INT NO SQL BEGIN {signal} END")
        database.change(f"CREATE VIEW {{table}}_v AS SELECT {wrong} AS no FROM {{table}}")
        path = write_connection(tmp_path / "main.toml", database.kind)
        suite = Suite("s", "1.0.0", {"no": "integer"}, SUITE.rules[:1])
        (tmp_path / "suite.json").write_text(json.dumps(document(suite)))
        out = tmp_path / "out"
        arguments = ["--table", str(path), "--suite", str(tmp_path / "suite.json"), "--out", str(out)]
        assert main(["assess", *arguments, "--inner-table", f"{database.table}_v", "--json"]) == 1
    finally:
        database.change("DROP VIEW IF EXISTS {table}_v")
        if database.kind == "mysql":
            database.change("DROP FUNCTION IF EXISTS {table}_f")
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert [item["code"] for item in report["findings"]] == ["source.unreadable"]
    captured = capfd.readouterr()
    texts = [captured.out, captured.err, caplog.text, *(file.read_text("utf-8") for file in out.iterdir())]
    assert not any("CANARY" in text or "110101199003" in text for text in texts)


def test_the_session_cannot_write(tmp_path, database):
    from quality.databases import _entered, read_connection

    database.create("no INT", ["(1)"])
    path = write_connection(tmp_path / "main.toml", database.kind)
    with pytest.raises(SourceError), _entered(read_connection(path)) as session:  # noqa: SIM117
        with session._connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {database.table} VALUES (2)")


@pytest.mark.slow
def test_a_table_larger_than_the_memory_it_may_use_is_judged_all_the_same(tmp_path):
    rows = 1_200_000
    with (tmp_path / "t.csv").open("w", encoding="utf-8") as file:
        file.write("no,name,amount,day\n")
        file.writelines(f"{i},{'名称' * 12}{i},{i}.5,2026-02-01\n" for i in range(rows))
    result = assess(source_of(tmp_path / "t.csv"), SUITE, now=NOW, memory_limit_mb=100)
    assert counts(result)["R-KEY"] == (rows, 0, 0)
    assert result.score.verdict == "pass"


def write_workbook(path, rows):
    """Write the smallest workbook that the format allows."""
    import zipfile
    from xml.sax.saxutils import escape

    def cell(value):
        if isinstance(value, str):
            return f'<c t="inlineStr"><is><t>{escape(value)}</t></is></c>'
        return "<c/>" if value is None else f"<c><v>{value}</v></c>"

    body = "".join("<row>" + "".join(map(cell, row)) + "</row>" for row in rows)
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    kinds = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{package}/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{kinds}.sheet.main+xml"/>'
            f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kinds}.worksheet+xml"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
            f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet name="登记" sheetId="1" r:id="r1"/></sheets></workbook>',
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
            f'Type="{office}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        )
        archive.writestr(
            "xl/worksheets/sheet1.xml", f'<worksheet xmlns="{main}"><sheetData>{body}</sheetData></worksheet>'
        )


def test_a_workbook_is_judged_like_a_file_and_its_empty_last_rows_are_no_records(tmp_path):
    path = tmp_path / "t.xlsx"
    rows = [[i, None if i % 40 == 7 else f"名{i}", i + 0.25, f"2026-02-{i % 28 + 1:02d}"] for i in range(200)]
    write_workbook(path, [["no", "name", "amount", "day"], *rows, [None, None, None, None]])
    result = assess(source_of(path, table="登记", delivered_at=NOW - timedelta(days=1)), SUITE, now=NOW)
    assert counts(result)["R-NAME"] == (200, 0, 5)
    assert counts(result)["R-KEY"] == (200, 0, 0)
    assert result.findings == ()
    assert assess(source_of(path, table="别的"), SUITE, now=NOW).findings == ("source.missing",)


def test_a_file_that_is_no_workbook_is_a_finding(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(b"PK not a workbook")
    assert assess(source_of(tmp_path / "t.xlsx"), SUITE, now=NOW).findings == ("source.unreadable",)
