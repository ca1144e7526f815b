"""Every machine the registry knows, by the kind of its cases."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.lifecycle import (
    agreement,
    incident,
    membership,
    national,
    product,
    product_list,
    registration,
    request,
    resource,
    sandbox,
    scenario,
    standing,
)
from factory.lifecycle.machine import Transition


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine with what dispatch needs to know of it.

    Attributes:
        kind: of its cases; also the prefix of its events and refusals.
        transitions: its arrows.
        start: pseudo state of a case that is not there yet.
        drafts: acts by which a case is written.
        rulings: acts by which it is decided; whoever did one of ``drafts`` does none of these.
    """

    kind: str
    transitions: tuple[Transition[Any], ...]
    start: str
    drafts: frozenset[str] = frozenset()
    rulings: frozenset[str] = frozenset()

    def roles(self, act: str) -> frozenset[str]:
        """Return who may do ``act`` in some state."""
        return frozenset(role for arrow in self.transitions if arrow.act == act for role in arrow.roles)


def _machine(
    kind: str, transitions: tuple[Transition[Any], ...], start: str, drafts: str = "", rulings: str = ""
) -> tuple[str, Machine]:
    return kind, Machine(kind, transitions, start, frozenset(drafts.split()), frozenset(rulings.split()))


MACHINES: Mapping[str, Machine] = dict(
    (
        _machine("organisation", membership.ORGANISATION, "none"),
        _machine("account", membership.ACCOUNT, "none"),
        _machine("parties", membership.PARTIES, "none"),
        _machine("agreement", agreement.TRANSITIONS, "none", "announce choose", "sign end renew decline"),
        _machine("resource", resource.TRANSITIONS, "draft", "submit review", "confirm include exclude release"),
        _machine("scenario", scenario.SCENARIO, "none", "screen", "argue decline"),
        _machine("demand", scenario.DEMAND, "none"),
        _machine("listing", product_list.TRANSITIONS, "none", "draft", "file"),
        _machine("request", request.TRANSITIONS, "draft", "propose submit", "endorse approve reject issue"),
        _machine("product", product.TRANSITIONS, "none", "start build test", "review register restore"),
        _machine(
            "registration",
            registration.TRANSITIONS,
            "none",
            "apply ask_renewal ask_correction ask_cancellation",
            "code refuse renewal correction deny cancellation",
        ),
        _machine("national", national.TRANSITIONS, "none", "file", "accept return decline publish uphold dismiss code"),
        _machine("sandbox", sandbox.SANDBOX, "none"),
        _machine("sandbox_run", sandbox.RUN, "none"),
        _machine("sandbox_export", sandbox.EXPORT, "none", "ask", "approve refuse"),
        _machine("incident", incident.TRANSITIONS, "none", "suspect start", "close dismiss"),
        _machine("standing", standing.TRANSITIONS, "none", "apply apply_again", "authorise finish"),
    )
)
