"""Alerts and the end of an operator over HTTP: graded, owned by a role, closed by a person who did not cause them."""

import json
from datetime import timedelta

from factory.deletion import DELETION
from factory.services.alerts import Alerts
from factory.services.desk import Desk
from factory.services.running import Clocks
from nodes.contract.signing import sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, statement, time_text


def refused(answer, code, status):
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def alerts(served, role="supervisor", **wanted):
    items = served.call("GET", "/v1/alerts", role=role).json()["items"]
    return [one for one in items if all(one[name] == value for name, value in wanted.items())]


def test_a_role_that_is_tried_again_and_again_becomes_an_alert_that_its_owner_closes(served):
    assert alerts(served) == []
    for path in ("/v1/accounts", "/v1/organisations", "/v1/agreements"):
        assert served.call("POST", path, {}, role="operator").status_code == 403
    [found] = alerts(served, rule="foreign-role")
    assert (found["grade"], found["actor"], found["owner"], found["state"]) == (
        "major", "p-operator", "supervisor", "open",
    )  # fmt: skip
    assert found["organisation"] == "org-operator"
    path = f"/v1/alerts/{found['id']}"
    assert [one["id"] for one in alerts(served, role="security_head")] == [found["id"]]
    refused(served.call("POST", f"{path}/own", {}, role="operator"), "alert.role", 403)
    refused(served.call("POST", f"{path}/own", {}, role="agency"), "alert.role", 403)
    refused(served.call("POST", "/v1/alerts/A-nothing/own", {}, role="agency"), "registry.case_unknown", 404)
    refused(served.call("POST", f"{path}/close", {"outcome": " "}, role="supervisor"), "alert.outcome", 422)
    owned = served.call("POST", f"{path}/own", {}, role="supervisor").json()
    assert owned["taken_by"] == "p-supervisor"
    closed = served.call("POST", f"{path}/close", {"outcome": "已约谈"}, role="supervisor").json()
    assert (closed["state"], closed["outcome"]) == ("handled", "已约谈")
    refused(served.call("POST", f"{path}/close", {"outcome": "x"}, role="supervisor"), "alert.state", 409)
    acts = [e.body for e in served.registry.events(kind="alert", case_id=found["id"])]
    assert [(a["actor"], a["role"]) for a in acts if a["act"] == "alert.close"] == [("p-supervisor", "supervisor")]


def test_an_alert_that_nobody_closes_goes_to_the_next_owner(served):
    for _ in range(3):
        served.call("POST", "/v1/accounts", {}, role="developer")
    [found] = alerts(served, rule="foreign-role")
    served.world.at(served.desk.clock() + timedelta(hours=25))
    desk = Desk(served.registry, served.world.office.now)
    raised = Alerts(desk, Clocks(desk, served.world.office))
    later = [one for one in raised.seen(served.actor("p-data_administration")) if one.alert.id == found["id"]]
    assert [(one.alert.state, one.alert.owner) for one in later] == [("escalated", "data_administration")]


def test_a_name_that_is_guessed_is_an_alert(served):
    for _ in range(5):
        served.call("POST", "/v1/sessions", {"login": "somebody", "password": "wrong"})
    [found] = alerts(served, rule="enumeration")
    assert (found["grade"], found["owner"]) == ("critical", "supervisor")
    assert "somebody" not in json.dumps(found)


def order(**changes):
    return {"ground": "breach", "reason": "协议终止", **changes}


def deletion(key, name, content, now):
    said = {"agreement": "agr-1", "path": name, "deleted_at": time_text(now)}
    return json.loads(sign(key, PAYLOAD_TYPE, statement(DELETION, [(name, sha256_hex(content))], said)).to_bytes())


def test_an_exit_ends_with_verified_deletion_and_not_before(served):
    call, path = served.call, "/v1/standings/operator"
    refused(call("POST", f"{path}/exit", order(ground="mood"), role="agency"), "standing.exit_ground", 422)
    assert call("POST", f"{path}/exit", order(), role="agency").json()["state"] == "exiting"
    told = list(served.world.office.law().standing.exit_report_to)
    done = {"services_settled": True, "reported_to": told}
    refused(call("POST", f"{path}/finish", order(**done), role="agency"), "standing.deletion", 422)
    now = served.desk.clock()
    record = deletion(served.operator.key, "products/p/model.onnx", b"kept", now)
    forged = deletion(served.bank.key, "products/p/model.onnx", b"kept", now)
    refused(call("POST", f"{path}/deletion", {"records": []}, role="agency"), "standing.deletion", 422)
    refused(call("POST", f"{path}/deletion", {"records": [forged]}, role="agency"), "standing.deletion", 422)
    still = {"records": [record], "found": [sha256_hex(b"kept")]}
    refused(call("POST", f"{path}/deletion", still, role="agency"), "standing.deletion", 422)
    refused(call("POST", f"{path}/deletion", {"records": [record]}, role="operator"), "standing.role", 403)
    verified = call("POST", f"{path}/deletion", {"records": [record], "found": ["ab" * 32]}, role="agency").json()
    assert verified["document"]["deletion_verified_by"] == "data-bureau"
    assert call("POST", f"{path}/finish", order(**done), role="agency").json()["state"] == "exited"
    acts = [e.body["act"] for e in served.registry.events(kind="standing", case_id="operator")]
    assert [act for act in acts if not act.endswith(".refused")] == [
        "standing.exit", "standing.verify_deletion", "standing.finish",
    ]  # fmt: skip
    assert acts.count("standing.verify_deletion.refused") >= 2


def test_an_incident_s_measure_stays_open_until_its_effect_is_proven(served):
    call, path = served.call, "/v1/incidents/inc-1"
    started = call("POST", f"{path}/start", {"what": "疑似泄露", "plan": "预案"}, role="agency")
    assert (started.status_code, started.json()["state"]) == (201, "responding")
    assert call("POST", f"{path}/measures", {"measure": "isolate"}, role="operator").status_code == 404
    call("POST", f"{path}/measures", {"measure": "isolate"}, role="agency")
    unknown = {"measure": "rotate", "proof": {"code": "grant.revoked"}}
    refused(call("POST", f"{path}/proofs", unknown, role="agency"), "incident.unverified", 422)
    proof = {"measure": "isolate", "proof": {"code": "grant.revoked"}}
    measures = call("POST", f"{path}/proofs", proof, role="agency").json()["document"]["measures"]
    assert set(measures) == {"isolate"}
    assert measures["isolate"]
