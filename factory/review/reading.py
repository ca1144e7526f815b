"""The text inside a product's files, in every form in which a value could hide.

A value is searched in the raw bytes (UTF-8, GB18030, UTF-16, hex, base64, little-endian
numbers inside tensors), in unpacked gzip and zip members, and in the readable text with
markup removed, escapes resolved, width and case folded and separators dropped.

Privacy: works on product files at the operator; hands out views of them to the tests alone.
"""

import base64
import gzip
import html
import io
import json
import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator

UNPACKED_BYTES_MAX = 256 * 1024 * 1024
_TAG = re.compile(r"<[^>]*>")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_SEPARATOR = re.compile(r"[\s\-_./,;:|·•()（）]+")


def normalise(text: str) -> str:
    """Fold width and case and drop separators, so that one value has one spelling."""
    return _SEPARATOR.sub("", unicodedata.normalize("NFKC", text).casefold())


def layers(content: bytes, depth: int = 3) -> Iterator[bytes]:
    """Yield the file and what is packed inside it."""
    yield content
    if depth == 0:
        return
    if content[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
                yield from layers(stream.read(UNPACKED_BYTES_MAX), depth - 1)
        except (OSError, EOFError, zlib.error):
            return
    elif content[:4] == b"PK\x03\x04":
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for member in archive.infolist():
                    with archive.open(member) as stream:
                        yield from layers(stream.read(UNPACKED_BYTES_MAX), depth - 1)
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, zlib.error):
            return


def texts(content: bytes) -> Iterator[str]:
    """Yield readable views of bytes: decoded, without markup, with escapes resolved."""
    for encoding in ("utf-8", "gb18030", "utf-16-le"):
        text = content.decode(encoding, errors="ignore")
        yield text
        if encoding != "utf-8":
            continue
        if "<" in text and ">" in text:
            yield html.unescape(_TAG.sub("", text))
            yield html.unescape(_TAG.sub(" ", text))
        if "\\u" in text:
            yield _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
        yield from _json_strings(text)


def spellings(value: str) -> set[bytes]:
    """Return the byte forms in which ``value`` could stand in a binary file."""
    forms = {value.encode(encoding, errors="ignore") for encoding in ("utf-8", "gb18030", "utf-16-le", "utf-16-be")}
    plain = value.encode("utf-8")
    forms |= {plain.hex().encode(), plain.hex().upper().encode()}
    for offset in range(3):
        # Three alignments; the characters at the ends depend on the neighbours and are cut.
        coded = base64.b64encode(b"\0" * offset + plain)
        forms.add(coded[(0, 2, 3)[offset] : len(coded) - 4 if (offset + len(plain)) % 3 else None])
    digits = value.strip()
    if re.fullmatch(r"\d{6,18}", digits):
        number = int(digits)
        forms |= {struct.pack("<q", number), struct.pack("<d", float(number))}
        if number < 2**31:
            forms |= {struct.pack("<i", number), struct.pack("<f", float(number))}
    return {form for form in forms if len(form) >= 4}


def _json_strings(text: str) -> Iterator[str]:
    if text[:1] not in "{[" or not text:
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    parts: list[str] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            stack += item
        elif isinstance(item, str | int):
            parts.append(str(item))
    yield "\n".join(parts)
