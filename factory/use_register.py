"""The operator's directory of what it may use, and of every use (CAT-USEREG, SZ-10.1-2).

A grant that the departments signed enters its resources; a run without such an entry does not start; a run
that ended is written down with resource, grant, purpose and time, in the chain of the registry.
"""

from datetime import datetime
from typing import Any, ClassVar, cast

from factory.errors import FactoryError
from factory.registry.errors import CaseUnknownError
from factory.registry.store import Registry
from factory.services.actor import Actor
from factory.services.desk import Desk
from nodes.contract.grant import Grant
from nodes.contract.statement import time_text

KIND = "directory"


class NotInDirectoryError(FactoryError):
    """The run's grant, or a resource of it, is not in the operator's directory; nothing was started."""

    code: ClassVar[str] = "directory.missing"


class UseRegister:
    """The directory, over the operator's registry."""

    def __init__(self, registry: Registry) -> None:
        """Keep it in ``registry``."""
        self._registry = registry

    def enter(self, grant: Grant, *, by: str, now: datetime) -> None:
        """Enter what a grant lets the operator use; entering it again changes nothing."""
        try:
            self._registry.get(KIND, grant.grant_id)
        except CaseUnknownError:
            uses = [
                {"node": p.node, "resource": u.resource, "version": u.version}
                for p in grant.parties
                for u in p.resources
            ]
            document = {"grant": grant.grant_id, "purpose": grant.purpose, "uses": uses}
            self._desk(now).enter(
                _operator(by), KIND, grant.grant_id, "directory.enter", state="open", document=document,
                reason=grant.scenario_title,
            )  # fmt: skip

    def require(self, grant: Grant) -> None:
        """Let a run start only if the directory has its grant.

        Raises:
            NotInDirectoryError: it has not.
        """
        try:
            self._registry.get(KIND, grant.grant_id)
        except CaseUnknownError as error:
            raise NotInDirectoryError(
                f"expected grant {grant.grant_id} in the directory of usable resources; run: shufang request offer"
            ) from error

    def record(self, grant: Grant, *, session: str, by: str, now: datetime) -> None:
        """Write down a run that ended."""
        case, used = self._registry.get(KIND, grant.grant_id), {f"use-{session}": time_text(now).encode()}
        self._desk(now).amend(_operator(by), case, "directory.use", reason=grant.purpose, artefacts=used)

    def uses(self) -> list[dict[str, Any]]:
        """Return every use: resource, grant, run, purpose and time."""
        rows: list[dict[str, Any]] = []
        for case in self._registry.cases(KIND):
            uses = cast("list[dict[str, Any]]", case.document["uses"])
            for name, at in self._registry.artefacts(KIND, case.id).items():
                run = {"run": name[4:], "at": at.decode(), "grant": case.id, "purpose": case.document["purpose"]}
                rows += [{**run, **use} for use in uses]
        return sorted(rows, key=lambda row: (str(row["at"]), str(row["run"])))

    def _desk(self, now: datetime) -> Desk:
        return Desk(self._registry, lambda: now)


def _operator(by: str) -> Actor:
    return Actor(by, by, frozenset({"operator"}), "home")
