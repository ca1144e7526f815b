"""Task ``psi.join``: which rows nodes have in common, in one of the modes of ``nodes.contract.tasks.psi``.

Privacy:
    The operator learns how many rows are common, rounded down to the grant's ``round_base``, and the sizes in bytes of
    what passed. Which rows they are stays at the nodes that the mode names: positions in a file of the node
    (``joins/SESSION.npy``), its digest in the node's statement. What the nodes learn of each other stands with each
    protocol in ``nodes.privacy``. A grant has one choice of rows, keys and parties (``TaskSpec.joint``), so the
    same comparison cannot be repeated with a row more or less under it.
"""

import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from nodes.contract import canonical
from nodes.contract.messages import RefusalCode
from nodes.contract.tasks.psi import ROWS, SUITE, PsiParameters
from nodes.errors import MissingPartError
from nodes.privacy.ot import exactly
from nodes.tasks.party import Finished, Half, Party, start_party
from nodes.tasks.spec import LargeTableView, Outcome, TaskContext, TaskRefusedError, TaskSession

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nodes.privacy.keys import KeyedRows

JOINS = "joins"
"""Folder of the node's home with the common rows of its sessions."""

PREPARED = "prepared"
"""Folder of the node's home with the tags of mode ``prepared``."""

_COUNT = "psi.count"


def start(context: TaskContext) -> tuple[TaskSession, Outcome]:
    """Open the session with this node's half.

    Raises:
        TaskRefusedError: not one table, keys for other nodes than the parties, columns that the order does not name, or
            the extra ``vertical`` is not installed here.
    """
    try:
        import nodes.privacy.kernels  # noqa: F401  better refused now than failed in the middle
    except MissingPartError as error:
        raise TaskRefusedError(RefusalCode.TASK_UNKNOWN, str(error)) from error
    parameters = cast(PsiParameters, context.parameters)
    if set(parameters.keys) != set(context.order.parties):
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, "expected a key for every party of the order, and no other")
    if len(context.tables) != 1:
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, f"expected one resource, got {len(context.tables)}")
    table = next(iter(context.tables.values()))
    missing = [field.column for field in parameters.keys[context.node] if field.column not in table.columns]
    if missing:
        raise TaskRefusedError(RefusalCode.GRANT_COLUMN, f"expected the order to name the columns {', '.join(missing)}")
    receiving, other = _HALVES[parameters.mode]
    return start_party(context, receiving if context.node == parameters.receiver else other)


def keyed_rows_of(context: TaskContext, node_fields: "PsiParameters") -> "KeyedRows":
    """Return the granted rows of this node's one table by key.

    Raises:
        TaskRefusedError: fewer distinct keys than the grant's ``rows_min``.
    """
    from nodes.privacy.keys import keyed_rows

    table = cast("LargeTableView", next(iter(context.tables.values())))
    keyed = keyed_rows(table.arrow(), node_fields.keys[context.node])
    if len(keyed.items) < max(1, context.grant.thresholds.rows_min):
        raise TaskRefusedError(
            RefusalCode.RESOURCE_ROWS, f"expected at least {context.grant.thresholds.rows_min} rows with distinct keys"
        )
    return keyed


def minimum_of(context: TaskContext, parameters: PsiParameters) -> int:
    """Return the fewest common rows: the strictest of grant and order."""
    return max(context.grant.thresholds.rows_min, parameters.rows_min)


def _receive(party: Party, context: TaskContext) -> Finished:
    from nodes.privacy.psi import require_minimum
    from nodes.privacy.psi_kkrt import receive_intersection

    parameters = cast(PsiParameters, context.parameters)
    keyed = keyed_rows_of(context, parameters)
    channel = party.channel(party.peers[0])
    compared = receive_intersection(channel, keyed.items)
    rows = keyed.rows[np.flatnonzero(compared.shared)]
    require_minimum(len(rows), minimum_of(context, parameters))
    channel.send(_COUNT, len(rows).to_bytes(8, "big"))
    return _finished(context, len(rows), rows)


def _give(party: Party, context: TaskContext) -> Finished:
    from nodes.privacy.psi_kkrt import send_intersection

    parameters = cast(PsiParameters, context.parameters)
    keyed = keyed_rows_of(context, parameters)
    channel = party.channel(party.peers[0])
    send_intersection(channel, keyed.items)
    return _finished(context, _told_count(party, context, parameters))


def _lead(party: Party, context: TaskContext) -> Finished:
    from nodes.privacy.psi import lead

    parameters = cast(PsiParameters, context.parameters)
    rows = lead(party, keyed_rows_of(context, parameters), minimum=minimum_of(context, parameters))
    return _finished(context, len(rows), rows)


def _follow(party: Party, context: TaskContext) -> Finished:
    from nodes.privacy.psi import follow

    parameters = cast(PsiParameters, context.parameters)
    rows = follow(
        party, parameters.receiver, keyed_rows_of(context, parameters), minimum=minimum_of(context, parameters)
    )
    return _finished(context, len(rows), rows)


def _ask_count(party: Party, context: TaskContext) -> Finished:
    from nodes.privacy.psi import require_minimum
    from nodes.privacy.psi_cardinality import ask_count

    parameters = cast(PsiParameters, context.parameters)
    channel = party.channel(party.peers[0])
    count = ask_count(channel, keyed_rows_of(context, parameters).items)
    require_minimum(count, minimum_of(context, parameters))
    channel.send(_COUNT, count.to_bytes(8, "big"))
    return _finished(context, count)


def _answer_count(party: Party, context: TaskContext) -> Finished:
    from nodes.privacy.psi_cardinality import answer_count

    parameters = cast(PsiParameters, context.parameters)
    answer_count(party.channel(party.peers[0]), keyed_rows_of(context, parameters).items)
    return _finished(context, _told_count(party, context, parameters))


def _ask_prepared(party: Party, context: TaskContext) -> Finished:
    from nodes.privacy.psi import require_minimum
    from nodes.privacy.psi_prepared import ask

    parameters = cast(PsiParameters, context.parameters)
    keyed = keyed_rows_of(context, parameters)
    (peer,) = party.peers
    shared = ask(party.channel(peer), keyed.items, _prepared_file(context, parameters, peer))
    rows = keyed.rows[np.flatnonzero(shared)]
    require_minimum(len(rows), minimum_of(context, parameters))
    party.channel(peer).send(_COUNT, len(rows).to_bytes(8, "big"))
    return _finished(context, len(rows), rows)


def _answer_prepared(party: Party, context: TaskContext) -> Finished:
    from nodes.privacy.psi_prepared import answer, load, prepare, store

    parameters = cast(PsiParameters, context.parameters)
    path = _prepared_file(context, parameters, context.node)
    prepared = load(path)
    state = cast("LargeTableView", next(iter(context.tables.values()))).state()
    if prepared is None or not state or prepared.token != state:
        party.progress(preparing=1)
        prepared = prepare(keyed_rows_of(context, parameters).items, state or bytes(32), prepared)
        store(path, prepared)
        party.progress(preparing=0)
    if len(prepared.tags) < max(1, context.grant.thresholds.rows_min):
        raise TaskRefusedError(RefusalCode.RESOURCE_ROWS, "expected more rows with distinct keys")
    answer(party.channel(parameters.receiver), prepared.key, prepared.tags.tobytes())
    return _finished(context, _told_count(party, context, parameters))


def _join_union(party: Party, context: TaskContext) -> Finished:
    from nodes.privacy.psi import require_minimum
    from nodes.privacy.psi_union import join_union

    parameters = cast(PsiParameters, context.parameters)
    found = join_union(party.channel(party.peers[0]), keyed_rows_of(context, parameters))
    require_minimum(found.common, minimum_of(context, parameters))
    return _finished(context, found.common, found.rows)


def _prepared_file(context: TaskContext, parameters: PsiParameters, holder: str) -> Path:
    """Return the file for the tags of ``holder``: one per grant, holder and keys, at the holder and at the asker."""
    keys = canonical.dumps(parameters.model_dump(mode="json", include={"keys", "receiver"}))
    name = hashlib.sha256(f"{context.order.grant_sha256}\n{holder}\n".encode() + keys).hexdigest()[:32]
    return Path(context.state_dir).parents[1] / PREPARED / name


_HALVES: dict[str, tuple[Half, Half]] = {
    "intersection": (_receive, _give),
    "alignment": (_lead, _follow),
    "cardinality": (_ask_count, _answer_count),
    "prepared": (_ask_prepared, _answer_prepared),
    "union": (_join_union, _join_union),
}


def _told_count(party: Party, context: TaskContext, parameters: PsiParameters) -> int:
    """Hear from the receiver how many rows are common, and hold the own minimum against it."""
    from nodes.privacy.psi import require_minimum

    count = int.from_bytes(exactly(party.channel(parameters.receiver), _COUNT, 8), "big")
    require_minimum(count, minimum_of(context, parameters))
    return count


def _finished(context: TaskContext, count: int, rows: "NDArray[np.int64] | None" = None) -> Finished:
    """Keep the rows at this node and say how many they are, as coarsely as the grant wants."""
    base = context.grant.thresholds.round_base
    body = {"common": count // base * base, "suite": SUITE}
    outputs = []
    if rows is not None:
        outputs.append({"name": ROWS, "sha256": keep_rows(context, rows)})
    parties = len(context.order.parties)
    return Finished({"contributors": parties, "outputs": outputs, "common": body["common"], "suite": SUITE}, body)


def keep_rows(context: TaskContext, rows: "NDArray[np.int64]") -> str:
    """Write positions of common rows into the node's home and return the digest of the file."""
    folder = Path(context.state_dir).parents[1] / JOINS
    folder.mkdir(mode=0o700, exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, rows)
    path = folder / f"{context.order.session_id.replace(':', '_')}.npy"
    draft = path.with_suffix(".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(buffer.getvalue())
    draft.replace(path)
    return hashlib.sha256(buffer.getvalue()).hexdigest()
