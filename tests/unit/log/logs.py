"""Builders for the tests of the log."""

import os
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from factory.log.files import DurableFiles
from factory.log.home import LogHome, WitnessPlace
from factory.log.log import Log, Submission
from nodes.contract import canonical
from nodes.contract.signing import SigningKey, sign
from products.log import leaf_hash, node_hash

NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


@cache
def signing_key(number: int = 0) -> SigningKey:
    return SigningKey(ec.derive_private_key(1000 + number, ec.SECP256R1()))


@cache
def submission(number: int, signer: int = 0) -> Submission:
    key = signing_key(signer)
    payload = canonical.dumps({"statement": number})
    return Submission(sign(key, "application/vnd.in-toto+json", payload).to_bytes(), key.public.spki)


def entry(number: int) -> bytes:
    return b"entry %d" % number


def make_home(folder: Path, *, witnesses: tuple[WitnessPlace, ...] = (), quorum: int | None = None) -> LogHome:
    home = LogHome.create(folder, operator="op", witnesses=witnesses, quorum=quorum)
    home.prepare(2026)
    return home


def fill(home: LogHome, count: int, *, start: int = 0, files: DurableFiles | None = None) -> None:
    with Log.open(home, now=NOW, files=files) as log:
        log.append_entries([entry(number) for number in range(start, start + count)])


def naive_root(leaves: list[bytes]) -> bytes:
    """The definition of RFC 9162, section 2.1.1, word for word."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(naive_root(leaves[:k]), naive_root(leaves[k:]))


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(entry(number)) for number in range(count)]


class DyingFiles(DurableFiles):
    """Kills its own process, for real, at the n-th operation: before it, or half-way through a write."""

    def __init__(self, dies_at: int) -> None:
        self.dies_at = dies_at
        self.done = 0

    def _step(self) -> bool:
        self.done += 1
        return self.done == self.dies_at

    def _die(self) -> None:
        os.kill(os.getpid(), 9)

    def write_synced(self, path: Path, data: bytes) -> None:
        if self._step():
            self._die()
        if self._step():
            path.write_bytes(data[: len(data) // 2])
            self._die()
        super().write_synced(path, data)

    def rename(self, source: Path, target: Path) -> None:
        if self._step():
            self._die()
        super().rename(source, target)

    def sync_folder(self, folder: Path) -> None:
        if self._step():
            self._die()
        super().sync_folder(folder)

    def unlink(self, path: Path) -> None:
        if self._step():
            self._die()
        super().unlink(path)

    def make_folder(self, folder: Path) -> None:
        if self._step():
            self._die()
        super().make_folder(folder)
