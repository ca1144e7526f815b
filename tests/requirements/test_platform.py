"""Acceptance of roles, requests, rulings and products over the HTTP API of a platform."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from factory.accounts.authentication import KeyLogin
from factory.agency.cooperation import approve_cooperation
from factory.agency.errors import AdmissionRefusedError
from factory.registry.store import Act
from nodes.contract import canonical
from nodes.contract.signing import sign
from nodes.contract.statement import NODE_RUN, PAYLOAD_TYPE, RELEASE, REVIEW, statement
from tests import offices
from tests.apis import PARTIES, Served

FINDINGS = {"reasonable": "yes", "compliant": "yes", "secure": "yes"}
APPROVE = {"approve": True, "findings": FINDINGS, "reason": "必要"}


@pytest.fixture
def served(tmp_path):
    found = Served(tmp_path, f"sqlite:///{tmp_path / 'registry.db'}")
    yield found
    found.close()


def ok(answer, status=200):
    assert answer.status_code == status, answer.text
    return answer.json()


def refused(answer, code, status=422):
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return answer.json()


def acts(served, kind, name):
    return [event.body["act"] for event in served.registry.events(kind=kind, case_id=name)]


def submitted(served, **changes):
    return ok(served.call("POST", "/v1/requests", served.request(**changes), role="operator"), 201)


def granted(served):
    """Take a request through ruling and both registrars; return the id of the grant."""
    name = submitted(served)["id"]
    ok(served.call("POST", f"/v1/requests/{name}/ruling", APPROVE, role="agency"))
    for registrar in served.world.registrars:
        answer = ok(signature(served, name, registrar))
    assert answer["state"] == "granted"
    return answer["grant_id"]


def signature(served, name, registrar):
    laid = ok(served.call("GET", f"/v1/requests/{name}/desk", role="registrar"))
    from nodes.contract import canonical

    envelope = json.loads(sign(registrar.key, PAYLOAD_TYPE, canonical.dumps(laid["statement"])).to_bytes())
    return served.call("POST", f"/v1/requests/{name}/signatures", envelope, role="registrar")


@pytest.mark.requirement("ROLE")
def test_one_body_has_one_role_under_an_agreement_and_acts_in_no_other(served):
    both = {**PARTIES, "org-operator": "agency"}
    text = {"agreement": served.agree().json()["document"], "parties": both}
    text["agreement"] = {**text["agreement"], "agreement_id": "agr-2"}
    refused(served.call("POST", "/v1/agreements", text, role="agency"), "roles.body", 403)
    assert served.call("GET", "/v1/agreements/agr-2", role="agency").status_code == 404  # nothing of it is left
    party = {"organisation": "data-bureau", "role": "data_administration"}
    refused(served.call("POST", "/v1/agreements/agr-2026-1/parties", party, role="agency"), "roles.agreement", 403)
    served.people.register(served.admin, _organisation("org-other", "agency"))
    served.add_person("zhao", "org-other", "agency")
    name = submitted(served)["id"]
    answer = served.call("POST", f"/v1/requests/{name}/ruling", APPROVE, token=served.token("zhao"))
    refused(answer, "roles.agreement", 403)
    assert acts(served, "request", name)[-1] == "request.approve.refused"


def _organisation(name, *roles):
    from factory.services.people import NewOrganisation

    return NewOrganisation(id=name, name_zh=name, name_en=name, roles=roles)


@pytest.mark.requirement("REQ-SUBMIT")
def test_a_request_needs_an_agreement_in_force_and_gets_an_id_and_a_clock(served):
    refused(served.call("POST", "/v1/requests", served.request(), role="operator"), "request.agreement")
    ok(served.agree(not_after="2026-03-01T00:00:00Z", agreement_id="agr-old"), 422)
    ok(served.agree(), 201)
    refused(served.call("POST", "/v1/requests", served.request(), role="developer"), "request.role", 403)
    other = served.add_person("other", "org-security", "operator")
    answer = served.call("POST", "/v1/requests", served.request(), token=served.token(other.id))
    refused(answer, "request.operator")
    case = submitted(served)
    assert (case["state"], case["document"]["agreement_id"], case["document"]["scenario"]) == (
        "submitted", "agr-2026-1", "clinic-risk",
    )  # fmt: skip
    assert [party["resources"][0]["resource"] for party in case["document"]["parties"]] == [
        "res.east.clinic", "res.west.clinic", "res.north.clinic",
    ]  # fmt: skip
    clocks = ok(served.call("GET", f"/v1/requests/{case['id']}", role="operator"))["clocks"]
    assert [clock["clock"] for clock in clocks] == ["request.ruling"]
    assert clocks[0]["last_day"] == "2026-03-16"  # ten working days after Monday 2 March 2026


@pytest.mark.requirement("REQ-SCEN")
@pytest.mark.parametrize(
    ("field", "code"), [("scenario", "api.malformed"), ("need", "request.scenario"), ("value", "request.scenario")]
)
def test_an_empty_scenario_need_or_value_is_refused_by_name(served, field, code):
    ok(served.agree(), 201)
    answer = served.call("POST", "/v1/requests", {**served.request(), field: ""}, role="operator")
    problem = refused(answer, code)
    assert field in problem["detail"] + " ".join(problem["fields"])
    assert served.registry.cases("request") == []


@pytest.mark.requirement("REQ-RULING")
@pytest.mark.parametrize("missing", ["reasonable", "compliant", "secure"])
def test_a_decision_without_one_of_the_findings_is_not_saved(served, missing):
    ok(served.agree(), 201)
    name = submitted(served)["id"]
    body = {**APPROVE, "findings": {**FINDINGS, missing: " "}}
    problem = refused(served.call("POST", f"/v1/requests/{name}/ruling", body, role="agency"), "request.findings")
    assert missing in problem["detail"]
    assert "GD-24-2" in problem["clauses"]
    assert served.registry.get("request", name).state == "submitted"
    assert served.registry.artefacts("request", name) == {}


@pytest.mark.requirement("REQ-RULING")
def test_one_scenario_has_one_list_and_one_ruling(served):
    ok(served.agree(), 201)
    two = {**served.request(), "scenario": ["clinic-risk", "other"]}
    refused(served.call("POST", "/v1/requests", two, role="operator"), "api.malformed")
    submitted(served)
    again = {**served.request(), "request_id": "req-second"}
    refused(served.call("POST", "/v1/requests", again, role="operator"), "request.scenario_open")


@pytest.mark.requirement("REQ-DUAL")
def test_one_of_two_approvals_grants_nothing_and_one_body_cannot_give_both(served):
    served.law("SD")
    ok(served.agree(), 201)
    name = submitted(served)["id"]
    path = f"/v1/requests/{name}/ruling"
    first = ok(served.call("POST", path, APPROVE, role="data_administration"))
    assert (first["state"], first["laid"], first["grant_id"]) == ("submitted", False, "")
    refused(served.call("POST", path, APPROVE, role="data_administration"), "request.approved_already")
    served.people.register(served.admin, _organisation("org-two", "sector_authority"))
    assert served.call("GET", f"/v1/requests/{name}/desk", role="registrar").status_code == 409
    body = json.loads(sign(served.world.registrars[0].key, PAYLOAD_TYPE, b"{}").to_bytes())
    answer = served.call("POST", f"/v1/requests/{name}/signatures", body, role="registrar")
    refused(answer, "agency.nothing_pending", 409)
    both = ok(served.call("POST", path, APPROVE, role="sector_authority"))
    assert (both["state"], both["laid"]) == ("approved", True)
    assert served.registry.cases("grant") == []
    for registrar in served.world.registrars:
        ok(signature(served, name, registrar))
    assert [case.state for case in served.registry.cases("grant")] == ["granted"]


@pytest.mark.requirement("REQ-ARGUE")
def test_a_scenario_that_only_the_operator_screened_is_not_enough(served):
    served.law("SZ")
    ok(served.agree(), 201)
    scenario = {
        "id": "clinic-risk", "title": "门诊风险筛查", "need": "screening", "value": "earlier", "agreement_id": "agr-2026-1",
    }  # fmt: skip
    call, found = served.call, {"compliance": "合规", "necessity": "必要"}
    problem = refused(call("POST", "/v1/requests", served.request(), role="operator"), "request.argued")
    assert "operator" in problem["detail"]
    ok(call("POST", "/v1/scenarios", scenario, role="operator"), 201)
    refused(call("POST", "/v1/scenarios/clinic-risk/argue", found, role="operator"), "scenario.role", 403)
    refused(call("POST", "/v1/requests", served.request(), role="operator"), "request.argued")
    half = {**found, "necessity": " "}
    refused(call("POST", "/v1/scenarios/clinic-risk/argue", half, role="data_administration"), "scenario.findings")
    ok(call("POST", "/v1/scenarios/clinic-risk/argue", found, role="data_administration"))
    refused(call("POST", "/v1/scenarios/clinic-risk/argue", found, role="data_administration"), "scenario.argued")
    problem = refused(call("POST", "/v1/requests", served.request(), role="operator"), "request.argued")
    assert "sector_authority" in problem["detail"]
    ok(call("POST", "/v1/scenarios/clinic-risk/argue", found, role="sector_authority"))
    assert submitted(served)["state"] == "submitted"
    ok(call("POST", "/v1/scenarios", {**scenario, "id": "other"}, role="operator"), 201)
    ok(call("POST", "/v1/scenarios/other/decline", {"reason": "不必要"}, role="sector_authority"))
    other = {**served.request(), "scenario": "other", "request_id": "req-other"}
    refused(call("POST", "/v1/requests", other, role="operator"), "request.argued")


@pytest.mark.requirement("REQ-DEV")
def test_a_developer_asks_for_an_argued_scenario_and_the_operator_checks_it(served):
    call = served.call
    ok(served.agree(), 201)
    refused(call("POST", "/v1/requests/proposals", served.request(), role="developer"), "request.developer")
    served.law("SZ")
    scenario = {
        "id": "clinic-risk", "title": "门诊风险筛查", "need": "screening", "value": "earlier", "agreement_id": "agr-2026-1",
    }  # fmt: skip
    ok(call("POST", "/v1/scenarios", scenario, role="operator"), 201)
    for role in ("data_administration", "sector_authority"):
        found = {"compliance": "合规", "necessity": "必要"}
        ok(call("POST", "/v1/scenarios/clinic-risk/argue", found, role=role))
    outside = {**served.request(replace={"res.east.clinic": "res.east.secret"}), "request_id": "req-outside"}
    assert ok(call("POST", "/v1/requests/proposals", outside, role="developer"), 201)["state"] == "proposed"
    refused(call("POST", "/v1/requests", outside, role="operator"), "request.scope")
    assert served.registry.get("request", "req-outside").state == "proposed"
    inside = served.request()
    ok(call("POST", "/v1/requests/proposals", inside, role="developer"), 201)
    assert ok(call("POST", "/v1/requests", inside, role="operator"), 201)["state"] == "submitted"
    path = f"/v1/requests/{inside['request_id']}/ruling"
    for role in ("data_administration", "sector_authority"):
        answer = ok(call("POST", path, APPROVE, role=role))
    assert answer["state"] == "approved"


def product(**changes):
    return {"product": "clinic-risk@1", "title": "门诊风险", "form": "model", "grant_id": "none", **changes}


@pytest.mark.requirement("UNI-AUTH")
def test_a_body_without_an_agreement_makes_no_product_and_the_attempt_is_listed(served):
    refused(served.call("POST", "/v1/products", product(), role="source_department"), "product.role", 403)
    other = served.add_person("firm", "org-security", "operator")
    answer = served.call("POST", "/v1/products", product(), token=served.token(other.id))
    refused(answer, "product.unauthorised")
    assert served.registry.cases("product") == []
    listed = ok(served.call("GET", "/v1/refusals", role="data_administration"))["items"]
    assert [(item["actor"], item["organisation"], item["act"], item["reason"]) for item in listed][-2:] == [
        ("p-source_department", "org-east", "product.start.refused", "product.role"),
        ("firm", "org-security", "product.start.refused", "product.unauthorised"),
    ]
    refused(served.call("GET", "/v1/refusals", role="operator"), "api.role", 403)
    ok(served.agree(), 201)
    started = served.call("POST", "/v1/products", product(grant_id=granted(served)), role="operator")
    assert ok(started, 201)["state"] == "building"


class Life:
    """A product's life over HTTP, with statements signed by whoever has to."""

    def __init__(self, served):
        self.served, self.grant = served, granted(served)
        events = served.registry.events(kind="grant", case_id=self.grant)
        self.grant_sha256 = events[0].body["evidence"]["grant"]
        self.subjects = [("data/model.onnx", "ab" * 32)]
        self.product = "clinic-risk@1"

    def envelope(self, signer, kind, predicate):
        return json.loads(sign(signer.key, PAYLOAD_TYPE, statement(kind, self.subjects, predicate)).to_bytes())

    def runs(self, *names, **changes):
        grant = {"id": self.grant, "sha256": self.grant_sha256, **changes}
        nodes = [self.served.nodes[name] for name in names]
        return [self.envelope(node, NODE_RUN, {"node": node.id, "grant": grant}) for node in nodes]

    def reviews(self, *reviewers):
        return [self.envelope(reviewer, REVIEW, {"verifier": {"id": reviewer.id}}) for reviewer in reviewers]

    def releases(self, code, *signers):
        predicate = {"registration": {"code": code, "valid_until": "2027-01-01T00:00:00Z"}}
        return [self.envelope(signer, RELEASE, predicate) for signer in signers]

    def registered(self):
        """Take the product from its build to its registration; return the code."""
        ok(self.step("build", envelopes=self.runs("east", "west", "north")))
        ok(self.step("test", findings={"identifiers": True}))
        ok(self.step("review", "reviewer", envelopes=self.reviews(*self.served.reviewers)))
        for role in ("agency", "source_department"):
            ok(self.served.call("POST", f"/v1/products/{self.product}/receipts", role=role))
        for name in ("west", "north"):
            person = self.served.add_person(f"officer-{name}-{self.product[-1]}", f"org-{name}", "source_department")
            ok(self.served.call("POST", f"/v1/products/{self.product}/receipts", token=self.served.token(person.id)))
        ok(self.step("report", report=self.report()))
        filed = ok(self.served.call("POST", "/v1/registrations", self.application(), role="operator"), 201)
        decision = {"approve": True, "reason": "齐全"}
        decided = self.served.call("POST", f"/v1/registrations/{filed['id']}/decision", decision, role="agency")
        code = ok(decided)["document"]["code"]
        ok(self.step("register", "agency"))
        return code

    def application(self):
        name, _, version = self.product.partition("@")
        day, end = "2026-03-02T08:00:00Z", "2027-01-01T00:00:00Z"
        towns = ("east", "west", "north")
        sources = [
            {
                "resource": f"res.{town}.clinic", "version": 1, "holder": f"node-{town}", "statement_sha256": "ab" * 32,
                "registration_platform": "x", "registration_code": "x", "registration_valid_until": end,
                "quality_score_x100": 9000,
            }
            for town in towns
        ]  # fmt: skip
        runs = [{"name": f"run-node-{town}", "sha256": "ab" * 32, "log_index": 1} for town in towns]
        titles = {"name_zh": "x", "name_en": "x"}
        return {
            "application_id": f"reg-{name}-{version}",
            "registrant": {"actor": "operator", "organisation": "org-operator", **titles},
            "lawful_source": {
                "basis": "x", "agreement_id": "agr-2026-1", "grant_id": self.grant, "grant_sha256": self.grant_sha256,
            },
            "resources": sources,
            "evidence": {
                "log_origin": "log", "stored_at": day, "entries": runs,
            },
            "product": {
                "id": name, "product_version": version, "form": "model", **titles, "summary": "x",
                "files": [{"path": "data/model.onnx", "sha256": "ab" * 32}],
            },
            "scenario": {"scenario": "clinic-risk", "title": "x", "purpose": "x", "request_sha256": "ab" * 32},
            "risk": {
                "prerelease_sha256": "ab" * 32, "reviews_sha256": ["ab" * 32, "cd" * 32], "tests": ["x"],
                "leaves_country": False,
            },
            "applied_at": day,
        }  # fmt: skip

    def report(self, **met):
        from factory.review.prerelease import ITEMS

        items = [{"item": name, "measures": [{"ok": met.get(name, True)}]} for name in ITEMS]
        return {"product": self.product, "items": items}

    def step(self, act, role="operator", **body):
        return self.served.call("POST", f"/v1/products/{self.product}/{act}", body, role=role)


@pytest.mark.requirement("PROD-DEMAND")
def test_a_product_without_a_demand_is_not_reviewed_and_with_one_the_demander_is_told(served):
    ok(served.agree(), 201)
    life = Life(served)
    served.law("JN")
    ok(served.call("POST", "/v1/products", product(grant_id=life.grant), role="operator"), 201)
    ok(life.step("build", envelopes=life.runs("east", "west", "north")))
    ok(life.step("test", findings={"identifiers": True}))
    reviews = life.reviews(*served.reviewers)
    problem = refused(life.step("review", "reviewer", envelopes=reviews), "product.demand")
    assert "JN-15-1" in problem["clauses"]
    demand = {"id": "demand-1", "what": "风险评分", "agreement_id": "agr-2026-1"}
    ok(served.call("POST", "/v1/demands", demand, role="application_unit"), 201)
    second = product(grant_id=life.grant, product="clinic-risk@2", demand_id="demand-1")
    ok(served.call("POST", "/v1/products", second, role="operator"), 201)
    life.product = "clinic-risk@2"
    code = life.registered()
    everybody = [served.operator, *served.nodes.values(), *served.world.registrars]
    refused(life.step("release", envelopes=life.releases(code, *everybody)), "product.security_head")
    ok(served.call("POST", "/v1/products/clinic-risk@2/receipts", role="security_head"))
    refused(life.step("release", envelopes=life.releases("another", *everybody)), "product.release")
    ok(life.step("release", envelopes=life.releases(code, *everybody)))
    told = ok(served.call("GET", "/v1/demands/demand-1", role="application_unit"))
    assert (told["state"], told["document"]["product"]) == ("answered", "clinic-risk@2")
    seen = ok(served.call("GET", "/v1/events?kind=demand&case=demand-1", role="application_unit"))["items"]
    assert seen[-1]["act"] == "demand.answer"


@pytest.mark.requirement("LOG-ALL")
def test_every_step_of_a_products_life_is_found_by_its_name_in_order(served):
    ok(served.agree(), 201)
    life = Life(served)
    demand = {"id": "demand-1", "what": "风险评分", "agreement_id": "agr-2026-1"}
    ok(served.call("POST", "/v1/demands", demand, role="application_unit"), 201)
    start = product(grant_id=life.grant, demand_id="demand-1")
    ok(served.call("POST", "/v1/products", start, role="operator"), 201)
    refused(life.step("build", envelopes=life.runs("east", "west")), "product.provenance")
    refused(life.step("build", envelopes=life.runs("east", "west", "north", sha256="00" * 32)), "product.provenance")
    ok(life.step("build", envelopes=life.runs("east", "west", "north")))
    refused(life.step("test", findings={"identifiers": False}), "product.test_failed")
    ok(life.step("test", findings={"identifiers": True, "membership": True}))
    refused(life.step("review", "reviewer", envelopes=life.reviews(served.reviewers[0])), "product.review")
    forged = life.envelope(served.operator, REVIEW, {"verifier": {"id": "reviewer-institute"}})
    one = [*life.reviews(served.reviewers[0]), forged]
    refused(life.step("review", "reviewer", envelopes=one), "product.review")
    ok(life.step("review", "reviewer", envelopes=life.reviews(*served.reviewers)))
    refused(life.step("report", report=life.report(accuracy=False)), "product.prerelease")
    refused(life.step("report", report=life.report()), "product.receipt")
    ok(served.call("POST", "/v1/products/clinic-risk@1/receipts", role="agency"))
    ok(life.step("report", report=life.report()))
    filed = ok(served.call("POST", "/v1/registrations", life.application(), role="operator"), 201)
    decision = {"approve": True, "reason": "齐全"}
    ok(served.call("POST", f"/v1/registrations/{filed['id']}/decision", decision, role="agency"))
    ok(life.step("register", "agency"))
    ok(life.step("return", "agency", reason="重新构建"))
    ok(life.step("retire", reason="不再提供"))
    found = ok(served.call("GET", "/v1/product/clinic-risk@1/life", role="supervisor"))["items"]
    done = [item["act"] for item in found if not item["act"].endswith(".refused")]
    wanted = [
        "agreement.record", "request.submit", "request.approve", "request.issue", "grant.issue", "demand.state",
        "product.start", "product.build", "product.test", "product.review", "product.receive", "product.report",
        "registration.apply", "registration.code", "product.register", "product.return", "product.retire",
    ]  # fmt: skip
    assert [act for act in done if act in wanted] == wanted
    assert [item["seq"] for item in found] == sorted(item["seq"] for item in found)
    for item in found:
        assert item["actor"]
        assert item["organisation"]
        assert item["role"]
        assert item["at"]
    assert served.registry.verify_chain() >= len(found)


def _weaken(registry, measure):
    """Leave a resource without a grade, or a grant without thresholds, as an older release could have."""
    act, now = Act("t", "t", "t", "t"), datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
    if measure == "grading":
        case = registry.get("resource", "res.east.clinic")
        document = {**case.document, "entry": {**case.document["entry"], "grade": ""}}
        registry.create("resource", "res.east.old", state=case.state, document=document, act=act, now=now)
    else:
        registry.create("grant", "g-old", state="granted", document={"grant_id": "g-old"}, act=act, now=now)


@pytest.mark.requirement("SEC-MEASURES")
@pytest.mark.parametrize(
    "off", ["none", "grading", "access_control", "encrypted_storage", "de_identification", "log_keeping", "backup"]
)
def test_a_measure_that_is_off_makes_the_check_red_and_holds_new_grants(served, off):
    home = served.world.office.home
    if off != "log_keeping":
        (home / "log").mkdir()
    if off != "backup":
        ok(served.call("POST", f"/v1/posture/backups?sha256={'ab' * 32}", role="administrator"), 201)
    for path in (home / "keys").iterdir():
        if path.suffix == ".pem" and off != "encrypted_storage":
            encrypted = path.read_bytes().replace(b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY")
            path.write_bytes(encrypted)
    if off == "access_control":
        (home / "keys" / "accounts.key").chmod(0o644)
    if off in {"grading", "de_identification"}:
        _weaken(served.registry, off)
    found = ok(served.call("POST", "/v1/posture", role="supervisor"))
    assert found["state"] == ("green" if off == "none" else "red")
    assert [name for name, problem in found["document"]["measures"].items() if problem] == (
        [] if off == "none" else [off]
    )
    ok(served.agree(), 201)
    name = submitted(served)["id"]
    ok(served.call("POST", f"/v1/requests/{name}/ruling", APPROVE, role="agency"))
    ok(signature(served, name, served.world.registrars[0]))
    answer = signature(served, name, served.world.registrars[1])
    if off == "none":
        assert ok(answer)["state"] == "granted"
    else:
        assert off in refused(answer, "request.posture")["detail"]
        assert [case.id for case in served.registry.cases("grant") if case.id != "g-old"] == []


@pytest.mark.requirement("LOG-ALL")
@pytest.mark.parametrize("damage", ["edit", "delete"])
def test_release_and_what_follows_are_found_by_product_and_a_changed_record_is_seen(served, damage):
    from factory.registry.schema import table

    ok(served.agree(), 201)
    life = Life(served)
    ok(served.call("POST", "/v1/products", product(grant_id=life.grant), role="operator"), 201)
    code = life.registered()
    everybody = [served.operator, *served.nodes.values(), *served.world.registrars]
    ok(life.step("release", envelopes=life.releases(code, *everybody)))
    ok(life.step("operate"))
    ok(life.step("suspend", "agency", reason="核查"))
    ok(life.step("restore", "agency", reason="核查完毕"))
    ok(life.step("retire", reason="停止服务"))
    found = ok(served.call("GET", "/v1/product/clinic-risk@1/life", role="supervisor"))["items"]
    steps = [item["act"] for item in found if not item["act"].endswith(".refused")]
    wanted = [
        "product.register",
        "product.release",
        "product.operate",
        "product.suspend",
        "product.restore",
        "product.retire",
    ]
    assert [act for act in steps if act in wanted] == wanted
    assert ok(served.call("GET", "/v1/audit", role="supervisor"))["events"] >= len(found)
    events = table("events")
    seq = next(item["seq"] for item in found if item["act"] == "product.release")
    with served.registry.transaction() as connection:
        if damage == "edit":
            body = next(e for e in served.registry.events() if e.seq == seq).body
            forged = canonical.dumps({**body, "reason": "another"})
            connection.execute(events.update().where(events.c.seq == seq).values(body=forged))
        else:
            connection.execute(events.delete().where(events.c.seq == seq))
    answer = served.call("GET", "/v1/audit", role="supervisor")
    assert answer.json()["code"] == "registry.chain_broken"


@pytest.mark.requirement("PROD-REVIEW", "PROD-OPREV", "PREREL")
def test_over_http_no_registration_without_test_and_review_and_no_release_without_the_receipts(served):
    served.law("JL")
    ok(served.agree(), 201)
    life = Life(served)
    ok(served.call("POST", "/v1/products", product(grant_id=life.grant), role="operator"), 201)
    ok(life.step("build", envelopes=life.runs("east", "west", "north")))
    register = lambda **c: life.step("register", **{"role": "agency", **c})  # noqa: E731
    refused(register(), "product.state", 409)  # not tested
    refused(life.step("test"), "product.untested")
    refused(life.step("test", findings={"identifiers": True, "reconstruction": False}), "product.test_failed")
    refused(register(), "product.state", 409)
    ok(life.step("test", findings={"identifiers": True, "reconstruction": True}))
    refused(register(), "product.state", 409)  # not reviewed
    both = life.reviews(*served.reviewers)
    refused(life.step("review", envelopes=both), "product.role", 403)  # by the operator itself
    refused(life.step("review", "reviewer", envelopes=both[:1]), "product.review")
    refused(life.step("review", "reviewer", envelopes=both[:1] * 2), "product.review")
    operators = [life.envelope(served.operator, REVIEW, {"verifier": {"id": "operator"}})]
    refused(life.step("review", "reviewer", envelopes=[*both[:1], *operators]), "product.review")
    ok(life.step("review", "reviewer", envelopes=both))
    refused(life.step("report", report=life.report(masking=True)), "product.receipt")  # no office has it yet
    receipt = f"/v1/products/{life.product}/receipts"
    for role in ("agency", "data_administration"):
        ok(served.call("POST", receipt, role=role))
    refused(register(), "product.state", 409)  # not reported
    ok(life.step("report", report=life.report()))
    refused(register(), "product.unregistered")  # the agency has decided nothing yet
    filed = ok(served.call("POST", "/v1/registrations", life.application(), role="operator"), 201)
    decide = f"/v1/registrations/{filed['id']}/decision"
    yes = {"approve": True, "reason": "齐全"}
    assert served.call("POST", decide, yes, role="operator").status_code == 403  # by the operator itself
    refused(register(), "product.unregistered")
    code = ok(served.call("POST", decide, yes, role="agency"))["document"]["code"]
    refused(register(role="operator"), "product.role", 403)
    ok(register())
    everybody = [served.operator, *served.nodes.values(), *served.world.registrars]
    release = lambda: life.step("release", envelopes=life.releases(code, *everybody))  # noqa: E731
    assert "node-east" in refused(release(), "product.receipt")["detail"]
    ok(served.call("POST", receipt, role="source_department"))
    assert "node-north" in refused(release(), "product.receipt")["detail"]
    for name in ("west", "north"):
        officer = served.add_person(f"reader-{name}", f"org-{name}", "source_department")
        ok(served.call("POST", receipt, token=served.token(officer.id)))
    assert ok(release())["state"] == "released"


@pytest.mark.requirement("USE-THIRD")
def test_a_third_party_without_an_approved_cooperation_does_not_log_in_and_not_after_its_end(served):
    office = served.world.office
    third = offices.person(served.world.folder, "helper", "third-ltd", "operator", root=office.root())

    def log_in():
        nonce = ok(served.call("POST", "/v1/sessions/challenges"), 201)["nonce"]
        value = {"actor": "helper", "audience": "agency", "nonce": nonce, "at": served.desk.clock()}
        payload = KeyLogin.model_validate(value).to_payload()
        envelope = json.loads(sign(third.key, KeyLogin.payload_type, payload).to_bytes())
        return served.call("POST", "/v1/sessions/by-key", envelope)

    assert log_in().status_code == 401
    with pytest.raises(AdmissionRefusedError, match="approved cooperation"):
        office.admit((third.home / "enrolment.json").read_bytes())
    assert log_in().status_code == 401
    approve_cooperation(
        office.identity, "third-ltd", task="运维", official="o", reason="审查通过",
        until=office.now() + timedelta(days=5), now=office.now(),
    )  # fmt: skip
    office.admit((third.home / "enrolment.json").read_bytes())
    served.world.publish()
    token = ok(log_in(), 201)["token"]
    assert ok(served.call("GET", "/v1/me", token=token))["organisation"] == "third-ltd"
    served.world.at(office.now() + timedelta(days=6))
    assert not next(a for a in office.trust().actors.actors if a.id == "helper").is_valid_at(served.world.office.now())
    with pytest.raises(AdmissionRefusedError, match="has ended"):
        served.world.office.admit((third.home / "enrolment.json").read_bytes())
