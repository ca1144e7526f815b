"""Automated tests of a product: what each finds, and what it lets through."""

import base64
import gzip
import io
import json
import struct
import zipfile

import pytest

from factory.law.files import proposed
from factory.review.canary import canary_digest, check_canaries
from factory.review.counts import check_counts
from factory.review.finding import failures, findings_json
from factory.review.identifiers import check_identifiers, is_credit_code, is_resident_id
from factory.review.suite import Limits, run_tests

NAME = "欧阳金丝雀甲乙"
NUMBER = "987654321098"
RESIDENT = "110101199003074477"
CREDIT = "91350100M000100Y43"
MOBILE = "13912345678"
RULES = proposed("NATIONAL").review


def zipped(text):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.txt", text)
    return stream.getvalue()


HIDDEN = {
    "plain": f"x {NAME} y".encode(),
    "gb18030": NAME.encode("gb18030"),
    "utf-16": NAME.encode("utf-16-le"),
    "base64": b"data:" + base64.b64encode(b"ab" + NAME.encode()),
    "hex": NAME.encode().hex().encode(),
    "html entities": "".join(f"&#{ord(c)};" for c in NAME).join(["<p>", "</p>"]).encode(),
    "split by markup": f"<b>{NAME[:3]}</b>{NAME[3:]}".encode(),
    "json escapes": json.dumps({"a": [NAME]}).encode(),
    "with separators": f"{NAME[:2]}·{NAME[2:]}".encode(),
    "gzip": gzip.compress(NAME.encode()),
    "zip": zipped(NAME),
    "zip in gzip": gzip.compress(zipped(NAME)),
}


@pytest.mark.parametrize("form", HIDDEN)
@pytest.mark.requirement("PROD-NORAW")
def test_a_planted_value_is_found_in_every_form(form):
    finding = check_canaries({"product.bin": HIDDEN[form]}, values=[NAME])
    assert not finding.is_ok
    assert finding.evidence["hits"] == {"product.bin": 1}


@pytest.mark.parametrize("form", ["<q", "<d"])
def test_a_planted_number_is_found_inside_a_tensor(form):
    number = float(NUMBER) if form == "<d" else int(NUMBER)
    assert not check_canaries(
        {"model.onnx": b"\x08\x01" + struct.pack(form, number) + b"\xff" * 9}, values=[NUMBER]
    ).is_ok


def test_a_planted_value_is_found_by_its_digest():
    assert not check_canaries({"t.csv": f"a,{NAME},b".encode()}, digests=[canary_digest(NAME)]).is_ok
    assert check_canaries({"t.csv": b"a,b"}, digests=[canary_digest(NAME)]).is_ok


def test_a_finding_never_repeats_what_was_found():
    data = findings_json(
        [check_canaries({"a": NAME.encode()}, values=[NAME]), check_identifiers({"a": RESIDENT.encode()})]
    )
    assert NAME.encode() not in data
    assert RESIDENT.encode() not in data


def test_a_search_for_nothing_is_refused():
    with pytest.raises(ValueError, match="proves nothing"):
        check_canaries({"a": b""})
    with pytest.raises(ValueError, match="four"):
        check_canaries({"a": b""}, values=["abc"])


@pytest.mark.parametrize(
    "text", [RESIDENT, MOBILE, f"+86 {MOBILE}", "139-1234-5678", CREDIT, "１１０１０１１９９００３０７４４７７"]
)
@pytest.mark.requirement("PROD-NORAW")
def test_an_identifier_is_found(text):
    assert not check_identifiers({"report.html": f"<td>{text}</td>".encode()}).is_ok


@pytest.mark.parametrize(
    "text",
    [
        "110101199003074478",  # wrong check digit
        "110101199002304477",  # no such date
        "0.139123456789",
        "a13912345678b",
        "91350100M000100Y44",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ],
)
@pytest.mark.requirement("PROD-NORAW")
def test_what_only_looks_like_an_identifier_passes(text):
    assert check_identifiers({"a.txt": text.encode()}).is_ok


def test_credit_codes_pass_only_where_the_ruling_says_so():
    assert check_identifiers({"a": CREDIT.encode()}, allow_credit_codes=True).is_ok
    assert not check_identifiers({"a": f"{CREDIT} {RESIDENT}".encode()}, allow_credit_codes=True).is_ok


def test_check_digits_follow_the_standards():
    assert is_resident_id("11010519491231002X")
    assert is_credit_code(CREDIT)
    assert not is_credit_code("91350100M000100Y40")


def tables(values, total="100", kind="count"):
    """Return a one-axis table of the agency; None is a suppressed cell."""
    cells = [
        {"at": [f"c{n}"], "value": v, "state": "suppressed" if v is None else "published"} for n, v in enumerate(values)
    ]
    cells.append({"at": ["*"], "value": total, "state": "suppressed" if total is None else "published"})
    axes = [[f"c{n}" for n in range(len(values))]]
    table = {"name": "t", "kind": kind, "column": None, "by": ["c"], "axes": axes, "cells": cells}
    return {"tables.json": json.dumps({"round_base": 5, "tables": [table]}).encode()}


def count_finding(*args, **kwargs):
    return check_counts(tables(*args, **kwargs), cell_min=10, round_base=5)


@pytest.mark.parametrize("value", [1, 5, 12])
def test_a_small_or_unrounded_count_fails(value):
    assert not count_finding([value, 80]).is_ok


@pytest.mark.parametrize("value", [0, 10, 15])
def test_an_empty_or_large_count_passes(value):
    assert count_finding([value, 80]).is_ok


@pytest.mark.requirement("LINK-RISK")
def test_a_single_suppressed_cell_beside_a_total_can_be_worked_out():
    assert not count_finding([None, 20], total=40).is_ok
    assert count_finding([None, None], total=40).is_ok
    assert count_finding([None, 20], total=None).is_ok
    assert not count_finding([None, 20], total=40, kind="sum").is_ok


def test_a_single_suppressed_cell_of_a_cross_table_can_be_worked_out():
    at = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("a", "*"), ("b", "*"), ("*", "x"), ("*", "y"), ("*", "*")]
    cells = [{"at": list(place), "value": 20, "state": "published"} for place in at]
    cells[0] |= {"value": None, "state": "suppressed"}
    table = {"name": "t", "kind": "crosstab", "axes": [["a", "b"], ["x", "y"]], "cells": cells}
    finding = check_counts({"tables.json": json.dumps({"tables": [table]}).encode()}, cell_min=10, round_base=5)
    assert finding.value == 2


def test_a_report_in_which_no_table_counts_anything_is_not_passed():
    assert not count_finding([20, 20], kind="sum").is_ok


def test_a_model_without_the_figures_of_attacks_does_not_pass():
    found = run_tests("model", {"model.onnx": b"x"}, metrics={}, limits=Limits(5, 5, RULES))
    assert "membership_ratio: expected at most 700000 millionths of AUC, measured nothing" in failures(found)


@pytest.mark.requirement("PROD-NORAW", "PROD-OPREV")
def test_a_failed_test_says_why_the_product_goes_back():
    found = run_tests(
        "report",
        {**tables([3, 80]), "report.html": RESIDENT.encode()},
        metrics={},
        limits=Limits(10, 5, RULES),
        canaries=[NAME],
    )
    assert [f.test for f in found if not f.is_ok] == ["identifiers", "minimum_counts"]
    assert failures(found)[0] == "identifiers: expected at most 0 identifiers, measured 1"


def test_small_numbers_that_carry_noise_pass_and_say_their_epsilon():
    cells = [{"at": ["a"], "value": 3, "state": "published"}, {"at": ["*"], "value": 4, "state": "published"}]
    table = {"name": "t", "kind": "count", "axes": [["a"]], "cells": cells}
    files = {"tables.json": json.dumps({"tables": [table], "privacy": {"epsilon_micro": 500_000}}).encode()}
    finding = check_counts(files, cell_min=10, round_base=5)
    assert finding.is_ok
    assert finding.evidence["epsilon_micro"] == 500_000
    assert not check_counts({"tables.json": json.dumps({"tables": [table]}).encode()}, cell_min=10, round_base=5).is_ok
