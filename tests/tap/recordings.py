"""Reads what the tap (``sitecustomize`` beside this file) wrote, and looks for texts in it in every spelling."""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

ID_NUMBERS = re.compile(rb"(?=(\d{17}[\dX]))")
CREDIT_CODES = re.compile(rb"(?=([0-9A-Z]{18}))")


@dataclass(frozen=True)
class Recording:
    """What one process did."""

    pid: int
    words: tuple[str, ...]
    sent: bytes
    peers: tuple[tuple[str, str, int], ...]
    started: tuple[str, ...]

    @property
    def module(self) -> str:
        """The module behind ``-m``, or the name of the program."""
        if "-m" in self.words:
            return self.words[self.words.index("-m") + 1]
        return Path(self.words[1]).name if len(self.words) > 1 else ""

    def concerns(self, folder: Path) -> bool:
        """Tell whether a folder, or a file in it, is among the arguments."""
        return any(word == str(folder) or word.startswith(f"{folder}/") for word in self.words)


def recordings(folder: Path) -> list[Recording]:
    """Return what every process did. A process whose command line is unknown has no words."""
    pids = sorted({int(path.name.split(".")[0]) for path in folder.iterdir()})
    return [_read(folder, pid) for pid in pids]


def _read(folder: Path, pid: int) -> Recording:
    def text(suffix: str) -> str:
        path = folder / f"{pid}.{suffix}"
        return path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else ""

    sent = b"\n".join(path.read_bytes() for path in sorted(folder.glob(f"{pid}.*.sent")))
    peers = []
    for line in text("peers").splitlines():
        event, rest = line.split(" ", 1)
        host, port = rest.rsplit(" ", 1)
        peers.append((event, host, int(port) if port.isdigit() else 0))
    words = tuple(text("main").split("\0")) if text("main") else ()
    return Recording(pid, words, sent, tuple(peers), tuple(text("argv").splitlines()))


def spellings(text: str) -> list[bytes]:
    """Return the ways in which a text may stand among bytes: encodings, escapes, base64 at any offset, digests."""
    plain = {text.encode("utf-8"), text.encode("gb18030"), text.encode("utf-16-le")}
    found = {*plain, json.dumps(text).strip('"').encode(), quote(text).encode()}
    for data in plain:
        digest = hashlib.sha256(data).digest()
        found |= {data.hex().encode(), data.hex().upper().encode(), digest, digest.hex().encode()}
        for offset in range(3):
            coded = base64.b64encode(b"\0" * offset + data)
            inner = coded[(offset * 8 + 5) // 6 : (offset + len(data)) * 8 // 6]
            found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return sorted(found)


def occurring(data: bytes, texts: Iterable[str]) -> set[str]:
    """Return the texts that occur in the data in some spelling, also below gzip and zip."""
    layers = list(_unpacked(data))
    return {text for text in texts if any(form in layer for form in spellings(text) for layer in layers)}


def numbers_in(data: bytes, known: set[bytes]) -> set[bytes]:
    """Return the 18-place identity numbers and credit codes of ``known`` that occur in the data."""
    return known & ({found[1] for found in ID_NUMBERS.finditer(data)} | {f[1] for f in CREDIT_CODES.finditer(data)})


def _unpacked(data: bytes) -> Iterator[bytes]:
    yield data
    if data.startswith(b"\x1f\x8b"):
        yield gzip.decompress(data)
    elif data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield from _unpacked(archive.read(name))
    else:
        place = data.find(b"\x1f\x8b\x08")
        while place >= 0:  # a body that went over the wire compressed
            with contextlib.suppress(zlib.error):
                yield zlib.decompressobj(31).decompress(data[place:])
            place = data.find(b"\x1f\x8b\x08", place + 1)
