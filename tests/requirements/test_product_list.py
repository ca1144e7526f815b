"""Acceptance of the list of products over the HTTP API: what is not on the filed list is not made and not released."""

import pytest

from tests.requirements.test_platform import Life, ok, product, refused, served  # noqa: F401  served is a fixture

ITEM = {
    "product": "clinic-risk", "title": "门诊风险", "form": "model", "demand_id": "demand-1", "developers": ["org-dev"],
    "resources": ["res.east.clinic", "res.west.clinic", "res.north.clinic"], "agreement_id": "agr-2026-1",
}  # fmt: skip


def public(served):  # noqa: F811
    return [row["product"] for row in ok(served.call("GET", "/v1/public/product-list"))["items"]]


def file(served):  # noqa: F811
    return served.call("POST", "/v1/listings/clinic-risk/file", role="data_administration")


def draft(served, **changes):  # noqa: F811
    return served.call("POST", "/v1/listings", {**ITEM, **changes}, role="operator")


def joined(served, people):  # noqa: F811
    for token in people:
        ok(served.call("POST", "/v1/listings/clinic-risk/join", token=token))


@pytest.mark.requirement("PROD-LIST")
def test_a_product_off_the_filed_list_is_neither_started_nor_released(served):  # noqa: F811
    ok(served.agree(), 201)
    life = Life(served)
    served.law("SZ")
    start = lambda **c: served.call("POST", "/v1/products", product(grant_id=life.grant, **c), role="operator")  # noqa: E731
    assert "SZ-09-7" in refused(start(), "product.unlisted")["clauses"]
    refused(draft(served), "listing.demand")
    demand = {"id": "demand-1", "what": "风险评分", "agreement_id": "agr-2026-1"}
    ok(served.call("POST", "/v1/demands", demand, role="application_unit"), 201)
    refused(draft(served, resources=["res.east.clinic", "res.nowhere"]), "listing.entries")
    refused(served.call("POST", "/v1/listings", ITEM, role="developer"), "listing.role", 403)
    ok(draft(served), 201)
    assert public(served) == []
    refused(start(), "product.unlisted")  # drafted is not filed
    refused(served.call("POST", "/v1/listings/clinic-risk/join", role="operator"), "listing.role", 403)
    assert "org-dev" in refused(file(served), "listing.joined")["detail"]
    officers = [served.add_person(f"list-{name}", f"org-{name}", "source_department").id for name in ("west", "north")]
    people = [served.tokens["developer"], served.tokens["source_department"], *map(served.token, officers)]
    joined(served, people[:-1])
    assert "org-north" in refused(file(served), "listing.joined")["detail"]
    joined(served, people[-1:])
    refused(served.call("POST", "/v1/listings/clinic-risk/file", role="operator"), "listing.role", 403)
    ok(file(served))
    assert public(served) == ["clinic-risk"]
    refused(start(form="report"), "product.unlisted")  # in another form it is another product
    ok(start(), 201)
    code = life.registered()
    everybody = [served.operator, *served.nodes.values(), *served.world.registrars]
    release = lambda: life.step("release", envelopes=life.releases(code, *everybody))  # noqa: E731
    struck = {"reason": "清单调整"}
    ok(served.call("POST", "/v1/listings/clinic-risk/strike", struck, role="data_administration"))
    assert public(served) == []
    refused(release(), "product.unlisted")
    ok(draft(served), 201)
    refused(file(served), "listing.joined")  # nobody has joined the item as it is drafted now
    joined(served, people)
    ok(file(served))
    assert ok(release())["state"] == "released"
    told = ok(served.call("GET", "/v1/events?kind=listing&case=clinic-risk", role="supervisor"))["items"]
    done = [item["act"] for item in told if not item["act"].endswith(".refused")]
    assert done.count("listing.file") == 2
    assert served.registry.verify_chain() > 0
