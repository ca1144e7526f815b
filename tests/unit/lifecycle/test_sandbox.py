"""Sandboxes, their runs and what leaves them: each guard, refused and held."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from factory.lifecycle.machine import Permit, Refusal, decide
from factory.lifecycle.sandbox import EXPORT, RUN, SANDBOX, SandboxFacts

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
GOOD = SandboxFacts(
    now=NOW, developer="dev-1", purpose="p", inputs=(("a", "product"), ("b", "import")),
    not_after=NOW + timedelta(seconds=1), removed=True, is_held=True, reason="r",
)  # fmt: skip
ACTS = {
    "grant": (SANDBOX, "none", "open"), "close": (SANDBOX, "open", "closed"),
    "start": (RUN, "none", "running"), "end": (RUN, "running", "ended"),
    "ask": (EXPORT, "none", "asked"), "approve": (EXPORT, "asked", "approved"), "refuse": (EXPORT, "asked", "refused"),
    "take": (EXPORT, "approved", "taken"),
}  # fmt: skip


def answer(act, *, state="", role="operator", **changes):
    machine, usual, _ = ACTS[act]
    return decide(machine, act, name="sandbox", state=state or usual, role=role, facts=replace(GOOD, **changes))


@pytest.mark.parametrize("act", ACTS)
def test_with_everything_in_place_it_goes_and_the_operator_alone_does_it(act):
    found = answer(act)
    assert isinstance(found, Permit)
    assert found.target == ACTS[act][2]
    for role in ("developer", "agency", "application_unit"):
        refused = answer(act, role=role)
        assert isinstance(refused, Refusal)
        assert refused.code == "sandbox.role"


@pytest.mark.parametrize(
    ("act", "changes", "code"),
    [
        ("grant", {"developer": " "}, "sandbox.purpose"),
        ("grant", {"purpose": ""}, "sandbox.purpose"),
        ("grant", {"inputs": (("a", "product"), ("b", "resource"))}, "sandbox.raw"),
        ("grant", {"not_after": None}, "sandbox.ended"),
        ("grant", {"not_after": NOW}, "sandbox.ended"),
        ("grant", {"state": "open"}, "sandbox.state"),
        ("close", {"reason": " "}, "sandbox.reason"),
        ("start", {"is_closed": True}, "sandbox.ended"),
        ("start", {"not_after": NOW}, "sandbox.ended"),
        ("start", {"lacking": ("a",)}, "sandbox.input"),
        ("end", {"removed": False}, "sandbox.retained"),
        ("ask", {"is_held": False}, "sandbox.unknown"),
        ("ask", {"is_copy": True}, "sandbox.copy"),
        ("approve", {"reason": ""}, "sandbox.reason"),
        ("refuse", {"reason": ""}, "sandbox.reason"),
        ("take", {"state": "asked"}, "sandbox.state"),
        ("take", {"state": "refused"}, "sandbox.state"),
        ("take", {"state": "taken"}, "sandbox.state"),
    ],
)
def test_without_it_it_does_not(act, changes, code):
    found = answer(act, **changes)
    assert isinstance(found, Refusal)
    assert found.code == code
    assert found.clauses
