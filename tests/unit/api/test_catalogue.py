"""The catalogue over HTTP: only what a department signed is taken, from its own body; everything else is refused."""

import json

from nodes.catalogue_entries import parse_entry
from nodes.contract import wire
from tests.town import entry_document, parcel_of


def signed(served, name="res.east.register", owner="org-east", *, key=None, review=True, **changes):
    extract = parse_entry(entry_document(name, owner, **changes), source="t").public_extract()
    envelope, attachments = wire.unpack(parcel_of(extract, key or served.node.key, review=review))
    body = {"entry": json.loads(envelope.to_bytes())}
    return body | ({"review": json.loads(attachments[0])} if attachments else {})


def refused(answer, code, status=422):
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_an_entry_from_submission_to_withdrawal(served):
    call, path = served.call, "/v1/catalogue/entries/res.east.register"
    refused(call("POST", "/v1/catalogue/entries", signed(served, review=False), role="source_department"),
            "resource.review")  # fmt: skip
    assert served.registry.events()[-1].body["act"] == "resource.review.refused"
    foreign = signed(served, "res.west.register", "org-west")
    refused(call("POST", "/v1/catalogue/entries", foreign, role="source_department"), "resource.owner")
    west = signed(served, "res.west.register", "org-west", key=served.nodes["west"].key)
    refused(call("POST", "/v1/catalogue/entries", west, role="source_department"), "resource.signer")
    assert [case.id for case in served.registry.cases("resource") if "register" in case.id] == []

    taken = call("POST", "/v1/catalogue/entries", signed(served), role="source_department")
    assert (taken.status_code, taken.json()["state"]) == (201, "source_reviewed")
    acts = [e.body for e in served.registry.events(kind="resource", case_id="res.east.register")]
    assert acts[0]["act"] == "resource.review.refused"  # the first attempt, which left nothing else
    assert [(a["act"], a["actor"], a["reason"]) for a in acts[1:]] == [
        ("resource.submit", "node-east", "handed in by p-source_department"),
        ("resource.review", "node-east", "handed in by p-source_department"),
    ]
    assert set(acts[2]["evidence"]) == {"entry"}
    refused(call("POST", f"{path}/confirm", {}, role="source_department"), "resource.role", 403)
    found = call("POST", f"{path}/confirm", {"reason": "核对无误"}, role="data_administration").json()
    assert (found["state"], found["document"]["in_scope_since"]) == ("in_scope", "2026-03-02")
    clocks = call("GET", "/v1/resources/res.east.register", role="data_administration").json()["clocks"]
    assert [clock["clock"] for clock in clocks] in ([], ["resource.supply"])
    refused(call("POST", f"{path}/confirm", {}, role="data_administration"), "resource.state", 409)
    public = call("GET", "/v1/catalogue/public", role="developer").json()["items"]
    assert "res.east.register" in {row["id"] for row in public}
    waiting = call("GET", "/v1/catalogue/supply", role="supervisor").json()["items"]
    assert ("res.east.register", 0) in {(row["resource"], row["age_days"]) for row in waiting}
    refused(call("POST", f"{path}/withdraw", {"reason": " "}, role="data_administration"), "resource.reason")
    gone = call("POST", f"{path}/withdraw", {"reason": "职责调整"}, role="source_department")
    assert gone.json() == {"resource": "res.east.register", "flagged": []}
    assert served.registry.get("resource", "res.east.register").state == "withdrawn"
    assert served.registry.verify_cases() > 0


def test_a_prohibited_circumstance_is_confirmed_by_nobody_and_leaves_the_entry_where_it_was(served):
    found = {"checked_by": "office", "checked_on": "2026-01-05", "found": ["trade_secret"]}
    body = signed(served, eligibility=found)
    served.call("POST", "/v1/catalogue/entries", body, role="source_department")
    answer = served.call("POST", "/v1/catalogue/entries/res.east.register/confirm", {}, role="data_administration")
    refused(answer, "resource.prohibited")
    assert served.registry.get("resource", "res.east.register").state == "source_reviewed"
    acts = [e.body["act"] for e in served.registry.events(kind="resource", case_id="res.east.register")]
    assert acts == ["resource.submit", "resource.review", "resource.include.refused"]


def test_a_withdrawal_names_what_depended_on_the_entry(served):
    served.agree()
    path = "/v1/catalogue/entries/res.east.clinic"
    answer = served.call("POST", f"{path}/withdraw", {"reason": "停止采集"}, role="data_administration").json()
    assert [(row["kind"], row["state"]) for row in answer["flagged"]] == [("agreement", "in_force")]
    rows = served.call("GET", f"{path}/dependants", role="agency").json()["items"]
    assert [row["flags"] for row in rows] == [["停止采集"]]


def test_a_new_standard_is_checked_from_then_on(served):
    body = {"version": "v2", "title": "编制规范二", "required": ["owner", "class", "grade", "basis"]}
    refused(served.call("POST", "/v1/catalogue/standards", body, role="agency"), "standard.role", 403)
    assert served.call("POST", "/v1/catalogue/standards", body, role="data_administration").status_code == 201
    assert served.call("GET", "/v1/catalogue/standards/current", role="reviewer").json()["version"] == "v2"
    refused(served.call("POST", "/v1/catalogue/entries", signed(served), role="source_department"), "resource.standard")
