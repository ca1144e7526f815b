"""Sandboxes of developers, the runs in them, and what may leave one. Pure.

A sandbox is granted to a developer for a purpose, with named inputs and an end; it holds released products and
reviewed files, never a resource. A run hands in the inputs, each logged before the code can read it, and ends
with its work area deleted. What a run wrote is held until a second person decides; nothing else leaves.

Source:
    Requirements PC-SANDBOX (SZ-06.3-5), RAW-NOEXPORT (SD-26-3, SZ-06.3-7), RAW-NORETAIN (JN-20-2), DOWN-ENV (SD-20-3).
"""

from dataclasses import dataclass
from datetime import datetime

from factory.lifecycle.machine import Refusal, Transition

GRANTED = ("PC-SANDBOX", "SZ-06.3-5", "DOWN-ENV", "SD-20-3")
RAW = ("RAW-NOEXPORT", "SD-26-3", "SZ-06.3-7")
RETAIN = ("RAW-NORETAIN", "JN-20-2")

INPUT_KINDS = ("product", "import")
"""What may be granted: a file of a released product, or a file that the agency reviewed."""


@dataclass(frozen=True, slots=True)
class SandboxFacts:
    """What the guards look at.

    Attributes:
        now: clock.
        developer: client id of the developer.
        purpose: what it is for.
        inputs: kind per granted name.
        not_after: end of the sandbox.
        is_closed: it was closed.
        lacking: granted inputs that were not handed in as granted.
        removed: the work area is gone and the record of its deletion is signed.
        is_held: the file is one that a run of this sandbox wrote.
        is_copy: it is an input, or an input in other words.
        reason: of who decides.
    """

    now: datetime
    developer: str = ""
    purpose: str = ""
    inputs: tuple[tuple[str, str], ...] = ()
    not_after: datetime | None = None
    is_closed: bool = False
    lacking: tuple[str, ...] = ()
    removed: bool = False
    is_held: bool = False
    is_copy: bool = False
    reason: str = ""


def _for_a_purpose(facts: SandboxFacts) -> Refusal | None:
    if not facts.developer.strip() or not facts.purpose.strip():
        return Refusal("sandbox.purpose", "expected a developer and what the sandbox is for", GRANTED)
    return None


def _without_raw_data(facts: SandboxFacts) -> Refusal | None:
    for name, kind in facts.inputs:
        if kind not in INPUT_KINDS:
            return Refusal(
                "sandbox.raw", f"expected files of released products or reviewed files; {name} is {kind}", RAW
            )
    return None


def _in_force(facts: SandboxFacts) -> Refusal | None:
    if facts.is_closed or facts.not_after is None or facts.not_after <= facts.now:
        return Refusal("sandbox.ended", "expected a sandbox in force; ask for a new one", GRANTED)
    return None


def _inputs_as_granted(facts: SandboxFacts) -> Refusal | None:
    if facts.lacking:
        return Refusal(
            "sandbox.input", f"expected the inputs as they were granted; look at {facts.lacking[0]}", GRANTED
        )
    return None


def _work_area_removed(facts: SandboxFacts) -> Refusal | None:
    if not facts.removed:
        return Refusal("sandbox.retained", "expected the work area deleted, with a signed record of it", RETAIN)
    return None


def _written_by_a_run(facts: SandboxFacts) -> Refusal | None:
    if not facts.is_held:
        return Refusal("sandbox.unknown", "expected a file that a run of this sandbox wrote", RAW)
    return None


def _no_copy(facts: SandboxFacts) -> Refusal | None:
    if facts.is_copy:
        return Refusal("sandbox.copy", "an input, or an input in other words, does not leave the sandbox", RAW)
    return None


def _reasoned(facts: SandboxFacts) -> Refusal | None:
    return None if facts.reason.strip() else Refusal("sandbox.reason", "expected a reason", GRANTED)


def _words(*words: str) -> frozenset[str]:
    return frozenset(words)


_OPERATOR = _words("operator")

SANDBOX: tuple[Transition[SandboxFacts], ...] = (
    Transition("grant", _words("none"), "open", _OPERATOR, (_for_a_purpose, _without_raw_data, _in_force), GRANTED),
    Transition("close", _words("open"), "closed", _OPERATOR, (_reasoned,), GRANTED),
)

RUN: tuple[Transition[SandboxFacts], ...] = (
    Transition("start", _words("none"), "running", _OPERATOR, (_in_force, _inputs_as_granted), GRANTED),
    Transition("end", _words("running"), "ended", _OPERATOR, (_work_area_removed,), RETAIN),
)

EXPORT: tuple[Transition[SandboxFacts], ...] = (
    Transition("ask", _words("none"), "asked", _OPERATOR, (_written_by_a_run, _no_copy), RAW),
    Transition("approve", _words("asked"), "approved", _OPERATOR, (_reasoned,), RAW),
    Transition("refuse", _words("asked"), "refused", _OPERATOR, (_reasoned,), RAW),
    Transition("take", _words("approved"), "taken", _OPERATOR, (), RAW),
)
"""Asked and decided by two persons; taken once it is approved, and never before."""

TRANSITIONS = (*SANDBOX, *RUN, *EXPORT)
"""All three, for the documentation."""
