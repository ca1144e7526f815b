"""Sandboxes at the operator: granted, run in, and left through one door. Every act goes through the desk.

A granted input is a file of a released product, fetched over the gateway's counter with the developer's own key
at every run, so that suspension, terms and metering count; or a file that the agency reviewed. Each is logged
before the code can read it.

Source:
    Requirements PC-SANDBOX (SZ-06.3-5), RAW-NOEXPORT (SZ-06.3-7), RAW-NORETAIN (JN-20-2), DOWN-ENV (SD-20-3).
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from factory.identity import Identity
from factory.lifecycle.machine import Refusal
from factory.lifecycle.sandbox import RAW, SandboxFacts
from factory.lifecycle.serving import resale_refusal
from factory.pipelines.imports import InputNotReviewedError, require_reviewed
from factory.registry.store import Case
from factory.sandbox.errors import SandboxInputError
from factory.sandbox.running import Bounds, Ran, left_over, remove, run_confined
from factory.services.actor import Actor
from factory.services.desk import Desk
from factory.serving.shop import Shop
from factory.trust import load_trust
from nodes.contract.messages import Name, Part, Text
from nodes.contract.signing import sha256_hex
from nodes.contract.statement import time_text

SANDBOX, RUN, EXPORT = "sandbox", "sandbox_run", "sandbox_export"


class Granted(Part):
    """One input of a sandbox.

    Attributes:
        name: under which the code finds it.
        kind: a file of a released product, or a reviewed file; anything else is refused.
        product: ``id@version``, of a product's file.
        file: name of the product's file; path of a reviewed file, with ``.review`` beside it.
    """

    name: Name
    kind: Name
    product: Text | None = None
    file: Text


@dataclass(frozen=True, slots=True)
class Sandboxes:
    """Sandboxes in the operator's registry.

    Attributes:
        desk: over the operator's registry.
        identity: the operator's home.
        shop: its counter.
    """

    desk: Desk
    identity: Identity
    shop: Shop

    def grant(
        self, actor: Actor, name: str, *, developer: str, purpose: str, inputs: Sequence[Granted], until: datetime
    ) -> Case:
        """Grant a sandbox to a developer.

        Raises:
            TransitionRefusedError: no purpose, raw data among the inputs, or an end that has passed; recorded.
        """
        facts = SandboxFacts(
            now=self.desk.clock(), developer=developer, purpose=purpose, not_after=until,
            inputs=tuple((item.name, "a resource" if _is_raw(item) else item.kind) for item in inputs),
        )  # fmt: skip
        document = {
            "developer": developer, "purpose": purpose, "not_after": time_text(until),
            "inputs": [item.model_dump(mode="json", exclude_none=True) for item in inputs],
        }  # fmt: skip
        return self.desk.open(actor, SANDBOX, name, "grant", facts=facts, document=document, reason=purpose)

    def close(self, actor: Actor, name: str, *, reason: str) -> Case:
        """Close a sandbox; nothing runs in it afterwards.

        Raises:
            TransitionRefusedError: no reason, or closed already; recorded.
        """
        facts = SandboxFacts(now=self.desk.clock(), reason=reason)
        return self.desk.move(actor, SANDBOX, name, "close", facts=facts, reason=reason)

    def run(
        self, actor: Actor, name: str, script: bytes, *, keys: Mapping[str, str], bounds: Bounds | None = None
    ) -> tuple[Case, Ran]:
        """Run a script over the granted inputs; its work area is gone when this returns.

        Args:
            actor: who runs it for the developer.
            name: of the sandbox.
            script: Python source.
            keys: the developer's gateway key per product.
            bounds: what the run may use.

        Returns:
            The case of the run and what it did; what it wrote is held until an export is approved.

        Raises:
            TransitionRefusedError: the sandbox has ended, or an input is not there as granted; recorded.
            CallRefusedError: the counter does not deliver a product's file to this developer; recorded there.
            SandboxUnusableError: this machine cannot confine code; nothing was run.
        """
        self.sweep(actor)
        case = self.desk.read(actor, SANDBOX, name)
        inputs, lacking = self._inputs(case, keys)
        facts = replace(self._facts(case), lacking=lacking)
        run, digest = f"r-{secrets.token_hex(8)}", sha256_hex(script)
        document = {"sandbox": name, "developer": case.document["developer"], "script_sha256": digest}
        self.desk.open(actor, RUN, run, "start", facts=facts, document=document, evidence={"script": digest})
        for item, content in inputs.items():
            self.desk.note(actor, RUN, run, "read", reason=item, evidence={"input": sha256_hex(content)})
        ran: Ran | None = None
        try:
            ran = run_confined(
                self.identity, run, script, inputs, sandbox=name, now=self.desk.clock(), bounds=bounds
            )  # fmt: skip
        finally:
            for attempt in ran.attempts if ran else ():
                self.desk.note(actor, RUN, run, "attempt", reason=attempt)
            ended = self._end(actor, run, ran, {item: sha256_hex(content) for item, content in inputs.items()})
        return ended, ran

    def sweep(self, actor: Actor) -> int:
        """Delete and record work areas that a kill left behind; return how many."""
        places = left_over(self.identity)
        for place in places:
            remove(self.identity, place, run=place.name, now=self.desk.clock())
            self._end(actor, place.name, None, {})
        return len(places)

    def ask(self, actor: Actor, run: str, file: str, *, reason: str) -> Case:
        """Ask that a file which a run wrote may leave.

        Raises:
            TransitionRefusedError: no such file, or it is an input in other words; recorded.
        """
        case = self.desk.read(actor, RUN, run)
        digest = str(_mapping(case, "held").get(file, ""))
        sandbox = self.desk.read(actor, SANDBOX, str(case.document["sandbox"]))
        facts = replace(self._facts(sandbox), is_held=bool(digest), is_copy=self._is_copy(case, digest))
        document = {"run": run, "sandbox": sandbox.id, "file": file, "sha256": digest}
        return self.desk.open(
            actor, EXPORT, f"x-{secrets.token_hex(8)}", "ask", facts=facts, document=document, reason=reason,
            evidence={"file": digest} if digest else {},
        )  # fmt: skip

    def decide(self, actor: Actor, export: str, *, approve: bool, reason: str) -> Case:
        """Decide on an export; whoever asked for it does not.

        Raises:
            TransitionRefusedError: decided already, no reason, or one's own; recorded.
        """
        facts = SandboxFacts(now=self.desk.clock(), reason=reason)
        act: Literal["approve", "refuse"] = "approve" if approve else "refuse"
        return self.desk.move(actor, EXPORT, export, act, facts=facts, reason=reason)

    def held(self, actor: Actor, run: str, file: str) -> bytes:
        """Return what a run wrote, for the screen of who decides on it.

        Raises:
            TransitionRefusedError: no such file; recorded.
            CaseUnknownError: no such run.
        """
        case = self.desk.read(actor, RUN, run)
        digest = str(_mapping(case, "held").get(file, ""))
        if not digest:
            refusal = Refusal("sandbox.unknown", "expected a file that this run wrote", RAW)
            raise self.desk.refuse(actor, RUN, run, "look", refusal)
        return self._held(str(case.document["sandbox"]), digest).read_bytes()

    def take(self, actor: Actor, export: str) -> tuple[str, bytes]:
        """Return name and content of an approved file, once.

        Raises:
            TransitionRefusedError: not approved; recorded.
        """
        facts = SandboxFacts(now=self.desk.clock())
        with self.desk.together():
            case = self.desk.move(actor, EXPORT, export, "take", facts=facts)
            content = self._held(str(case.document["sandbox"]), str(case.document["sha256"])).read_bytes()
        return str(case.document["file"]), content

    def _end(self, actor: Actor, run: str, ran: Ran | None, inputs: Mapping[str, str]) -> Case:
        place = self.identity.home / "sandbox" / "work" / run
        record = self.identity.home / "sandbox" / "deleted" / f"{run}.dsse.json"
        facts = SandboxFacts(now=self.desk.clock(), removed=not place.exists() and record.is_file())
        said: dict[str, Any] = {
            "exit_code": ran.exit_code if ran else None, "held": dict(ran.held) if ran else {}, "inputs": dict(inputs),
        }  # fmt: skip
        return self.desk.move(
            actor, RUN, run, "end", facts=facts, document=lambda case: {**case.document, **said},
            evidence={"deletion": sha256_hex(record.read_bytes())} if record.is_file() else {},
        )  # fmt: skip

    def _facts(self, sandbox: Case) -> SandboxFacts:
        return SandboxFacts(
            now=self.desk.clock(),
            not_after=datetime.fromisoformat(str(sandbox.document["not_after"])),
            is_closed=sandbox.state != "open",
        )

    def _inputs(self, sandbox: Case, keys: Mapping[str, str]) -> tuple[dict[str, bytes], tuple[str, ...]]:
        found: dict[str, bytes] = {}
        lacking: list[str] = []
        rows = sandbox.document["inputs"]
        for row in rows if isinstance(rows, list) else []:
            item = Granted.model_validate(row)
            if self._facts(sandbox).not_after is None or sandbox.state != "open":
                continue
            try:
                found[item.name] = self._fetched(item, keys)
            except (OSError, InputNotReviewedError, KeyError):
                lacking.append(item.name)
        return found, tuple(lacking)

    def _fetched(self, item: Granted, keys: Mapping[str, str]) -> bytes:
        if item.kind == "product":
            product = str(item.product)
            return self.shop.call(keys[product], product, item.file, scenario=self.shop.scenario_of(keys[product]))
        path = Path(item.file)
        content, review = path.read_bytes(), path.with_name(path.name + ".review").read_bytes()
        now = self.desk.clock()
        trust = load_trust(self.identity.trust_path, now=now)
        require_reviewed(item.name, content, review, actors=trust.actors, status=trust.status, now=now)
        return content

    def _is_copy(self, run: Case, digest: str) -> bool:
        if not digest:
            return False
        if digest in _mapping(run, "inputs").values():
            return True
        content = self._held(str(run.document["sandbox"]), digest).read_bytes()
        return any(resale_refusal(content, known) is not None for known in self._known(run))

    def _known(self, run: Case) -> list[bytes]:
        sandbox = self.desk.registry.get(SANDBOX, str(run.document["sandbox"]))
        rows = sandbox.document["inputs"]
        items = [Granted.model_validate(row) for row in rows] if isinstance(rows, list) else []
        return [
            self.shop.released(str(item.product), item.file) if item.kind == "product" else Path(item.file).read_bytes()
            for item in items
        ]

    def _held(self, sandbox: str, digest: str) -> Path:
        path = self.identity.home / "sandbox" / "held" / sandbox / digest
        if not path.is_file():
            raise SandboxInputError("expected the held file; it is not there any more")
        return path


def _is_raw(item: Granted) -> bool:
    return item.kind == "resource" or (item.product or item.file).startswith("res.")


def _mapping(case: Case, field: str) -> Mapping[str, Any]:
    found = case.document.get(field, {})
    return found if isinstance(found, dict) else {}
