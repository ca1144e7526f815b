"""The last look: does a product file contain a value that only few rows of this department hold?

Before a node signs for a product it searches every file for its own identifiers and rare texts:
of each column marked ``identifier``, and of text columns that are no categories, the values of
at least six characters that fewer rows than the group limit hold. File text and values are
compared without case, width, spaces, hyphens and characters that do not show; escapes of JSON, HTML and
addresses, UTF-16, GB18030, base64, hexadecimal and common compression are undone first, three deep. Values
of six to ten Latin letters and digits occur by chance inside digests and decimals: they count only
as whole words.

Privacy: a finding names column and count, never the value. The values stay in memory.
"""

import base64
import bz2
import html
import io
import lzma
import re
import unicodedata
import urllib.parse
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nodes import tables
from nodes.catalogue_entries import CatalogueEntry
from nodes.contract.catalogue import Column

VALUE_CHARACTERS_MIN = 6
"""Shorter texts occur by chance in any product and are left to the disclosure rules."""

CATEGORIES_MAX = 200
"""A text column with no more distinct values than this, each on five rows in the mean, is a category."""

WORD_CHARACTERS_MAX = 10
"""Values of Latin letters and digits up to this length are found as whole words alone; a mobile number has 11."""

_PIECE = 1 << 20
_WORD = re.compile(r"(?<![0-9a-z.])[0-9a-z]{6,10}(?![0-9a-z]|\.[0-9])")
_DROPPED = re.compile(
    r"[\s\-\u00ad\u00b7_\u2010-\u2015\u2212\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]+"
)
_TAG = re.compile(r"<[^>]{0,1000}>")
_UNICODE_ESCAPE = re.compile(r"\\+u\{?([0-9a-fA-F]{4})\}?")
_BYTE_ESCAPES = re.compile(r"(?:\\+x[0-9a-fA-F]{2})+")
_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{12,}(?:\r?\n[A-Za-z0-9+/_-]{2,})*")
_STREAM = re.compile(rb"stream\r?\n")

DEPTH_MAX = 3
"""How many layers of encoding, compression or escapes are undone."""

STREAMS_MAX = 256
"""Most compressed streams or archive members of one file that are opened."""

UNPACKED_BYTES_MAX = 16 << 20
"""Most bytes that one of them is unpacked to."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Values of one column that occur in product files.

    Attributes:
        resource, column: whose values.
        count: how many distinct values were found.
    """

    resource: str
    column: str
    count: int


class Needles:
    """The values to search for, arranged for one pass over a text."""

    def __init__(self, values: Mapping[tuple[str, str], Iterable[str]]) -> None:
        """Arrange values given by (resource, column)."""
        self._by_start: dict[str, list[tuple[str, tuple[str, str]]]] = {}
        self._words: dict[str, list[tuple[str, str]]] = {}
        self.length_max = 0
        for place, texts in values.items():
            for text in texts:
                needle = normalised(text)
                if len(needle) <= WORD_CHARACTERS_MAX and _WORD.fullmatch(needle):
                    self._words.setdefault(needle, []).append(place)
                elif len(needle) >= VALUE_CHARACTERS_MIN:
                    self._by_start.setdefault(needle[:VALUE_CHARACTERS_MIN], []).append((needle, place))
                    self.length_max = max(self.length_max, len(needle))

    def find(self, text: str, *, words: bool = True) -> set[tuple[str, tuple[str, str]]]:
        """Return the values that occur in a text, with their places; short ones only where ``words`` count."""
        folded = _folded(text)
        found = {
            (word, place)
            for word in (words and self._words and set(_WORD.findall(folded))) or ()
            for place in self._words.get(word, ())
        }
        if not self._by_start:
            return found
        text = _DROPPED.sub("", folded)
        for start in range(len(text) - VALUE_CHARACTERS_MIN + 1):
            for needle, place in self._by_start.get(text[start : start + VALUE_CHARACTERS_MIN], ()):
                if text.startswith(needle, start):
                    found.add((needle, place))
        return found


def needles_of(entries: Sequence[CatalogueEntry], home: Path, *, group_min: int) -> Needles:
    """Collect the values to search for.

    Args:
        entries: resources that the product was made from.
        home: the node's home.
        group_min: values that this many rows or more hold are common and may appear.

    Raises:
        TableError: a table cannot be read, so nothing can be vouched for.
    """
    values: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        for column in entry.columns:
            if column.identifier or _is_free_text(entry, column, home):
                limit = 2**62 if column.identifier else group_min
                values[entry.id, column.name] = tables.rare_values(
                    entry, home, columns=[column], held_by_fewer_than=limit
                )
    return Needles(values)


def scan(files: Iterable[bytes], needles: Needles) -> list[Finding]:
    """Search files and return one finding per column whose values occur."""
    hits: set[tuple[str, tuple[str, str]]] = set()
    for content in files:
        for text, words in _readings(content):
            for piece in _pieces(text, overlap=needles.length_max):
                hits |= needles.find(piece, words=words)
    counts: dict[tuple[str, str], int] = {}
    for _, place in hits:
        counts[place] = counts.get(place, 0) + 1
    return [Finding(resource, column, count) for (resource, column), count in sorted(counts.items())]


def normalised(text: str) -> str:
    """Return a text without case, width, spaces, hyphens, underscores and middle dots."""
    return _DROPPED.sub("", _folded(text))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _is_free_text(entry: CatalogueEntry, column: Column, home: Path) -> bool:
    if column.type != "text":
        return False
    distinct, filled = tables.distinct_share(entry, home, column.name)
    return distinct > CATEGORIES_MAX or distinct * 5 > filled


def _readings(content: bytes, depth: int = 0) -> Iterator[tuple[str, bool]]:
    """Return what a file may say, each with whether short words in it count (not in bytes that are no text)."""
    for text, is_text in _texts(content):
        yield text, is_text and depth == 0
        plain = _unescaped(text)
        if plain != text:
            yield plain, is_text and depth == 0
        if "<" in plain:
            yield _TAG.sub("", plain), is_text and depth == 0
        if depth < DEPTH_MAX and is_text:
            for match in _ENCODED.finditer(plain):
                for inner in _decoded(match.group()):
                    yield from _readings(inner, depth + 1)
    if depth < DEPTH_MAX:
        for inner in _unpacked(content):
            yield from _readings(inner, depth + 1)


def _texts(content: bytes) -> Iterator[tuple[str, bool]]:
    try:
        yield content.decode("utf-8"), True
        if b"\x00" not in content:
            return
    except UnicodeDecodeError:
        yield content.decode("utf-8", errors="replace"), True
        yield content.decode("gb18030", errors="replace"), False
    yield content.replace(b"\x00", b"").decode("latin-1"), False
    for start in (0, 1):
        for encoding in ("utf-16-le", "utf-16-be"):
            yield content[start:].decode(encoding, errors="replace"), False


def _unescaped(text: str) -> str:
    for _ in range(DEPTH_MAX):
        before = text
        if "\\" in text:
            text = _UNICODE_ESCAPE.sub(lambda match: chr(int(match.group(1), 16)), text)
            text = _BYTE_ESCAPES.sub(
                lambda match: bytes.fromhex(re.sub(r"[\\x]", "", match.group())).decode("utf-8", errors="replace"), text
            )
        if "%" in text:
            text = urllib.parse.unquote(text)
        if "&" in text:
            text = html.unescape(text)
        if text == before:
            break
    return text.encode("utf-16", errors="surrogatepass").decode("utf-16", errors="replace")


def _decoded(text: str) -> Iterator[bytes]:
    joined = re.sub(r"\s", "", text)
    if re.fullmatch(r"(?:[0-9a-fA-F]{2})+", joined):
        yield bytes.fromhex(joined)
    standard = joined.rstrip("=").replace("-", "+").replace("_", "/")
    usable = standard[: len(standard) - (len(standard) % 4 == 1)]
    yield base64.b64decode(usable + "=" * (-len(usable) % 4))


def _unpacked(content: bytes) -> Iterator[bytes]:
    """Return what is inside compressed files, archives and compressed streams of documents, within a limit."""
    starts = [0, *(match.end() for match in _STREAM.finditer(content))]
    for start in starts[:STREAMS_MAX]:
        with suppress(zlib.error):
            yield zlib.decompressobj(47).decompress(content[start:], UNPACKED_BYTES_MAX)  # gzip and zlib alike
    with suppress(OSError, EOFError, ValueError):
        if content.startswith(b"BZh"):
            yield bz2.BZ2Decompressor().decompress(content, UNPACKED_BYTES_MAX)
    with suppress(lzma.LZMAError, EOFError):
        if content.startswith(b"\xfd7zXZ"):
            yield lzma.LZMADecompressor().decompress(content, UNPACKED_BYTES_MAX)
    if b"PK\x03\x04" in content:
        yield from _members(content)


def _members(archive_bytes: bytes) -> Iterator[bytes]:
    broken = (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, zlib.error, EOFError)
    with suppress(*broken), zipfile.ZipFile(io.BytesIO(archive_bytes)) as archive:
        for member in archive.infolist()[:STREAMS_MAX]:
            yield member.filename.encode("utf-8")
            with archive.open(member) as stream:
                yield stream.read(UNPACKED_BYTES_MAX)


def _pieces(text: str, *, overlap: int) -> Iterator[str]:
    # The overlap is counted before normalising, which only shortens; double it for dropped separators.
    reach = max(overlap * 2, 64)
    for start in range(0, max(len(text), 1), _PIECE):
        yield text[start : start + _PIECE + reach]
