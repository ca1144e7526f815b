"""The last look at product files before this department signs for them."""

import pytest

from nodes.egress import Needles, needles_of, scan
from tests.node_world import CANARY_ID, CANARY_NAME

PLACE = ("res", "column")


@pytest.mark.parametrize(
    ("value", "content", "found"),
    [
        ("100001", "patient 100001, aged", 1),
        ("100001", "(100001)", 1),
        ("100001", "100001", 1),
        ("100001", "ids: 100001.", 1),
        ("100001", "0.100001", 0),
        ("100001", "21000017", 0),
        ("100001", "ab100001cd", 0),
        ("100001", "100001.5", 0),
        ("abc-123", "ABC123", 1),
        ("a1b2c3", "0fa1b2c3d4e5", 0),
        ("13800138000", "tel13800138000x", 1),
        ("13800138000", "138 0013 8000", 1),
        ("12345", "12345", 0),
        ("北京某某科技公司", "有北京某某科技公司等", 1),
        ("北京某某科技公司", "北京 某某 科技", 0),
        ("Ａｂｃｄｅｆｇｈｉｊｋ", "xabcdefghijkx", 1),
    ],
)
def test_a_value_is_found_where_it_is_one_and_not_by_chance(value, content, found):
    assert sum(item.count for item in scan([content.encode()], Needles({PLACE: [value]}))) == found


def test_no_value_no_finding():
    assert scan([b"anything at all"], Needles({})) == []


def test_identifiers_and_rare_texts_are_looked_for_and_categories_are_not(world):
    needles = needles_of([world.entry], world.home, group_min=5)
    told = scan([f"{CANARY_NAME} {CANARY_ID} 云东 云西 36".encode()], needles)
    assert [(item.column, item.count) for item in told] == [("id_number", 1), ("name", 1)]
