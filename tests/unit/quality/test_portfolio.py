"""PDF and portfolio: equal bytes, no value, and nothing that a node did not sign."""

import json
from datetime import date, datetime, timedelta

import pytest

from factory.report_cli import UnsignedReportError, verified
from nodes.contract import canonical
from nodes.contract.signing import sign
from nodes.quality_gate import REPORT_TYPE
from nodes.sample.kits import kit_suite
from nodes.sample.registers import PERSON_ERRORS, PERSON_ERRORS_CRITICAL, write_person_register
from quality.errors import ReportError
from quality.pdf import pdf
from quality.portfolio import Signed, html, portfolio
from quality.projection import report_json, with_orders
from quality.run import assess
from quality.sources import source_of
from tests.node_world import NOW, World

TODAY = date(2026, 6, 1)
ORDER = {
    "id": "T-0001",
    "kind": "rectification",
    "rule": "R-ID-1",
    "severity": "critical",
    "state": "open",
    "overdue": False,
    "opened_on": "2026-05-20",
    "due_on": "2026-05-27",
    "provisional": False,
}


def report(folder, *, node="node-east", errors=PERSON_ERRORS, resource="res.east.persons", now=NOW, orders=()):
    table = folder / "p.csv"
    planted = write_person_register(table, 400, seed=5, as_of=date(2026, 5, 30), errors=errors)
    source = source_of(table, delivered_at=now)
    found = assess(source, kit_suite("persons", name=resource), now=now)
    made = report_json(found, resource=resource, version="1", title_zh="人口登记", owner="org.east", node=node)
    return with_orders(made, list(orders)), planted


@pytest.mark.parametrize(
    "change", [{"id": "张三"}, {"due_on": "soon"}, {"severity": "110101199003074477"}, {"overdue": 1}]
)
def test_an_order_with_anything_but_an_order_in_it_does_not_get_into_a_report(tmp_path, change):
    with pytest.raises(ReportError):
        report(tmp_path, orders=[{**ORDER, **change}])


def test_the_pdf_is_the_same_bytes_every_time_and_holds_no_value_of_a_row(tmp_path):
    made, planted = report(tmp_path, errors=PERSON_ERRORS_CRITICAL, orders=[{**ORDER, "text": "张三"}])
    for lang in ("zh", "en"):
        first = pdf(made, lang=lang, sha256="ab" * 32)
        assert first.startswith(b"%PDF")
        assert first == pdf(made, lang=lang, sha256="ab" * 32)
    shown = json.dumps(made, ensure_ascii=False)
    assert "张三" not in shown
    assert all(canary["id_no"] not in shown for canary in planted.canaries)


def test_departments_are_ranked_and_what_became_overdue_after_the_report_is_listed(tmp_path):
    good, _ = report(tmp_path)
    bad, _ = report(
        tmp_path, errors=PERSON_ERRORS_CRITICAL, orders=[ORDER, {**ORDER, "id": "T-0002", "kind": "dispute"}]
    )
    older, _ = report(tmp_path, errors=PERSON_ERRORS_CRITICAL, now=NOW - timedelta(days=1))
    signed = [
        Signed(bad, "aa" * 32, "org.west", "西部门", "West"),
        Signed(good, "bb" * 32, "org.east", "东部门", "East"),
        Signed(older, "cc" * 32, "org.east", "东部门", "East"),
    ]
    document = portfolio(signed, today=TODAY)
    assert [(row["rank"], row["id"], row["held"], row["overdue"]) for row in document["departments"]] == [
        (1, "org.east", 0, 0),
        (2, "org.west", 1, 1),
    ]
    assert [(order["id"], order["department"]) for order in document["overdue"]] == [("T-0001", "org.west")]
    assert document["resources"][0]["department"] == "org.west"
    page = html(document, lang="zh")
    assert "逾期整改清单" in page
    assert "<script" not in page
    assert portfolio(signed, today=date(2026, 5, 27))["overdue"] == []


@pytest.fixture
def trusting(tmp_path):
    world = World(tmp_path / "node")
    trust = tmp_path / "trust"
    for name, data in {"root.json": world.agency.root, **world.publish()}.items():
        (trust / name).parent.mkdir(parents=True, exist_ok=True)
        (trust / name).write_bytes(data)
    yield world, trust
    world.books.close()


def write(folder, report_bytes, key):
    folder.mkdir(exist_ok=True)
    (folder / "r.dsse.json").write_bytes(sign(key, REPORT_TYPE, report_bytes).to_bytes())
    return [folder]


def test_a_report_of_a_known_node_is_taken_and_any_other_refused(tmp_path, trusting):
    world, trust = trusting
    made, _ = report(tmp_path)
    content, signed = canonical.dumps(made), tmp_path / "signed"
    now = datetime.fromisoformat(made["assessed_at"])
    (found,) = verified(write(signed, content, world.keys.statement), trust, now=now)
    assert (found.department, found.report["resource"]["id"]) == ("org.east", "res.east.persons")
    for key in (world.people["operator"].key, world.people["node-west"].key):
        with pytest.raises(UnsignedReportError):
            verified(write(signed, content, key), trust, now=now)
    path = write(signed, content, world.keys.statement)[0] / "r.dsse.json"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UnsignedReportError):
        verified([path], trust, now=now)
    with pytest.raises(UnsignedReportError, match="export"):
        verified([tmp_path / "trust" / "metadata"], trust, now=now)
