"""Whatever the OpenAPI document allows, and much that it does not, is answered without a fault of the platform."""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from factory.api.app import build_app
from factory.lifecycle.roles import ROLES

schema = schemathesis.openapi.from_dict(build_app(None).openapi())


QUIET = {"deadline": None, "database": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@schema.parametrize()
@settings(max_examples=1, **QUIET)
def test_no_call_is_a_fault_of_the_platform(shared, case):
    call(shared, case)


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=30, **QUIET)
def test_no_call_of_many_is_a_fault_of_the_platform(shared, case):
    call(shared, case)


def call(shared, case):
    operation = case.operation.definition.raw
    roles = operation["x-roles"]
    if case.path == "/v1/sessions/current":
        return
    token = shared.tokens[roles[0] if roles else ROLES[0]]
    case.call_and_validate(
        base_url=shared.url, headers={"Authorization": f"Bearer {token}"}, checks=[not_a_server_error]
    )
