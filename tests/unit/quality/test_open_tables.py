"""Open tables of a real city: the faults that are known to be in them are found, and no others."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nodes.sample.kits import kit_suite
from quality.cli import main
from quality.run import assess
from quality.sources import source_of
from quality.suite import Rule, Suite, document, load

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "beijing_gov_open"
NOW = datetime(2026, 6, 1, tzinfo=UTC)

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the open tables are not beside the project")


def table(name, tmp_path):
    content = (DATA / name).read_bytes()
    path = tmp_path / name.removesuffix(".gz")
    path.write_bytes(gzip.decompress(content) if name.endswith(".gz") else content)
    return path


def test_the_high_tech_table_has_five_bad_credit_codes_of_9459(tmp_path):
    source = source_of(table("kw_haidian_hightech.csv.gz", tmp_path), delivered_at=NOW)
    found = {item.rule.id: item for item in assess(source, kit_suite("hightech"), now=NOW).rules}
    assert (found["R-CODE-2"].rows, found["R-CODE-2"].missing, found["R-CODE-2"].failing) == (9_459, 0, 5)
    assert found["R-CODE-2"].status == "pass"
    assert found["R-CODE-1"].failing == 0
    rule = Rule(
        "R-1", "expect_column_values_to_be_valid_usccs", {"column": "统一社会信用代码"}, "0301", "critical", "码", "C"
    )
    strict = Suite("s", "1.0.0", {"统一社会信用代码": "text"}, (rule,))
    assert assess(source, strict, now=NOW).score.verdict == "held"


@pytest.mark.parametrize(
    ("name", "column", "rows", "wrong"),
    [
        ("kw_haidian_hightech.csv.gz", "统一社会信用代码", 9_459, 5),
        ("swj_tax_penalty.csv", None, 1_932, None),
    ],
)
def test_a_draft_from_an_open_table_passes_on_it_and_knows_its_codes(tmp_path, capsys, name, column, rows, wrong):
    path, suite = table(name, tmp_path), tmp_path / "suite.json"
    assert main(["suggest", "--table", str(path), "--name", "res.open", "--out", str(suite)]) == 0
    capsys.readouterr()
    rules = load(suite)
    if column:
        assert any(rule.type.endswith("valid_usccs") and rule.columns == (column,) for rule in rules.rules)
    found = assess(source_of(path, delivered_at=NOW), rules, now=NOW)
    assert found.rows == rows
    assert [item.rule.id for item in found.rules if item.status == "error"] == []
    if wrong is not None:
        assert [item.failing for item in found.rules if item.rule.type.endswith("valid_usccs")] == [wrong]


def test_padded_taxpayer_numbers_are_no_credit_codes(tmp_path):
    path = table("swj_tax_arrears.csv", tmp_path)
    header = path.read_text("utf-8-sig").splitlines()[0].split(",")
    column = next(name for name in header if "识别号" in name or "代码" in name)
    rule = Rule("R-1", "expect_column_values_to_be_valid_usccs", {"column": column}, "0301", "major", "码", "C")
    suite = Suite("s", "1.0.0", dict.fromkeys(header, "text"), (rule,))
    assert json.dumps(document(suite))
    result = next(item for item in assess(source_of(path, delivered_at=NOW), suite, now=NOW).rules if item.rule is rule)
    cells = [line.split(",")[header.index(column)] for line in path.read_text("utf-8-sig").splitlines()[1:]]
    assert result.failing >= sum(len(cell) != 18 for cell in cells) > 0
