"""The node half of secure aggregation: masks, shares and the refusals that keep them safe.

Protocol: Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine
Learning", CCS 2017, figure 4 (the version against an active server), laid over one session:

    advertise   round 0, AdvertiseKeys: fresh X25519 keys, signed, one per sum
    share       round 1, ShareKeys: Shamir shares of every key and every self-mask seed, sealed node to node
    mask        round 2, MaskedInputCollection
    confirm     round 3, ConsistencyCheck: sign the list of survivors
    unmask      round 4, Unmasking: seed shares for survivors, key shares for the dropped
    verify      ours: every node recomputes the opened sum from what was confirmed and rebuilt

Rounds 0 and 1 are done once for all sums of a session, with **independent keys and seeds
for each sum**. That is as many instances of the paper's protocol side by side: what opens
one sum (the seeds of its survivors, the keys of its dropped nodes) is independent of all
others. One key pair for the whole session would not do: its reconstruction after a late
drop-out, beside the seeds that opened earlier sums, would bare the node's earlier inputs.

What a node refuses, whoever asks: fewer than ``parties_min`` parties; keys that are not
signed by the peer's certified key; its own keys altered; a sum number twice or backwards;
an active list that is not within the last one (who dropped stays out); a second survivor
list for a sum; survivors below the threshold, without itself, or without its own vector as
it sent it; unmasking before a threshold of nodes signed the very same list. For each sum a
node gives away, of any one peer, either a seed share or a key share and never both, because
survivors and dropped are the two halves of one signed list.

Privacy: the operator and the nodes learn the sum over the survivors of each sum and nothing
else of any node, as long as of n nodes with threshold t fewer than 2t - n collude with the
operator: two lists of survivors cannot both be confirmed then. From four nodes on that
covers any third of the nodes (``masking.threshold``). With three it covers the operator
alone; the operator together with one node of three
only when ``contributors_min`` is three (then no key share is ever given away, at the
price that a drop-out loses the sum). With k survivors of whom k - 1 collude, the sum
itself tells them the last one's input: no protocol helps. A false claim that a node
dropped lets the operator compare two sums that differ by that node; since it stays out,
this can happen once per node, and shows in its statement.

The shares are sealed in HPKE's base mode, which does not prove the sender: somebody who
writes shares in another's name spoils the sum, since what they rebuild is checked against
signed keys and digests, and learns nothing, since a node gives back what was put there.
"""

import secrets as random_source
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from nodes.contract import masking
from nodes.contract.errors import BadSealError, ContractError
from nodes.contract.masking import KEY_BYTES, SEED_BYTES, Advertisement, Confirmation, RingVector
from nodes.contract.messages import RefusalCode
from nodes.contract.parameters import SECAGG
from nodes.contract.sealing import SealHeader
from nodes.contract.signing import Envelope, VerifyKey, sha256_hex
from nodes.privacy import shamir
from nodes.tasks.spec import Secrets, TaskRefusedError

SHARES_LABEL = "secagg.shares"
_SHARE_BYTES = KEY_BYTES + SEED_BYTES
_ROSTER_BYTES = 32


def refuse(message: str) -> TaskRefusedError:
    """Return the refusal of a step that may not come now or not with this content."""
    return TaskRefusedError(RefusalCode.TASK_PROTOCOL, message)


@dataclass(slots=True, repr=False)
class _Sum:
    """The one sum that is under way."""

    number: int
    active: tuple[str, ...]
    input_sha256: str
    masked_sha256: str
    length: int
    confirmed: Confirmation | None = None
    opened: bool = False


@dataclass(slots=True, repr=False)
class MaskedSums:
    """One node's part in the sums of one session. Holds secrets: its repr shows none.

    Attributes:
        node, session_id: who and where.
        parties: every node of the session, from the verified order.
        verify_keys: statement key per party, from the agency's trust data.
        secrets: seal, unseal and sign as this node.
        sums: how many sums the session may open.
        contributors_min: fewest survivors, from the grant.
    """

    node: str
    session_id: str
    parties: tuple[str, ...]
    verify_keys: Mapping[str, VerifyKey]
    secrets: Secrets
    sums: int
    contributors_min: int
    opened: list[int] = field(default_factory=list)
    _keys: list[X25519PrivateKey] = field(default_factory=list)
    _seeds: list[bytes] = field(default_factory=list)
    _own: Envelope | None = None
    _peers: dict[str, Advertisement] = field(default_factory=dict)
    _roster: str = ""
    _own_shares: bytes = b""
    _shares: dict[str, bytes] = field(default_factory=dict)
    _active: tuple[str, ...] = ()
    _sum: _Sum | None = None
    _last_number: int = -1

    def __post_init__(self) -> None:
        if self.node not in self.parties or len(set(self.parties)) != len(self.parties):
            raise refuse("expected this node among the parties, each once")
        if not SECAGG.parties_min <= len(self.parties) <= SECAGG.parties_max:
            raise refuse(
                f"expected {SECAGG.parties_min} to {SECAGG.parties_max} nodes in a masked sum, got {len(self.parties)}"
            )
        if self.threshold > len(self.parties):
            raise refuse(f"expected at least {self.threshold} nodes, as the grant asks, got {len(self.parties)}")

    @property
    def threshold(self) -> int:
        """Shares that rebuild a secret, and fewest survivors of a sum."""
        return masking.threshold(len(self.parties), self.contributors_min)

    def advertise(self) -> Envelope:
        """Make fresh keys and seeds for every sum and return the public part, signed.

        Raises:
            TaskRefusedError: the keys of this session exist already.
        """
        if self._own is not None:
            raise refuse("expected one advertisement per session")
        self._keys = [X25519PrivateKey.generate() for _ in range(self.sums)]
        self._seeds = [random_source.token_bytes(SEED_BYTES) for _ in range(self.sums)]
        message = Advertisement(
            session_id=self.session_id,
            node=self.node,
            parameter_set=SECAGG.name,
            threshold=self.threshold,
            public_keys=tuple(
                key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex() for key in self._keys
            ),
            seed_sha256=tuple(
                masking.seed_digest(self.session_id, self.node, number, seed) for number, seed in enumerate(self._seeds)
            ),
        )
        self._own = self.secrets.sign(Advertisement.payload_type, message.to_payload())
        return self._own

    def share(self, envelopes: Sequence[bytes]) -> list[bytes]:
        """Check everybody's keys and return the shares of this node's secrets, sealed for each peer.

        Args:
            envelopes: everybody's advertisement, this node's included, sorted by node id.

        Returns:
            One sealed message per other node of the roster, sorted by node id.

        Raises:
            TaskRefusedError: not now; keys not signed by a party's certified key; a node
                twice; this node's keys missing or altered; too few nodes.
        """
        if self._own is None or self._roster:
            raise refuse("expected everybody's keys once, after this node's own")
        signed: dict[str, Envelope] = {}
        peers: dict[str, Advertisement] = {}
        for data in envelopes:
            node, advertisement, envelope = self._open_advertisement(data)
            if node in signed:
                raise refuse(f"expected the keys of {node} once")
            signed[node], peers[node] = envelope, advertisement
        if list(signed) != sorted(signed):
            raise refuse("expected the keys sorted by node")
        own = signed.get(self.node)
        if own is None or own.payload != self._own.payload:
            raise refuse("expected this node's own keys as it advertised them")
        if len({key for peer in peers.values() for key in peer.public_keys}) != self.sums * len(peers):
            raise refuse("expected no two nodes to show the same key")
        self._require_enough(signed, "keys of")
        self._peers = peers
        self._roster = masking.roster_sha256(signed)
        return self._seal_shares(sorted(signed))

    def receive(self, holders: Sequence[str], sealed: Sequence[bytes]) -> None:
        """Take in the shares of the other nodes' secrets.

        Args:
            holders: nodes that shared their secrets, this one included, sorted; only these go on.
            sealed: what each of them but this node sealed for this node, in that order.

        Raises:
            TaskRefusedError: not now, too few holders, or a share that does not open here, was
                made under another roster or has another length.
        """
        if not self._roster or self._active:
            raise refuse("expected the shares once, after the keys")
        self._require_list(holders, self._peers, "holders")
        peers = [node for node in holders if node != self.node]
        if len(sealed) != len(peers):
            raise refuse(f"expected {len(peers)} sealed shares, got {len(sealed)}")
        shares = {}
        for peer, message in zip(peers, sealed, strict=True):
            header = SealHeader(self.session_id, peer, self.node, SHARES_LABEL, 0)
            try:
                plain = self.secrets.unseal(message, header)
            except BadSealError as error:
                raise refuse(f"expected shares that {peer} sealed for this node in this session") from error
            if plain[:_ROSTER_BYTES].hex() != self._roster or len(plain) != _ROSTER_BYTES + self.sums * _SHARE_BYTES:
                raise refuse(f"expected shares of {peer} made for the same roster")
            shares[peer] = plain[_ROSTER_BYTES:]
        shares[self.node] = self._own_shares
        self._shares = shares
        self._active = tuple(holders)

    def check_turn(self, number: int, active: Sequence[str]) -> None:
        """Refuse a sum that may not start: call before the data are touched.

        Raises:
            TaskRefusedError: no shares yet, a number that is not above the last one, or an
                active list that is not within the last one, lacks this node, or is too short.
        """
        if not self._active:
            raise refuse("expected the shares before a sum")
        if not self._last_number < number < self.sums:
            raise refuse(f"expected a sum number above {self._last_number} and below {self.sums}, got {number}")
        self._require_list(active, self._active, "active nodes")

    def mask(self, number: int, active: Sequence[str], input_sha256: str, values: RingVector) -> bytes:
        """Return this node's values under all its masks for one sum.

        Args:
            number: of the sum; each is used once.
            active: nodes still in the session, sorted; pairwise masks are added for these.
            input_sha256: digest of what was asked, equal at all nodes or the masks do not cancel.
            values: shape ``(length,)``, each within ±2**``SECAGG.value_bits``.

        Returns:
            ``8 · length`` bytes.

        Raises:
            TaskRefusedError: see ``check_turn``; or the vector is longer than the set allows.

        Privacy:
            Uniform modulo 2**64 to everybody else until a threshold of nodes open the sum.

        Source:
            Bonawitz et al., figure 4, round 2.
        """
        self.check_turn(number, active)
        if len(values) > SECAGG.length_max:
            raise refuse(f"expected at most {SECAGG.length_max} entries, got {len(values)}")
        self._last_number, self._active = number, tuple(active)
        where = self._context(number, active, input_sha256)
        total = np.add(values, masking.self_mask(self._seeds[number], self.node, where, len(values)))
        for peer in active:
            if peer != self.node:
                public = bytes.fromhex(self._peers[peer].public_keys[number])
                total += masking.pair_mask(
                    self._keys[number], public, own=self.node, peer=peer, sum_context=where, length=len(values)
                )
        masked = masking.to_bytes(total)
        self._sum = _Sum(number, tuple(active), input_sha256, sha256_hex(masked), len(values))
        return masked

    def confirm(self, number: int, survivors: Mapping[str, str]) -> Envelope:
        """Sign the list of nodes that one sum shall cover.

        Args:
            number: of the sum under way.
            survivors: digest of the masked vector per survivor.

        Raises:
            TaskRefusedError: another sum, a second list, a list that is not within the active
                nodes, too short, without this node or with another vector of this node.

        Source:
            Bonawitz et al., figure 4, round 3.
        """
        current = self._current(number)
        if current.confirmed is not None:
            raise refuse("expected one survivor list per sum")
        nodes = sorted(survivors)
        self._require_list(nodes, current.active, "survivors")
        if survivors[self.node] != current.masked_sha256:
            raise refuse("expected this node's masked vector as it sent it")
        current.confirmed = Confirmation(
            session_id=self.session_id,
            node=self.node,
            roster_sha256=self._roster,
            sum_number=number,
            active=current.active,
            input_sha256=current.input_sha256,
            survivors=tuple(nodes),
            masked_sha256=tuple(survivors[node] for node in nodes),
        )
        return self.secrets.sign(Confirmation.payload_type, current.confirmed.to_payload())

    def unmask(self, number: int, confirmations: Sequence[bytes]) -> tuple[dict[str, str], dict[str, str]]:
        """Give away what opens one sum, once a threshold of nodes signed the very same list.

        Args:
            number: of the sum under way.
            confirmations: signed confirmations of at least ``threshold`` survivors.

        Returns:
            Shares as hex: of the self-mask seed per survivor, and of the key of this sum per
            node that dropped in it. No node is in both.

        Raises:
            TaskRefusedError: not confirmed here, opened before, or too few equal confirmations.

        Source:
            Bonawitz et al., figure 4, round 4.
        """
        current = self._current(number)
        mine = current.confirmed
        if mine is None or current.opened:
            raise refuse("expected to open each sum once, after confirming it")
        signers = set()
        for data in confirmations:
            theirs = self._open_confirmation(data)
            if theirs.node not in mine.survivors or not mine.is_same_sum(theirs):
                raise refuse(f"expected {theirs.node} to confirm the same survivors of the same sum")
            signers.add(theirs.node)
        if len(signers) < self.threshold:
            raise refuse(f"expected at least {self.threshold} equal confirmations, got {len(signers)}")
        current.opened = True
        self._active = mine.survivors
        self.opened.append(len(mine.survivors))
        at = number * _SHARE_BYTES
        key, seed = slice(at, at + KEY_BYTES), slice(at + KEY_BYTES, at + _SHARE_BYTES)
        dropped = set(mine.active) - set(mine.survivors)
        return (
            {node: self._shares[node][seed].hex() for node in mine.survivors},
            {node: self._shares[node][key].hex() for node in sorted(dropped)},
        )

    def verify(
        self, number: int, masked: Sequence[bytes], seeds: Mapping[str, bytes], keys: Mapping[str, bytes]
    ) -> list[int]:
        """Open the sum under way at this node too, so that it need not take the operator's word.

        Args:
            number: of the sum.
            masked: the survivors' masked vectors, sorted by node, as all of them confirmed.
            seeds: rebuilt self-mask seed per survivor.
            keys: rebuilt key per node that dropped in this sum.

        Returns:
            The total, as signed integers.

        Raises:
            TaskRefusedError: not opened here, or not what the nodes confirmed and committed to.

        Privacy:
            This node learns the sum, as the operator does; with one other survivor it can
            take its own part off.
        """
        current = self._current(number)
        mine = current.confirmed
        if mine is None or not current.opened:
            raise refuse("expected the evidence of a sum that was opened")
        if tuple(map(sha256_hex, masked)) != mine.masked_sha256:
            raise refuse("expected the masked vectors that the survivors confirmed")
        if set(keys) != set(mine.active) - set(mine.survivors):
            raise refuse("expected the key of each node that dropped in this sum, and no other")
        try:
            vectors = {
                node: masking.from_bytes(part, current.length)
                for node, part in zip(mine.survivors, masked, strict=True)
            }
            total = masking.open_total(
                vectors,
                seeds,
                keys,
                advertisements=self._peers,
                sum_number=number,
                sum_context=self._context(number, mine.active, mine.input_sha256),
            )
        except (ContractError, ValueError) as error:
            raise refuse(f"expected what the nodes committed to: {error}") from error
        return masking.from_ring(total)

    def close(self) -> None:
        """Forget keys, seeds and shares."""
        self._keys, self._seeds, self._shares, self._own_shares = [], [], {}, b""
        self._active, self._sum, self._last_number = (), None, self.sums

    def _open_advertisement(self, data: bytes) -> tuple[str, Advertisement, Envelope]:
        try:
            envelope = Envelope.from_bytes(data)
            node = next((name for name in self.parties if self.verify_keys[name].keyid == envelope.keyid), None)
            if node is None:
                raise refuse("expected keys signed by a party of the session with its certified key")
            message = masking.open_signed(Advertisement, envelope, self.verify_keys[node])
        except ContractError as error:
            raise refuse(f"expected keys signed by a party of the session: {error}") from error
        if (message.node, message.session_id) != (node, self.session_id):
            raise refuse(f"expected the keys of {node} for this session")
        if (message.parameter_set, message.threshold) != (SECAGG.name, self.threshold):
            raise refuse(f"expected {node} to use {SECAGG.name} with threshold {self.threshold}")
        if len(message.public_keys) != self.sums:
            raise refuse(f"expected {self.sums} keys of {node}, got {len(message.public_keys)}")
        return node, message, envelope

    def _open_confirmation(self, data: bytes) -> Confirmation:
        try:
            envelope = Envelope.from_bytes(data)
            node = next((name for name in self._active if self.verify_keys[name].keyid == envelope.keyid), None)
            if node is None:
                raise refuse("expected confirmations of nodes that are active in this sum")
            message = masking.open_signed(Confirmation, envelope, self.verify_keys[node])
        except ContractError as error:
            raise refuse(f"expected signed confirmations of this sum: {error}") from error
        if message.node != node:
            raise refuse(f"expected {node} to confirm in its own name")
        return message

    def _seal_shares(self, roster: list[str]) -> list[bytes]:
        shares = {node: bytearray() for node in roster}
        for key, seed in zip(self._keys, self._seeds, strict=True):
            raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
            for node, part in zip(roster, shamir.split(raw + seed, self.threshold, len(roster)), strict=True):
                shares[node] += part
        self._own_shares = bytes(shares.pop(self.node))
        head = bytes.fromhex(self._roster)
        return [
            self.secrets.seal(head + bytes(part), SealHeader(self.session_id, self.node, node, SHARES_LABEL, 0))
            for node, part in shares.items()
        ]

    def _require_list(self, nodes: Sequence[str], within: Mapping[str, object] | Sequence[str], what: str) -> None:
        if list(nodes) != sorted(set(nodes)) or not set(nodes) <= set(within):
            raise refuse(f"expected {what} sorted, each once, all of them still in the session")
        if self.node not in nodes:
            raise refuse(f"expected this node among the {what}")
        self._require_enough(nodes, what)

    def _require_enough(self, nodes: Mapping[str, object] | Sequence[str], what: str) -> None:
        if len(nodes) < self.threshold:
            raise refuse(f"expected {what} at least {self.threshold} nodes, got {len(nodes)}")

    def _context(self, number: int, active: Sequence[str], input_sha256: str) -> bytes:
        return masking.context(self.session_id, self._roster, number, active, input_sha256)

    def _current(self, number: int) -> _Sum:
        if self._sum is None or self._sum.number != number:
            raise refuse("expected the number of the sum under way")
        return self._sum
