"""State machines as data: transitions with who may move them, guards and clauses.

A guard is a pure function of the facts: it returns None or a ``Refusal`` with the clauses
behind it. ``decide`` asks every guard and returns the first refusal, so a permit means that
all of them held. The shell fetches facts, calls ``decide`` once and records the answer.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Facts = TypeVar("Facts")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a transition does not happen; recorded and shown.

    Attributes:
        code: stable reason, ``<machine>.<word>``.
        message: what was expected, what came, what to do next.
        clauses: requirement and clause ids behind it.
    """

    code: str
    message: str
    clauses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Permit:
    """A transition that may happen.

    Attributes:
        act: what is done.
        source, target: states before and after.
        clauses: requirement and clause ids it fulfils.
    """

    act: str
    source: str
    target: str
    clauses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Transition(Generic[Facts]):
    """One arrow of a machine.

    Attributes:
        act: name of the arrow.
        sources: states it starts from.
        target: state it leads to.
        roles: who may do it.
        guards: what must hold, in the order in which it is told.
        clauses: requirement and clause ids.
    """

    act: str
    sources: frozenset[str]
    target: str
    roles: frozenset[str]
    guards: tuple[Callable[[Facts], Refusal | None], ...] = ()
    clauses: tuple[str, ...] = ()


def decide(
    machine: Sequence[Transition[Facts]], act: str, *, name: str, state: str, role: str, facts: Facts
) -> Permit | Refusal:
    """Say whether ``act`` may happen now.

    Args:
        machine: its transitions.
        act: what somebody wants to do.
        name: of the machine, prefix of the general refusals' codes.
        state: where the case stands.
        role: of who asks.
        facts: what the guards look at.
    """
    arrows = [arrow for arrow in machine if arrow.act == act]
    if not arrows:
        return Refusal(f"{name}.act_unknown", f"expected one of {_listed(arrow.act for arrow in machine)}, got {act}")
    arrow = next((arrow for arrow in arrows if state in arrow.sources), None)
    if arrow is None:
        wanted = _listed(source for candidate in arrows for source in candidate.sources)
        return Refusal(f"{name}.state", f"{act} starts from {wanted}; this one is {state}", arrows[0].clauses)
    if role not in arrow.roles:
        return Refusal(f"{name}.role", f"{act} is done by {_listed(arrow.roles)}, not by {role}", arrow.clauses)
    for guard in arrow.guards:
        refusal = guard(facts)
        if refusal is not None:
            return refusal
    return Permit(act, state, arrow.target, arrow.clauses)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(set(words)))
