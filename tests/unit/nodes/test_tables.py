"""Tables: what is granted is read, what is wrong is told without a value."""

import pytest

from nodes import tables
from nodes.catalogue_entries import Column, Storage
from nodes.contract.messages import Condition, ResourceUse
from nodes.errors import TableChangedError, TableEmptyError, TableEncodingError, TableError, TableMissingError
from nodes.tables import GrantedTable
from tests.node_world import entry

COLUMNS = (
    Column(name="姓名", type="text"),
    Column(name='a "b"', type="integer"),
    Column(name="x", type="number"),
    Column(name="day", type="date"),
)
TEXT = '姓名,"a ""b""",x,day\n张三,1,1.5,2026-01-02\n李四,,abc,\n王五,3, 2.25 ,2026-01-03\n"赵,六",4,-1e3,2025-12-31\n'


def made(tmp_path, *, text=TEXT, encoding="utf-8", name="t.csv", storage=None):
    (tmp_path / name).write_bytes(text.encode(encoding))
    stated = storage or ("gb18030" if encoding == "gb18030" else "utf-8")
    return entry(columns=COLUMNS, storage=Storage(path=name, encoding=stated))


def view(item, tmp_path, columns=("姓名", 'a "b"', "x", "day"), row_filter=()):
    return GrantedTable(
        item, tmp_path, ResourceUse(resource=item.id, version=1, columns=columns, row_filter=row_filter)
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_a_csv_is_read_in_its_encoding(tmp_path, encoding):
    frame = view(made(tmp_path, encoding=encoding), tmp_path).frame()
    assert list(frame["姓名"]) == ["张三", "李四", "王五", "赵,六"]
    assert frame['a "b"'].tolist()[0::2] == [1, 3]
    assert frame["x"].isna().tolist() == [False, True, False, False]
    assert frame["x"].tolist()[2:] == [2.25, -1000.0]
    assert frame["day"].tolist()[0] == "2026-01-02"


def test_parquet_is_read_alike(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(
        pa.table({"姓名": ["张三", None], 'a "b"': [1, 2], "x": [0.5, None], "day": ["2026-01-01", None]}),
        tmp_path / "t.parquet",
    )
    item = entry(columns=COLUMNS, storage=Storage(path="t.parquet", format="parquet"))
    frame = view(item, tmp_path).frame()
    assert frame['a "b"'].tolist() == [1, 2]
    assert frame["x"].isna().tolist() == [False, True]


def test_only_granted_columns_and_rows_exist(tmp_path):
    condition = Condition(column="x", operator="ge", values=("1.5",))
    shown = view(made(tmp_path), tmp_path, columns=("x",), row_filter=(condition,))
    assert list(shown.frame().columns) == ["x"]
    assert shown.frame()["x"].tolist() == [1.5, 2.25]
    assert shown.row_count() == 2


@pytest.mark.parametrize(
    ("operator", "values", "count"),
    [("eq", ("张三",), 1), ("ne", ("张三",), 3), ("in", ("张三", "王五"), 2), ("eq", ("' OR 1=1 --",), 0)],
)
def test_text_conditions_are_parameters_and_not_code(tmp_path, operator, values, count):
    condition = Condition(column="姓名", operator=operator, values=values)
    assert view(made(tmp_path), tmp_path, row_filter=(condition,)).row_count() == count


def test_a_condition_that_is_no_number_is_an_error_without_a_value(tmp_path):
    condition = Condition(column="x", operator="eq", values=("abc",))
    with pytest.raises(TableError) as error:
        view(made(tmp_path), tmp_path, row_filter=(condition,)).row_count()
    assert "abc" not in str(error.value)


def test_the_wrong_encoding_is_told(tmp_path):
    with pytest.raises(TableEncodingError, match="gb18030"):
        tables.check_table(made(tmp_path, encoding="gb18030", storage="utf-8"), tmp_path)


@pytest.mark.parametrize("body", ["", '姓名,"a ""b""",x,day\n'])
def test_an_empty_table_is_told(tmp_path, body):
    with pytest.raises(TableEmptyError):
        tables.check_table(made(tmp_path, text=body), tmp_path)


def test_a_missing_table_column_and_an_extra_column_are_told(tmp_path):
    item = made(tmp_path, text=TEXT.replace(",x,", ",y,", 1))
    with pytest.raises(TableChangedError, match="column x"):
        tables.check_table(item, tmp_path)
    with pytest.raises(TableChangedError, match="5"):
        tables.check_columns(made(tmp_path, text=TEXT.replace(",day\n", ",day,extra\n", 1)), tmp_path)
    (tmp_path / "t.csv").unlink()
    with pytest.raises(TableMissingError):
        tables.check_table(item, tmp_path)


def test_bytes_that_are_no_table_are_told_without_a_value(tmp_path):
    item = made(tmp_path, text='姓名,"a ""b""",x,day\n张三\n秘密,1,2,3,4,5,6\n')
    with pytest.raises(TableError) as error:
        view(item, tmp_path).frame()
    assert "秘密" not in str(error.value)
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(TableError):
        tables.check_table(entry(columns=COLUMNS, storage=Storage(path="t.parquet", format="parquet")), tmp_path)


def test_the_commitment_depends_on_key_content_and_entry(tmp_path):
    item = made(tmp_path)
    first = tables.commitment(item, tmp_path, b"k" * 32)
    assert first == tables.commitment(item, tmp_path, b"k" * 32)
    assert first != tables.commitment(item, tmp_path, b"l" * 32)
    assert first != tables.commitment(item.model_copy(update={"version": 2}), tmp_path, b"k" * 32)
    made(tmp_path, text=TEXT + "钱七,1,1,\n")
    assert first != tables.commitment(item, tmp_path, b"k" * 32)


@pytest.mark.parametrize(
    ("rows", "band"), [(0, 0), (9, 0), (10, 10), (99, 99), (100, 100), (109, 100), (1999, 1900), (123456, 120000)]
)
def test_row_counts_leave_in_bands(rows, band):
    assert tables.rows_band(rows) == band
