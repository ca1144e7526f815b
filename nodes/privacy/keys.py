"""A table's rows as items of a private join: the bytes of ``record_input``, made for whole columns at once.

Values of printable ASCII without blanks, as most identifiers are, need only some of the rules, and those run on
whole columns; every other value goes through ``normalise`` one by one. A test holds both ways to the same bytes.

Privacy:
    Items stay in the node's memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nodes.contract.errors import MalformedError
from nodes.contract.tasks.match import MatchField, Rule, normalise
from nodes.privacy import kernels
from nodes.privacy.psi_kkrt import Items

if TYPE_CHECKING:
    import pandas as pd

_HEAD = b"shufang/v1/match"
_FIELD_BYTES_MAX = 4000


@dataclass(frozen=True, slots=True)
class KeyedRows:
    """The rows of a table that have a key.

    Attributes:
        items: one per distinct key.
        rows: position in the table of the first row with that key.
        repeated: rows left out because an earlier one has their key.
        empty: rows left out because a field is empty.
    """

    items: Items
    rows: NDArray[np.int64]
    repeated: int
    empty: int


def keyed_rows(frame: "pd.DataFrame | pa.Table", fields: Sequence[MatchField]) -> KeyedRows:
    """Return the items of a table.

    Args:
        frame: granted rows; an Arrow table takes less time and memory.
        fields: columns and rules of the signed order.

    Raises:
        MalformedError: a value of more than 4 000 bytes.
    """
    columns = [_normalised(_texts(frame[field.column]), field.rules) for field in fields]
    complete = np.ones(len(frame), np.bool_)
    for column in columns:
        complete &= np.asarray(pc.fill_null(pc.greater(pc.binary_length(column), 0), False))
    rows = np.flatnonzero(complete)
    if len(rows) < len(frame):
        columns = [column.filter(pa.array(complete)) for column in columns]
    items = _joined(columns, len(fields))
    is_first = kernels.firsts(items.data, items.offsets, skip=len(_HEAD) + 1)
    if is_first.all():
        return KeyedRows(items, rows, 0, len(frame) - len(rows))
    first = np.flatnonzero(is_first)
    kept = [column.take(pa.array(first)) for column in columns]
    return KeyedRows(_joined(kept, len(fields)), rows[first], len(rows) - len(first), len(frame) - len(rows))


def _texts(column: Any) -> Any:
    """Return a column as text, numbers as ``nodes.privacy.normalise`` writes them."""
    if isinstance(column, pa.ChunkedArray):
        kind = column.type
        if any(check(kind) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)):
            return _one(pc.cast(column, pa.large_string()))
        column = column.to_pandas()
    if column.dtype.kind in "iu":
        return pc.cast(pa.array(column.to_numpy()), pa.large_string())
    if column.dtype.kind == "f":
        values = column.tolist()
        texts = [None if v != v else str(int(v)) if float(v).is_integer() else str(v) for v in values]  # noqa: PLR0124  NaN
        return pa.array(texts, pa.large_string())
    if column.dtype == object:
        from nodes.privacy.normalise import text_of

        try:
            return pa.array(column, pa.large_string(), from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return pa.array([text_of(value) for value in column.tolist()], pa.large_string())
    return _one(pc.cast(pa.array(column.array, from_pandas=True), pa.large_string()))


def _one(column: Any) -> Any:
    """Return a column in one piece."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def _normalised(column: Any, rules: Sequence[Rule]) -> Any:
    plain = _plain(column)
    if "id18" in rules:
        plain &= np.asarray(pc.fill_null(pc.not_equal(pc.binary_length(column), 15), True))
    quick = column
    for rule in rules:
        if rule == "upper":
            quick = pc.ascii_upper(quick)
        elif rule == "lower":
            quick = pc.ascii_lower(quick)
    if plain.all():
        return quick
    slow = np.flatnonzero(~plain)
    known: dict[str, str] = {}
    texts = []
    for text in column.take(pa.array(slow)).to_pylist():
        if text not in known:
            known[text] = normalise(text, rules)
        texts.append(known[text])
    return pc.replace_with_mask(quick, pa.array(~plain), pa.array(texts, pa.large_string()))


def _plain(column: Any) -> NDArray[np.bool_]:
    """Return which values hold nothing but printable ASCII without blanks; a missing one counts."""
    data, _ = _buffers(column)
    if not len(data) or (int(data.min()) >= 0x21 and int(data.max()) <= 0x7E):
        return np.ones(len(column), np.bool_)
    return np.array(pc.fill_null(pc.match_substring_regex(column, "^[!-~]*$"), True))


def _buffers(column: Any) -> tuple[kernels.Bytes, NDArray[np.int64]]:
    """Return bytes and offsets of a column of large strings."""
    _, offsets_buffer, data_buffer = column.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64, len(column) + 1, 8 * column.offset)
    start, end = int(offsets[0]), int(offsets[-1])
    data = np.frombuffer(data_buffer, np.uint8)[start:end] if end > start else np.empty(0, np.uint8)
    return data, offsets - start


def _joined(columns: Sequence[Any], fields: int) -> Items:
    head = _HEAD + bytes([fields])
    parts = [_buffers(column) for column in columns]
    count = len(columns[0])
    lengths = np.full(count, len(head), np.int64)
    for _, offsets in parts:
        sizes = np.diff(offsets)
        if count and int(sizes.max()) > _FIELD_BYTES_MAX:
            raise MalformedError(f"expected a value of at most {_FIELD_BYTES_MAX} bytes")
        lengths += sizes + 2
    ends = np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])
    out = np.empty(int(ends[-1]), np.uint8)
    positions = ends[:-1].copy()
    kernels.prefix(head, out, positions)
    for data, offsets in parts:
        kernels.append_fields(data, offsets, out, positions)
    return Items(out, ends)
