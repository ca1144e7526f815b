"""Generated from the OpenAPI document: an account of each role tries every operation of the other roles."""

import pytest

from factory.api.app import ROUTES, build_app
from factory.lifecycle.roles import ROLES

OPERATIONS = [
    (method.upper(), path, operation.get("x-roles"))
    for path, item in sorted(build_app(None).openapi()["paths"].items())
    for method, operation in item.items()
]


def test_every_route_is_in_the_document():
    """Nothing is served beside the document, so what is generated from it is complete."""
    routes = [route for module in ROUTES for route in module.router.routes]
    served = {(method, route.path) for route in routes for method in route.methods}
    assert served == {(method, path) for method, path, _ in OPERATIONS}
    mounted = [route for route in build_app(None).routes if hasattr(route, "methods")]
    assert [route.path for route in mounted] == ["/openapi.json"]


def filled(path):
    parts = [("x-1" if part.startswith("{") else part) for part in path.split("/")]
    return "/".join(parts)


def test_every_operation_says_who_may_call_it():
    assert len(OPERATIONS) > 20
    assert [path for _, path, roles in OPERATIONS if roles is None] == []
    assert {role for _, _, roles in OPERATIONS for role in roles} == set(ROLES)
    public = {path for _, path, roles in OPERATIONS if roles == []}
    assert public == {
        "/v1/sessions",
        "/v1/sessions/challenges",
        "/v1/sessions/by-key",
        "/v1/invitations/accept",
        "/v1/public/product-list",
    }


@pytest.mark.requirement("SEC-IDENT")
@pytest.mark.requirement("ROLE")
@pytest.mark.parametrize("role", ROLES)
def test_an_account_of_a_role_is_refused_by_every_operation_of_the_others(shared, role):
    others = [(method, path) for method, path, roles in OPERATIONS if roles and role not in roles]
    allowed = [(method, path) for method, path, roles in OPERATIONS if roles and role in roles]
    seen = shared.registry.events()[-1].seq
    for method, path in others:
        answer = shared.call(method, filled(path), {}, role=role)
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json"), (method, path)
        assert answer.json()["code"].endswith(".role")
        recorded = shared.registry.events(after=seen)
        assert [(e.body["actor"], e.body["act"].rsplit(".", 1)[1]) for e in recorded] == [(f"p-{role}", "refused")]
        seen = recorded[-1].seq
    for method, path in allowed:
        if path == "/v1/sessions/current":
            continue
        answer = shared.call(method, filled(path), {}, role=role)
        assert answer.status_code != 401, (method, path)
        assert answer.status_code < 500, (method, path, answer.json())
        assert not answer.is_error or not answer.json()["code"].endswith(".role"), (method, path)


@pytest.mark.requirement("SEC-IDENT")
def test_nobody_is_refused_without_identity(shared):
    for method, path, roles in OPERATIONS:
        if not roles:
            continue
        for token in ("", "sfs_00_11", "Bearer", "sfk_0123456789abcdef_x"):
            answer = shared.call(method, filled(path), {}, token=token)
            assert answer.status_code == 401, (method, path)
            assert answer.json()["code"] == "accounts.unauthenticated"
            assert answer.headers["www-authenticate"] == "Bearer"
