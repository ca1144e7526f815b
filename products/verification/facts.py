"""The statements of one release, sorted by what they are: what the rules look at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar, cast

from pydantic import BaseModel

from products.forms import BUILD, GRANT, NODE_RUN, PRIVACY, RELEASE, RESOURCE, REVIEW
from products.package.reading import PackageFiles
from products.statements import Build, Grant, NodeRun, Privacy, Release, Resource, Review
from products.trust import ReleasePolicy
from products.verification.evidence import Joint, Signed

_P = TypeVar("_P", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything established about a package before the rules are applied.

    Attributes:
        files: the package as read.
        policy: the agency's release policy, and its digest.
        policy_sha256: SHA-256 of the policy's file.
        release_joint: the one release statement with its signatures.
        joints: every other statement of the package.
    """

    files: PackageFiles
    policy: ReleasePolicy
    policy_sha256: str
    release_joint: Joint
    joints: Sequence[Joint]

    @property
    def release(self) -> Release:
        """The release statement."""
        return cast(Release, self.release_joint.statement.predicate)

    @property
    def released_witnessed_at(self) -> datetime:
        """When the last signature on the release was witnessed."""
        return max(item.at for item in self.release_joint.signed)

    @property
    def signed(self) -> Iterator[Signed]:
        """Every signature of the package."""
        for joint in (self.release_joint, *self.joints):
            yield from joint.signed

    def of_type(self, kind: str) -> list[Joint]:
        """Return the statements of a predicate type."""
        return [joint for joint in self.joints if joint.statement.predicate_type == kind]

    @property
    def grants(self) -> list[tuple[Joint, Grant]]:
        """Grants that the package holds; a valid one holds exactly one."""
        return _pairs(self.of_type(GRANT), Grant)

    @property
    def resources(self) -> Mapping[tuple[str, int], Resource]:
        """Resource statements by catalogue id and version."""
        return {(r.resource.id, r.resource.version): r for _, r in _pairs(self.of_type(RESOURCE), Resource)}

    @property
    def runs(self) -> list[tuple[Joint, NodeRun]]:
        """Run statements."""
        return _pairs(self.of_type(NODE_RUN), NodeRun)

    @property
    def builds(self) -> list[tuple[Joint, Build]]:
        """Build provenance."""
        return _pairs(self.of_type(BUILD), Build)

    @property
    def privacy(self) -> list[tuple[Joint, Privacy]]:
        """Privacy accounts."""
        return _pairs(self.of_type(PRIVACY), Privacy)

    @property
    def reviews(self) -> list[tuple[Joint, Review]]:
        """Reviews."""
        return _pairs(self.of_type(REVIEW), Review)


def _pairs(joints: Sequence[Joint], model: type[_P]) -> list[tuple[Joint, _P]]:
    return [(joint, joint.statement.predicate) for joint in joints if isinstance(joint.statement.predicate, model)]


def releases(joints: Sequence[Joint]) -> list[Joint]:
    """Return the release statements among all."""
    return [joint for joint in joints if joint.statement.predicate_type == RELEASE]
