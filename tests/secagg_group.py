"""Node halves of secure aggregation without a task, driven by hand: what a dishonest operator has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nodes.contract import masking
from nodes.contract.signing import Envelope, sha256_hex
from nodes.privacy.secagg import MaskedSums
from tests.federation_harness import HarnessSecrets, Member

SESSION = "s-group"
QUESTION = sha256_hex(b"question")


@dataclass
class Group:
    """Several nodes of one session and what they said so far."""

    members: Mapping[str, Member]
    nodes: dict[str, MaskedSums]
    sums: int
    adverts: dict[str, Envelope] = field(default_factory=dict)
    sealed: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, count: int = 3, *, sums: int = 3, contributors_min: int = 2, session: str = SESSION, members=None
    ) -> "Group":
        names = tuple(f"node-{letter}" for letter in "abcdefgh"[:count])
        members = members or {name: Member.make(name, "node") for name in names}
        actors = {name: member.actor for name, member in members.items()}
        nodes = {
            name: MaskedSums(
                node=name,
                session_id=session,
                parties=names,
                verify_keys={other: member.key.public for other, member in members.items()},
                secrets=HarnessSecrets(members[name], actors),
                sums=sums,
                contributors_min=contributors_min,
            )
            for name in names
        }
        return cls(members, nodes, sums)

    @property
    def names(self) -> list[str]:
        return sorted(self.nodes)

    def advertise(self) -> "Group":
        self.adverts = {name: node.advertise() for name, node in self.nodes.items()}
        return self

    def keys(self) -> list[bytes]:
        return [self.adverts[name].to_bytes() for name in self.names]

    def share(self) -> "Group":
        for name, node in self.nodes.items():
            others = [other for other in self.names if other != name]
            self.sealed[name] = dict(zip(others, node.share(self.keys()), strict=True))
        return self

    def for_(self, name: str, holders: Sequence[str] | None = None) -> list[bytes]:
        return [self.sealed[peer][name] for peer in (holders or self.names) if peer != name]

    def receive(self) -> "Group":
        for name, node in self.nodes.items():
            node.receive(self.names, self.for_(name))
        return self

    def ready(self) -> "Group":
        return self.advertise().share().receive()

    def mask(self, number: int, values: Mapping[str, Sequence[int]], *, question: str = QUESTION) -> dict[str, bytes]:
        active = sorted(values)
        return {
            name: self.nodes[name].mask(number, active, question, masking.to_ring(vector))
            for name, vector in values.items()
        }

    def confirm(self, number: int, masked: Mapping[str, bytes]) -> dict[str, bytes]:
        listed = {name: sha256_hex(part) for name, part in masked.items()}
        return {name: self.nodes[name].confirm(number, listed).to_bytes() for name in masked}


def raw_sum(masked: Mapping[str, bytes], length: int) -> np.ndarray:
    """What anybody can compute from the masked vectors alone."""
    total = np.zeros(length, dtype=np.uint64)
    for part in masked.values():
        total += masking.from_bytes(part, length)
    return total
