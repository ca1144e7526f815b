"""The last look: does a product file contain a value that only few rows of this department hold?

Before a node signs for a product it searches every file for its own identifiers and rare texts:
of each column marked ``identifier``, and of text columns that are no categories, the values of
at least six characters that fewer rows than the group limit hold. File text and values are
compared without case, width, spaces and hyphens; JSON and HTML escapes are undone first. Values
of six to ten Latin letters and digits occur by chance inside digests and decimals: they count only
as whole words.

Privacy: a finding names column and count, never the value. The values stay in memory.
"""

import html
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodes import tables
from nodes.catalogue_entries import CatalogueEntry, Column

VALUE_CHARACTERS_MIN = 6
"""Shorter texts occur by chance in any product and are left to the disclosure rules."""

CATEGORIES_MAX = 200
"""A text column with no more distinct values than this, each on five rows in the mean, is a category."""

WORD_CHARACTERS_MAX = 10
"""Values of Latin letters and digits up to this length are found as whole words alone; a mobile number has 11."""

_PIECE = 1 << 20
_WORD = re.compile(r"(?<![0-9a-z.])[0-9a-z]{6,10}(?![0-9a-z]|\.[0-9])")
_DROPPED = re.compile(r"[\s\-\u00b7_]+")


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

    def find(self, text: str) -> set[tuple[str, tuple[str, str]]]:
        """Return the values that occur in a text, with their places."""
        folded = _folded(text)
        found = {
            (word, place)
            for word in (self._words and set(_WORD.findall(folded))) or ()
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
        for text in _readings(content):
            for piece in _pieces(text, overlap=needles.length_max):
                hits |= needles.find(piece)
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


def _readings(content: bytes) -> Iterator[str]:
    text = content.decode("utf-8", errors="replace")
    yield text
    if b"\\u" in content:
        try:
            yield json.dumps(json.loads(text), ensure_ascii=False)
        except (ValueError, RecursionError):
            yield re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match.group(1), 16)), text)
    if b"&" in content and b"<" in content:
        yield html.unescape(re.sub(r"<[^>]{0,1000}>", "", text))
    if b"\x00" in content:
        # Texts in binary files may be stored with two bytes a character.
        yield content.decode("utf-16-le", errors="replace")


def _pieces(text: str, *, overlap: int) -> Iterator[str]:
    # The overlap is counted before normalising, which only shortens; double it for dropped separators.
    reach = max(overlap * 2, 64)
    for start in range(0, max(len(text), 1), _PIECE):
        yield text[start : start + _PIECE + reach]
