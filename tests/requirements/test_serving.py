"""Acceptance of serving: clients, keys, calls over HTTP, leaks, feedback; refused cases first."""

import contextlib
import json
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import uvicorn

from factory.identity import install_admission
from factory.lifecycle.serving import Client, Offer, Screening, resale_refusal
from factory.registry.store import Registry
from factory.serving.errors import AlteredError, CallRefusedError
from factory.serving.fingerprint import mark_of, marked, read_mark, unmarked
from factory.serving.gateway import create_gateway
from factory.serving.shop import Shop
from nodes.contract.signing import sha256_hex
from nodes.contract.trust import StatusItem
from tests import offices

PRODUCT, GATEWAY = "risk@1.0.0", "https://gateway.yunzhou.example"
TABLE = "district,count\n" + "".join(f"d{i:02d},{10 * i}\n" for i in range(40))
PAGE = "<html>\n" + "".join(f"<p>{i}</p>\n" for i in range(100)) + "</html>\n"
FILES = {"table.csv": TABLE.encode(), "page.html": PAGE.encode(), "model.onnx": b"\x08\x07" + bytes(range(200))}
FOUND = dict.fromkeys(("identity", "credit", "purpose", "security"), "ok")


class Counter:
    """A shop with its files, trust data and a gateway on a real socket."""

    def __init__(self, folder):
        self.later = timedelta(0)
        self.folder = folder
        self.world = offices.world(folder, now=datetime.now(UTC).replace(microsecond=0))
        self.operator = self.world.add("operator", "operator-ltd", "operator")
        self.world.publish()
        self.sync()
        self.registry = Registry.at(folder / "operator" / "registry.db")
        place = folder / "released" / PRODUCT.replace("@", "_")
        place.mkdir(parents=True)
        for name, content in FILES.items():
            (place / name).write_bytes(content)
        self.shop = Shop(
            registry=self.registry, operator="operator-ltd", controlled=frozenset({"sub-ltd"}),
            gateways=frozenset({GATEWAY}), files=folder / "released", trust_path=self.operator.trust_path,
            mark_key=b"k" * 32, clock=self.now,
        )  # fmt: skip

    def now(self):
        return datetime.now(UTC) + self.later

    def sync(self):
        install_admission(self.operator, self.world.office.response("operator"), now=datetime.now(UTC))

    def strike(self, kind, subject, state="suspended"):
        item = StatusItem(subject_kind=kind, subject=subject, state=state, since=datetime.now(UTC), reason="核查")
        self.world.office.set_status(item)
        self.world.publish()
        self.sync()

    def offer(self, **changes):
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=300)
        values = {
            "product": PRODUCT, "description": "门诊风险评分", "price": {"kind": "guided", "fee_fen": 250, "per": "每次调用"},
            "scenarios": {"s1": ("bank",)}, "purpose": "p-1", "terms_version": "t1",
            "terms_sha256": "aa" * 32, "per_minute": 5, "per_day": 20, "endpoint": f"{GATEWAY}/v1/products/risk",
            "files": {name: sha256_hex(content) for name, content in FILES.items()}, "agreement": "agr-1",
            "agreement_until": until, "grant": "g-1", "grant_until": until, "registration_code": "YZ-1",
            "registration_until": until, "resources": ("res.east.clinic",), **changes,
        }  # fmt: skip
        return self.shop.offer(Offer.model_validate(values), by="operator")

    def client(self, name="bank-yun", **changes):
        values = {"id": name, "organisation": f"org-{name}", "title": name, "client_type": "bank", "country": "CN"}
        return Client.model_validate({**values, **changes})

    def screening(self, **changes):
        values = {"findings": FOUND, "by": "王芳", "not_after": datetime.now(UTC) + timedelta(days=100), **changes}
        return Screening.model_validate(values)

    def key(self, client=None, **words):
        made = client or self.client()
        self.shop.admit(made, self.screening(), by="operator")
        return self.shop.give_key(made.id, PRODUCT, scenario="s1", by="operator", **words)

    def ready(self):
        self.offer()
        key = self.key()
        self.shop.accept_terms(key, "t1")
        return key

    def refused(self, act):
        with pytest.raises(CallRefusedError) as told:
            act()
        return told.value.refusal.code


@pytest.fixture
def counter(tmp_path):
    made = Counter(tmp_path)
    yield made
    made.registry.close()


@contextlib.contextmanager
def served(shop):
    """Run the gateway on a loopback socket."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = uvicorn.Server(
            uvicorn.Config(create_gateway(shop), log_level="error", access_log=False, ws="none", lifespan="off")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
                yield http
        finally:
            server.should_exit = True
            thread.join()


def get(http, key, name="table.csv", *, product=PRODUCT, scenario="s1"):
    headers = {"X-API-Key": key, "X-Scenario": scenario}
    return http.get(f"/v1/products/{product}/files/{name}", headers=headers)


def code(answer):
    return "" if answer.status_code < 300 else answer.json()["code"]


@pytest.mark.requirement("DOWN-SCREEN")
def test_an_unscreened_body_gets_no_key_and_a_screened_one_gets_one_that_ends(counter):
    counter.offer()
    give = lambda: counter.shop.give_key("bank-yun", PRODUCT, scenario="s1", by="operator")  # noqa: E731
    assert counter.refused(give) == "client.unscreened"
    for point in FOUND:
        counter.shop.admit(counter.client(), counter.screening(findings={**FOUND, point: " "}), by="operator")
        assert counter.refused(give) == "client.unscreened"
    past = counter.screening(not_after=datetime.now(UTC) - timedelta(days=1))
    counter.shop.admit(counter.client(), past, by="operator")
    assert counter.refused(give) == "client.unscreened"
    counter.shop.admit(counter.client(), counter.screening(), by="operator")
    key = give()
    held = counter.registry.cases("client_key")[0].document
    assert held["not_after"]
    assert key not in json.dumps(held)
    assert key.split("_", 2)[2] not in json.dumps([event.body for event in counter.registry.events()])


@pytest.mark.requirement("XBORDER")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"country": ""}, "client.location"),
        ({"country": "SG"}, "client.cross_border"),
        ({"country": "SG", "clearance": "  "}, "client.cross_border"),
        ({"country": "SG", "clearance": "出境评估 2026-12"}, ""),
        ({"country": "CN"}, ""),
    ],
)
def test_a_client_abroad_needs_a_clearance_and_an_unknown_location_is_refused(counter, change, told):
    counter.offer()
    act = lambda: counter.key(counter.client(**change))  # noqa: E731
    if told:
        assert counter.refused(act) == told
        assert counter.registry.cases("client_key") == []
    else:
        assert act().startswith("sf_")


@pytest.mark.requirement("DOWN-BAR")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"organisation": "operator-ltd"}, "client.redevelopment"),
        ({"organisation": "sub-ltd"}, "client.redevelopment"),
        ({"owners": ("sub-ltd",)}, "client.redevelopment"),
        ({"declared_on": ""}, "client.declaration"),
        ({"declared_on": "2999-01-01"}, "client.declaration"),
        ({"kind": "application_unit"}, "client.declaration"),
        ({}, ""),
    ],
)
def test_the_operator_and_what_it_controls_do_not_redevelop(counter, change, told):
    counter.offer()
    declared = {"kind": "developer", "declared_on": "2026-01-05", "owners": ("free-ltd",)}
    developer = counter.client("dev-1", **{**declared, **change})
    act = lambda: counter.key(developer, use="redevelopment")  # noqa: E731
    assert (counter.refused(act) if told else act()[:3]) == (told or "sf_")


@pytest.mark.requirement("DOWN-LIMITS")
def test_conditions_are_accepted_before_the_first_use_and_again_when_they_change(counter):
    counter.offer()
    key = counter.key()
    with served(counter.shop) as http:
        assert code(get(http, key)) == "call.terms"
        assert http.post("/v1/terms", headers={"X-API-Key": key}, json={"version": "t0"}).status_code == 403
        assert http.post("/v1/terms", headers={"X-API-Key": key}, json={"version": "t1"}).status_code == 204
        assert code(get(http, key)) == ""
        counter.shop.set_terms(PRODUCT, "t2", b"new", by="operator")
        assert code(get(http, key)) == "call.terms"
        assert http.post("/v1/terms", headers={"X-API-Key": key}, json={"version": "t2"}).status_code == 204
        assert code(get(http, key)) == ""


@pytest.mark.requirement("DOWN-CONTROL")
def test_a_client_above_its_rate_or_with_a_revoked_key_is_refused_and_logged(counter):
    key = counter.ready()
    with served(counter.shop) as http:
        answers = [get(http, key) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        assert code(answers[-1]) == "call.rate"
        counter.later = timedelta(minutes=2)
        assert code(get(http, key)) == ""
        counter.shop.revoke_key(key, by="operator", reason="合作结束")
        assert code(get(http, key)) == "call.key"
    reasons = [event.body["reason"] for event in counter.registry.events() if event.body["act"] == "call.refused"]
    assert reasons == ["call.rate", "call.key"]
    assert {alert.rule for alert in counter.shop.alerts()} == {"over-use"}


@pytest.mark.requirement("DOWN-CONTROL")
def test_a_key_ends_with_its_day(counter):
    key = counter.ready()
    counter.later = timedelta(days=6)
    assert counter.shop.call(key, PRODUCT, "table.csv", scenario="s1")
    held = counter.registry.cases("client_key")[0]
    document = {**held.document, "not_after": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    from factory.registry.store import Act

    counter.registry.change(held, state="active", document=document, act=Act("t", "t", "t", "t"), now=datetime.now(UTC))
    assert counter.refused(lambda: counter.shop.call(key, PRODUCT, "table.csv", scenario="s1")) == "call.key"


@pytest.mark.requirement("USE-SCENARIO")
def test_a_product_is_delivered_for_its_scenario_alone(counter):
    counter.offer(scenarios={"s1": ("bank",), "s3": ("clinic",)})
    counter.shop.admit(counter.client(), counter.screening(), by="operator")
    give = lambda scenario: counter.shop.give_key("bank-yun", PRODUCT, scenario=scenario, by="operator")  # noqa: E731
    assert counter.refused(lambda: give("s2")) == "call.purpose"
    assert counter.refused(lambda: give("s3")) == "call.client_type"
    key = give("s1")
    counter.shop.accept_terms(key, "t1")
    with served(counter.shop) as http:
        assert code(get(http, key)) == ""
        assert counter.shop.alerts() == []
        assert code(get(http, key, scenario="s2")) == "call.purpose"
        assert code(get(http, key, scenario="")) == "call.purpose"
        # The same key in the hands of another kind of client: calls that no client type of s1 would make.
        counter.shop.admit(counter.client(client_type="broker"), counter.screening(), by="operator")
        case = counter.registry.get("client", "bank-yun")
        from factory.registry.store import Act

        counter.registry.change(case, state="active", act=Act("t", "t", "t", "t"), now=datetime.now(UTC))
        assert code(get(http, key)) == "call.client_type"
    assert [alert.rule for alert in counter.shop.alerts()][:1] == ["foreign-purpose"]


@pytest.mark.requirement("SUSP-OP")
def test_a_client_found_misusing_loses_its_keys_at_once_and_the_case_is_linked(counter):
    key, other = counter.ready(), None
    other = counter.key(counter.client("bank-two"))
    counter.shop.accept_terms(other, "t1")
    with served(counter.shop) as http:
        assert code(get(http, key)) == ""
        for words in ({"reason": "", "case_ref": "inc-1"}, {"reason": "转售", "case_ref": ""}):
            assert (
                counter.refused(lambda w=words: counter.shop.suspend("bank-yun", by="operator", **w)) == "client.reason"
            )
        assert code(get(http, key)) == ""
        counter.shop.suspend("bank-yun", by="operator", reason="转售", case_ref="inc-1")
        assert code(get(http, key)) == "call.client"
        assert code(get(http, other)) == ""
    assert counter.registry.get("client", "bank-yun").document["suspended_for"] == "inc-1"


@pytest.mark.parametrize(("kind", "subject"), [("product", PRODUCT), ("grant", "g-1"), ("resource", "res.east.clinic")])
@pytest.mark.requirement("SUSP-CLOSE")
def test_a_suspension_of_any_link_counts_on_the_next_call_with_the_agency_out_of_reach(counter, kind, subject):
    key = counter.ready()
    with served(counter.shop) as http:
        assert code(get(http, key)) == ""
        counter.strike(kind, subject)  # brought as signed files; nobody is asked
        answer = get(http, key)
        assert code(answer) == "product.struck"
        assert subject in answer.json()["detail"]


@pytest.mark.parametrize("link", ["agreement", "grant", "registration"])
def test_the_end_of_any_link_stops_the_product_and_says_which(counter, link):
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    counter.offer(**{f"{link}_until": soon})
    key = counter.key()
    counter.shop.accept_terms(key, "t1")
    assert counter.shop.call(key, PRODUCT, "table.csv", scenario="s1")
    counter.later = timedelta(days=2)
    with served(counter.shop) as http:
        answer = get(http, key)
    assert code(answer) == f"product.{link}_expired"
    assert link in answer.json()["detail"]


def test_with_status_that_has_expired_nothing_is_delivered(counter):
    key = counter.ready()
    counter.later = timedelta(days=30)
    with served(counter.shop) as http:
        answer = get(http, key)
    assert answer.status_code == 503
    assert code(answer) == "trust_data.expired"


@pytest.mark.requirement("RAW-NODELIVER")
def test_a_resource_is_never_delivered_a_product_version_is(counter):
    key = counter.ready()
    with served(counter.shop) as http:
        for named in ("res.east.clinic", "res.east.clinic%401", "risk"):
            answer = get(http, key, product=named)
            assert answer.status_code == 403
            assert code(answer) in {"call.raw_resource", "call.unknown"}
        assert code(get(http, key)) == ""


@pytest.mark.requirement("SUP-CHANNEL")
@pytest.mark.parametrize(
    "endpoint",
    ["https://elsewhere.example/v1", "ftp://gateway.yunzhou.example", f"{GATEWAY}.evil.example/v1", "http://10.0.0.7"],
)
def test_a_product_is_released_at_the_platform_s_gateway_alone(counter, endpoint):
    assert counter.refused(lambda: counter.offer(endpoint=endpoint)) == "product.channel"
    assert counter.registry.cases("offer") == []
    assert counter.offer().state == "operating"


@pytest.mark.requirement("SEC-NOABUSE")
def test_an_altered_artefact_is_not_used_and_nobody_reads_without_a_key(counter):
    key = counter.ready()
    path = counter.folder / "released" / "risk_1.0.0" / "table.csv"
    with served(counter.shop) as http:
        for wrong in ("", "sf_x_y", key[:-1] + "?", "Bearer " + key):
            assert get(http, wrong).status_code == 401
        assert code(get(http, key)) == ""
        path.write_bytes(path.read_bytes().replace(b"d01,10", b"d01,11"))
        answer = get(http, key)
        assert answer.status_code == 500
        assert code(answer) == "serving.altered"
        assert b"d01" not in answer.content
    with pytest.raises(AlteredError):
        counter.shop.offer(
            Offer.model_validate({**counter.registry.cases("offer")[0].document, "product": PRODUCT}), by="o"
        )
    assert counter.shop.alerts()[0].rule == "tampering"


@pytest.mark.requirement("MON-LEAK")
@pytest.mark.parametrize("name", list(FILES))
def test_a_leaked_copy_names_client_time_and_call_and_a_clean_file_nobody(counter, name):
    first = counter.ready()
    second = counter.key(counter.client("bank-two"))
    counter.shop.accept_terms(second, "t1")
    copies = {
        who: counter.shop.call(key, PRODUCT, name, scenario="s1")
        for who, key in (("bank-yun", first), ("bank-two", second))
    }
    assert copies["bank-yun"] != copies["bank-two"]
    assert counter.shop.trace(FILES[name], name) is None
    assert counter.shop.alerts() == []
    for who, copy in copies.items():
        found = counter.shop.trace(copy, name)
        assert (found["client"], found["product"], found["file"]) == (who, PRODUCT, name)
        assert found["at"]
        assert found["call"].startswith("d-")
    assert [alert.rule for alert in counter.shop.alerts()] == ["tampering", "tampering"]
    assert sorted(unmarked(copies["bank-yun"], name).splitlines()) == sorted(FILES[name].splitlines())


@pytest.mark.requirement("MON-LEAK")
def test_a_cut_copy_still_names_its_client(counter):
    key = counter.ready()
    copy = counter.shop.call(key, PRODUCT, "table.csv", scenario="s1")
    head, *rows = copy.decode().splitlines()
    assert counter.shop.trace("\n".join([head, *rows[:30]]).encode(), "table.csv")["client"] == "bank-yun"
    page = counter.shop.call(key, PRODUCT, "page.html", scenario="s1")
    assert counter.shop.trace(b"\n".join(page.split(b"\n")[:80]) + b"\n", "page.html")["client"] == "bank-yun"


def test_a_mark_is_read_back_from_every_kind_of_text():
    mark = mark_of(b"k" * 32, "d-1")
    for content in (b"one line", PAGE.encode(), b'{"a": 1}\n'):
        assert read_mark(marked(content, "x.json", mark), "x.json") == mark
        assert read_mark(content, "x.json") is None


@pytest.mark.requirement("DOWN-NORESELL")
def test_a_derived_product_that_is_its_input_in_other_words_is_refused(counter):
    key = counter.ready()
    shuffled = "\n".join(sorted(TABLE.splitlines(), reverse=True)).encode()
    added = (TABLE + "own,1\n").encode()
    cut = "\n".join(TABLE.splitlines()[:20]).encode()
    for near in (FILES["table.csv"], shuffled, added, cut, b""):
        submit = lambda n=near: counter.shop.submit_derived("bank-yun", PRODUCT, "table.csv", n)  # noqa: E731
        assert counter.refused(submit) == "product.resale"
    index = "region,index\n" + "".join(f"r{i},{i * 7}\n" for i in range(9))
    assert counter.shop.submit_derived("bank-yun", PRODUCT, "table.csv", index.encode())
    assert resale_refusal(index.encode(), FILES["table.csv"]) is None
    copy = counter.shop.call(key, PRODUCT, "table.csv", scenario="s1")
    assert counter.shop.trace(copy, "table.csv")["client"] == "bank-yun"  # a leaked copy names the client


@pytest.mark.requirement("USE-ABUSE")
def test_enumeration_suspends_the_key_and_opens_an_alert(counter):
    key = counter.ready()
    with served(counter.shop) as http:
        for number in range(11):
            assert code(get(http, key, name=f"guess-{number}.csv")) == "call.unknown"
        assert code(get(http, key)) == "call.key"
    alert = counter.shop.alerts()[0]
    assert (alert.rule, alert.grade, alert.actor) == ("enumeration", "critical", "bank-yun")


@pytest.mark.requirement("FB-APP")
def test_feedback_comes_from_who_used_the_product_and_who_is_silent_is_listed(counter):
    key = counter.ready()
    words = {"quality": "可", "use": "授信初筛", "effect": "缩短一天"}
    with served(counter.shop) as http:
        headers = {"X-API-Key": key}
        assert http.post("/v1/feedback", headers=headers, json=words).json()["code"] == "feedback.unused"
        assert code(get(http, key)) == ""
        assert counter.shop.feedback_due(PRODUCT, days=30) == []
        assert (
            http.post("/v1/feedback", headers=headers, json={**words, "use": " "}).json()["code"]
            == "feedback.incomplete"
        )
        later = replace(counter.shop, clock=lambda: datetime.now(UTC) + timedelta(days=31))
        assert later.feedback_due(PRODUCT, days=30) == ["bank-yun"]
        assert http.post("/v1/feedback", headers=headers, json=words).status_code == 201
        assert later.feedback_due(PRODUCT, days=30) == []


@pytest.mark.requirement("FB-COLLECT")
def test_the_next_version_starts_from_what_was_said_of_this_one(counter):
    key = counter.ready()
    counter.shop.call(key, PRODUCT, "table.csv", scenario="s1")
    said = {"quality": "d07 偏低", "use": "u", "effect": "e"}
    names = [counter.shop.feedback(key, said).id for _ in range(2)]
    open_items = counter.shop.iteration(PRODUCT)
    assert [(item["state"], item["response"]) for item in open_items] == [("open", ""), ("open", "")]
    close = lambda: counter.shop.close_iteration(PRODUCT, "risk@1.1.0", by="operator")  # noqa: E731
    assert counter.refused(close) == "iteration.open"
    assert counter.refused(lambda: counter.shop.answer_feedback(names[0], " ", by="operator")) == "feedback.response"
    counter.shop.answer_feedback(names[0], "已更正", ticket="node-east/T-0001", outcome="属实", by="operator")
    assert counter.refused(close) == "iteration.open"
    counter.shop.answer_feedback(names[1], "口径不同，不改", by="operator")
    close()
    answered = {item["id"]: item for item in counter.shop.iteration(PRODUCT)}
    assert answered[names[0]]["ticket"] == "node-east/T-0001"
    assert counter.registry.events()[-1].body["reason"] == "risk@1.1.0"
