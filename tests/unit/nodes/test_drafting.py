import pytest

from nodes.drafting import draft_entry
from nodes.errors import CatalogueError, TableEncodingError, TableError, TableMissingError


def drafted(path, **options):
    return draft_entry(path, resource="res.test", owner="org.test", **options)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(TableMissingError):
        drafted(tmp_path / "none.csv")


def test_bytes_in_no_known_encoding_are_refused(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"a,b\n1,\xff\xff\n")
    with pytest.raises(TableEncodingError, match="UTF-8 or GB18030"):
        drafted(path)


def test_a_line_with_too_many_fields_is_refused_without_quoting_it(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n3,CANARY,5\n" * 3)
    with pytest.raises(TableError) as caught:
        drafted(path)
    assert "CANARY" not in str(caught.value)


def test_a_column_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,a\n1,2\n")
    with pytest.raises(CatalogueError, match="each column once"):
        drafted(path)


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_encoding_and_types_are_found(tmp_path, encoding):
    path = tmp_path / "table.csv"
    path.write_bytes("编号,姓名,年龄,身高\nA-1,甲,40,1.7\nA-2,甲,41,1.8\n".encode(encoding))
    entry = drafted(path)
    assert entry.storage.encoding == encoding
    assert [(column.name, column.type) for column in entry.columns] == [
        ("编号", "text"),
        ("姓名", "text"),
        ("年龄", "integer"),
        ("身高", "number"),
    ]
    assert [column.identifier for column in entry.columns] == [True, False, False, False]


def test_codes_of_digits_stay_text_when_asked_for(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("code\n007\n008\n")
    assert drafted(path, text_columns=["code"]).columns[0].type == "text"


def test_a_header_without_rows_makes_an_entry(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n")
    assert drafted(path).column_names == ("a", "b")
