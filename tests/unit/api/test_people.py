"""Signing in, keys, bodies and accounts over HTTP; problems tell the code and no secret."""

import json

import pyotp

from factory.accounts.authentication import KeyLogin
from nodes.contract.signing import sign

PASSWORD = "wonderfully-long-43"


def ok(answer, status=200):
    assert answer.status_code == status, answer.text
    return answer.json()


def test_from_an_invitation_to_a_session_with_a_second_factor_and_out(served):
    call = served.call
    invitation = ok(call("POST", "/v1/accounts/p-operator/invitations", role="administrator"), 201)["invitation"]
    assert call("POST", "/v1/invitations/accept", {"invitation": invitation, "password": "short"}).status_code == 422
    assert ok(call("POST", "/v1/invitations/accept", {"invitation": invitation, "password": PASSWORD})) == {
        "account": "p-operator"
    }
    login = {"login": "p-operator", "password": PASSWORD}
    token = ok(call("POST", "/v1/sessions", login), 201)["token"]
    me = ok(call("GET", "/v1/me", token=token))
    assert (me["id"], me["organisation"], me["roles"], me["means"]) == (
        "p-operator", "org-operator", ["operator"], "password",
    )  # fmt: skip
    totp = pyotp.parse_uri(ok(call("POST", "/v1/me/totp", token=token), 201)["address"])
    code = totp.at(int(served.desk.clock().timestamp()))
    ok(call("POST", "/v1/me/totp/confirm", {"code": code}, token=token))
    assert call("POST", "/v1/sessions", login).status_code == 401
    ok(call("DELETE", "/v1/sessions/current", token=token))
    assert call("GET", "/v1/me", token=token).status_code == 401


def test_a_login_that_fails_too_often_waits(served):
    for _ in range(5):
        answer = served.call("POST", "/v1/sessions", {"login": "nobody", "password": "wrong"})
        assert (answer.status_code, answer.json()["code"]) == (401, "accounts.unauthenticated")
    answer = served.call("POST", "/v1/sessions", {"login": "nobody", "password": "wrong"})
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (429, "accounts.locked", True)


def test_a_node_signs_in_with_its_key(served):
    challenge = ok(served.call("POST", "/v1/sessions/challenges"), 201)
    login = KeyLogin(actor="node-east", at=served.desk.clock(), **challenge)
    envelope = json.loads(sign(served.node.key, KeyLogin.payload_type, login.to_payload()).to_bytes())
    token = ok(served.call("POST", "/v1/sessions/by-key", envelope), 201)["token"]
    assert ok(served.call("GET", "/v1/me", token=token))["roles"] == ["node", "source_department"]
    assert served.call("POST", "/v1/sessions/by-key", envelope).status_code == 401


def test_a_key_is_shown_once_rotated_and_revoked(served):
    made = ok(served.call("POST", "/v1/me/keys", {"label": "夜间", "days": 30}, role="operator"), 201)["key"]
    shown = ok(served.call("GET", "/v1/me/keys", role="operator"))["items"]
    key = next(item for item in shown if item["label"] == "夜间")
    assert made.rpartition("_")[2] not in json.dumps(shown)
    assert ok(served.call("GET", "/v1/me", token=made))["means"] == "api_key"
    fresh = ok(served.call("POST", f"/v1/me/keys/{key['id']}/rotate", {"days": 1}, role="operator"), 201)["key"]
    assert served.call("GET", "/v1/me", token=made).status_code == 401
    assert served.call("DELETE", f"/v1/me/keys/{fresh.split('_')[1]}", role="reviewer").status_code == 422
    ok(served.call("DELETE", f"/v1/me/keys/{fresh.split('_')[1]}", role="operator"))
    assert served.call("GET", "/v1/me", token=fresh).status_code == 401


def test_a_problem_tells_fields_and_no_value(served):
    answer = served.call("POST", "/v1/accounts", {"id": "UPPER", "password": "top-secret"}, role="administrator")
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["type"]) == (
        422, "api.malformed", "urn:shufang:error:api.malformed",
    )  # fmt: skip
    assert {"body.id", "body.password", "body.name"} <= set(problem["fields"])
    assert "top-secret" not in answer.text
    assert "UPPER" not in answer.text


def test_the_same_command_again_has_one_effect_and_the_same_answer(served):
    body = {"id": "org-new", "name_zh": "新", "name_en": "New", "roles": ["developer"]}
    key = {"Idempotency_Key": "key-00000001"}
    first = served.call("POST", "/v1/organisations", body, role="administrator", **key)
    again = served.call("POST", "/v1/organisations", body, role="administrator", **key)
    assert ok(first, 201) == ok(again, 201)
    other = served.call("POST", "/v1/organisations", {**body, "id": "org-x"}, role="administrator", **key)
    assert (other.status_code, other.json()["code"]) == (422, "api.idempotency")
    plain = served.call("POST", "/v1/organisations", body, role="administrator")
    assert (plain.status_code, plain.json()["code"]) == (409, "registry.case_exists")
    registered = served.registry.events(kind="organisation", case_id="org-new")
    assert [event.body["act"] for event in registered] == ["organisation.register"]


def test_a_refused_command_with_a_key_is_recorded_and_may_be_repeated(served):
    body = {"id": "org-both", "name_zh": "x", "name_en": "x", "roles": ["operator", "agency"]}
    for _ in range(2):
        answer = served.call("POST", "/v1/organisations", body, role="administrator", Idempotency_Key="key-00000002")
        assert (answer.status_code, answer.json()["code"]) == (403, "roles.apart")
        assert "ROLE" in answer.json()["clauses"]
    refused = served.registry.events(kind="organisation", case_id="org-both")
    assert [event.body["act"] for event in refused] == ["organisation.register.refused"] * 2


def test_lists_come_in_pages(served):
    page = ok(served.call("GET", "/v1/organisations?limit=4", role="operator"))
    names = [item["id"] for item in page["items"]]
    while page["next"]:
        page = ok(served.call("GET", f"/v1/organisations?limit=4&after={page['next']}", role="operator"))
        names += [item["id"] for item in page["items"]]
    assert names == sorted(names)
    assert len(names) == 12
    assert served.call("GET", "/v1/organisations?limit=0", role="operator").status_code == 422


def test_the_natural_person_is_shown_to_nobody(served):
    answer = served.call("GET", "/v1/accounts/p-operator", role="administrator")
    assert "identity_hmac" not in answer.text
    assert served.registry.get("account", "p-operator").document["identity_hmac"] not in answer.text


def test_an_oversized_body_and_an_unknown_path_are_problems(served):
    answer = served.client.post("/v1/sessions", content=b"x" * (4 * 2**20 + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "api.too_large")
    answer = served.call("GET", "/v1/nothing-here")
    assert (answer.status_code, answer.json()["code"]) == (404, "api.not_found")
    assert served.call("PUT", "/v1/me").status_code == 405
    assert answer.headers["cache-control"] == "no-store"


def test_a_person_finds_own_acts_and_not_those_of_others(served):
    served.call("POST", "/v1/accounts/p-operator/suspend", {"reason": "离岗"}, role="administrator")
    own = ok(served.call("GET", "/v1/events?person=p-administrator", role="administrator"))["items"]
    assert own[-1]["act"] == "account.suspend"
    assert served.call("GET", "/v1/events?person=p-administrator", role="developer").status_code == 404
    assert served.call("GET", "/v1/events", role="developer").status_code == 404
    seen = ok(served.call("GET", "/v1/events?person=p-administrator&limit=1", role="supervisor"))
    assert len(seen["items"]) == 1
    assert seen["next"] == seen["items"][0]["seq"]
    assert ok(served.call("GET", "/v1/audit", role="supervisor"))["events"] == served.registry.events()[-1].seq
