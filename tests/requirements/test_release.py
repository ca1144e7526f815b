"""Acceptance of release, service and metering at the gateway, on a real socket; refused cases first."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from factory.law.files import proposed
from factory.lifecycle.machine import Refusal
from factory.lifecycle.product import ProductFacts, move
from factory.lifecycle.serving import Offer
from factory.registry.errors import CaseUnknownError
from factory.review.finding import failures
from factory.review.suite import Limits, run_tests
from tests.attack_figures import HONEST
from tests.requirements.test_serving import FILES, PRODUCT, Counter, code, get, served


@pytest.fixture
def counter(tmp_path):
    made = Counter(tmp_path)
    yield made
    made.registry.close()


def shown(http):
    answer = http.get("/v1/products")
    assert answer.status_code == 200
    return [row["product"] for row in answer.json()["items"]]


@pytest.mark.requirement("REL-PUBLISH")
@pytest.mark.parametrize(
    ("link", "told"),
    [
        ("agreement_until", "product.agreement_expired"),
        ("grant_until", "product.grant_expired"),
        ("registration_until", "product.registration_expired"),
    ],
)
def test_a_released_product_is_listed_until_one_of_its_links_ends(counter, link, told):
    with served(counter.shop) as http:
        assert shown(http) == []
        counter.offer(**{link: datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)})
        key = counter.key()
        counter.shop.accept_terms(key, "t1")
        [row] = http.get("/v1/products").json()["items"]
        assert (row["product"], row["registration_code"], row["terms_version"]) == (PRODUCT, "YZ-1", "t1")
        assert row["description"] == "门诊风险评分"
        assert row["price"] == {"kind": "guided", "fee_fen": 250, "per": "每次调用"}
        assert code(get(http, key)) == ""
        counter.later = timedelta(days=1)
        counter.sync()
        assert shown(http) == []
        assert code(get(http, key)) == told


@pytest.mark.requirement("REL-PUBLISH", "SUSP-CLOSE")
@pytest.mark.parametrize("subject", [("product", PRODUCT), ("grant", "g-1"), ("resource", "res.east.clinic")])
def test_what_the_agency_strikes_leaves_the_list_and_comes_back_with_it(counter, subject):
    key = counter.ready()
    with served(counter.shop) as http:
        assert shown(http) == [PRODUCT]
        counter.strike(*subject)
        assert shown(http) == []
        assert code(get(http, key)) == "product.struck"


@pytest.mark.requirement("REL-PUBLISH")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"description": " "}, "product.description"),
        ({"price": {"kind": "guided", "fee_fen": 5, "per": " "}}, "product.description"),
        ({"price": {"kind": "guided", "fee_fen": 0, "per": "call"}}, "product.price"),
        ({"price": {"kind": "free", "fee_fen": 1, "per": "call"}}, "product.price"),
    ],
)
def test_nothing_is_offered_without_description_and_price(counter, change, told):
    assert counter.refused(lambda: counter.offer(**change)) == told
    assert counter.registry.cases("offer") == []
    for lacking in ("description", "price"):
        with pytest.raises(ValidationError):
            Offer.model_validate({"product": PRODUCT, lacking: None})
    assert counter.offer(price={"kind": "free", "fee_fen": 0, "per": "call"}).state == "operating"


@pytest.mark.requirement("REL-LIFE")
def test_a_product_answers_in_operation_alone_and_keeps_its_records_when_retired(counter):
    with served(counter.shop) as http:
        assert get(http, "sf_none_none").status_code == 401  # in development nothing is offered and nobody has a key
        with pytest.raises(CaseUnknownError):
            counter.key()
        key = counter.ready()
        assert code(get(http, key)) == ""
        counter.shop.set_state(PRODUCT, "suspended", by="operator", reason="核查")
        assert code(get(http, key)) == "product.state"
        counter.shop.set_state(PRODUCT, "operating", by="operator", reason="核查完毕")
        assert code(get(http, key)) == ""
        before = len(counter.registry.events())
        counter.shop.set_state(PRODUCT, "retired", by="operator", reason="停止服务")
        assert code(get(http, key)) == "product.state"
        again = lambda: counter.shop.set_state(PRODUCT, "operating", by="operator", reason="恢复")  # noqa: E731
        assert counter.refused(again) == "product.retired"
        assert shown(http) == []
    assert len(counter.registry.events()) > before
    assert len(counter.registry.cases("delivery")) == 2
    counter.registry.verify_chain()


@pytest.mark.requirement("REL-SERVICE")
def test_request_decision_and_key_of_a_client_are_recorded_and_an_unapproved_one_has_no_key(counter):
    with pytest.raises(CaseUnknownError):
        counter.shop.ask("bank-yun", "nothing@1.0.0", scenario="s1")
    counter.offer()
    counter.shop.ask("bank-yun", PRODUCT, scenario="s1")
    give = lambda: counter.shop.give_key("bank-yun", PRODUCT, scenario="s1", by="operator")  # noqa: E731
    assert counter.refused(give) == "client.unscreened"
    assert counter.registry.cases("client_key") == []
    counter.shop.admit(counter.client(), counter.screening(), by="王芳")
    give()
    acts = [(row["act"], row["actor"]) for row in counter.shop.history("bank-yun")]
    assert acts[:3] == [("client.ask", "bank-yun"), ("key.refused", "operator"), ("client.screen", "王芳")]
    assert ("key.give", "operator") in acts[3:]


@pytest.mark.requirement("SRV-METER")
def test_ten_calls_of_which_two_are_refused_are_eight_and_two(counter):
    key = counter.ready()
    with served(counter.shop) as http:
        answers = []
        for number in range(10):
            counter.later = timedelta(minutes=number)
            answers.append(get(http, key, scenario="s2" if number in {3, 7} else "s1").status_code)
        assert sorted(answers) == [200] * 8 + [403] * 2
        for path in ("/", "/files/table.csv", f"/released/{PRODUCT}/table.csv", "/v1/products/x/../../table.csv"):
            assert http.get(path).status_code in {401, 404, 405}, path
        assert get(http, "").status_code == 401
    [row] = counter.shop.usage()
    wanted = {"client": "bank-yun", "product": PRODUCT, "scenario": "s1", "billable": 8, "refused": 2}
    assert row == wanted
    assert len(counter.registry.cases("delivery")) == 8


@pytest.mark.requirement("PROV-DEST")
def test_a_resource_leads_to_every_product_and_every_delivery(counter):
    assert counter.shop.destinations("res.east.clinic") == []
    key = counter.ready()
    with served(counter.shop) as http:
        assert get(http, "").status_code == 401
        assert get(http, key, "nothing.csv").status_code == 403
        assert counter.shop.destinations("res.east.clinic")[0]["deliveries"] == []
        content = get(http, key).content
    assert content
    assert content != FILES["table.csv"]  # the client's own copy
    [row] = counter.shop.destinations("res.east.clinic")
    assert (row["product"], row["grant"]) == (PRODUCT, "g-1")
    assert [delivery["client"] for delivery in row["deliveries"]] == ["bank-yun"]
    assert counter.shop.destinations("res.other") == []


@pytest.mark.requirement("Q-PRODUCT")
def test_a_model_below_its_declared_figure_goes_back_and_one_that_drops_raises_an_alert(counter):
    def tested(micro):
        metrics = HONEST | {"auc_test_micro": micro}
        files = {"model.onnx": b"\x08\x0a"}
        declared = {"auc_test_micro": 750_000}
        return failures(
            run_tests("model", files, metrics=metrics, limits=Limits(5, 5, proposed("JL").review), declared=declared)
        )

    assert len(tested(700_000)) == 1
    assert len(tested(749_999)) == 1
    assert tested(750_000) == []
    facts = ProductFacts(now=counter.now(), profile=proposed("JL"), tests=3, test_failures=tuple(tested(700_000)))
    refusal = move("test", state="built", role="operator", facts=facts)
    assert isinstance(refusal, Refusal)
    assert "auc_test_micro" in refusal.message
    counter.offer(declared={"auc_test_micro": 750_000})
    assert counter.shop.measured(PRODUCT, {"auc_test_micro": 760_000}, by="operator") == ()
    assert counter.shop.alerts() == []
    assert counter.shop.measured(PRODUCT, {"auc_test_micro": 740_000}, by="operator") == ("auc_test_micro",)
    [alert] = counter.shop.alerts()
    assert (alert.rule, alert.owner, alert.state) == ("quality", "operator", "open")
