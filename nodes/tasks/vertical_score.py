"""Node half of ``linear.vertical.score``; every node of the model does the same.

Privacy: this node sees which entities are asked for. What leaves is its part of each score plus
masks that it shares with each other node: uniform without the parts of all. Whoever adds them
learns the joint score of each entity, not whether a node has it, and not a part. Each
entity takes one unit of the grant's budget.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

from nodes.contract.messages import RefusalCode
from nodes.contract.signing import sha256_hex
from nodes.contract.tasks.match import MatchField, record_input
from nodes.contract.tasks.vertical_score import SCORE_MAX, UNIT, VerticalScoreParameters
from nodes.privacy.keys import KeyedRows, keyed_rows
from nodes.tasks import model_parts, vertical_design
from nodes.tasks.party import Finished, Party, start_party
from nodes.tasks.spec import Outcome, TableView, TaskContext, TaskRefusedError, TaskSession

_SEED_BYTES = 32
Ring = NDArray[np.uint64]


def start(context: TaskContext) -> tuple[TaskSession, Outcome]:
    """Open a session.

    Raises:
        TaskRefusedError: other parties than the parameters name, a part this node does not keep, a column missing,
            or not enough left of the budget.
    """
    parameters = context.parameters
    if not isinstance(parameters, VerticalScoreParameters):
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, "expected parameters of linear.vertical.score")
    if set(parameters.parts) != set(context.order.parties) or len(context.tables) != 1:
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, "expected parts of exactly the parties, and one table each")
    part = model_parts.load(context.parts_dir, parameters.parts[context.node])
    (view,) = context.tables.values()
    needed = {*(field.column for field in parameters.keys[context.node]), *(item["name"] for item in _features(part))}
    missing = sorted(needed - set(view.columns))
    if missing:
        raise TaskRefusedError(RefusalCode.GRANT_COLUMN, f"expected the order to name the columns {', '.join(missing)}")
    context.charge(len(parameters.entities))
    return start_party(context, run)


def run(party: Party, context: TaskContext) -> Finished:
    """Return this node's masked part of each score.

    Raises:
        TaskRefusedError: a value of the table that is not a number, or a peer that does not keep to the protocol.
    """
    parameters: VerticalScoreParameters = context.parameters  # type: ignore[assignment]  # checked when the order was taken
    part = model_parts.load(context.parts_dir, parameters.parts[party.node])
    (view,) = context.tables.values()
    scores = partial_scores(view, part, parameters.keys[party.node], parameters.entities)
    masked: Ring = np.rint(scores * UNIT).astype(np.int64).view(np.uint64)
    for peer in party.peers:
        masked = masked + _mask(party, peer, len(scores))
    content = masked.astype("<u8").tobytes()
    facts = {
        "contributors": len(parameters.parts),
        "outputs": [{"name": f"scores.{party.node}", "sha256": sha256_hex(content)}],
        "entities": len(scores),
    }
    return Finished(facts, {}, (content,))


def partial_scores(
    view: TableView, part: Mapping[str, Any], fields: Sequence[MatchField], entities: Sequence[Sequence[str]]
) -> NDArray[np.float64]:
    """Return this node's part of each entity's score, shape ``(entities,)``.

    Raises:
        TaskRefusedError: a value that is not a number, or a part beyond the range.
    """
    frame = view.frame()
    features = _features(part)
    names = [item["name"] for item in features]
    table = vertical_design.features_of(frame, names, [item["name"] for item in features if item["zero_is_missing"]])
    asked = np.full((len(entities), len(names)), np.nan)
    for row, place in enumerate(_places(keyed_rows(frame, fields), fields, entities)):
        if place is not None:
            asked[row] = table[place]
    means, scales, weights = (
        np.array([float.fromhex(item[key]) for item in features]) for key in ("mean", "scale", "weight")
    )
    limit = part["winsor_milli"] / 1000
    units = np.clip(np.where(np.isnan(asked), 0.0, (asked - means) / scales), -limit, limit)
    scores: NDArray[np.float64] = float.fromhex(part["intercept"]) + units @ weights
    if bool((np.abs(scores) > SCORE_MAX).any()):
        raise TaskRefusedError(RefusalCode.TASK_FAILED, "expected parts of scores within the range; train again")
    return scores


def _places(keyed: KeyedRows, fields: Sequence[MatchField], entities: Sequence[Sequence[str]]) -> list[int | None]:
    """Return each entity's row in the table, or None."""
    import pyarrow as pa
    import pyarrow.compute as pc

    items = keyed.items
    known = pa.Array.from_buffers(
        pa.large_binary(), len(items), [None, pa.py_buffer(items.offsets), pa.py_buffer(items.data)]
    )
    asked = pa.array([record_input(entity, fields) for entity in entities], pa.large_binary())
    found = pc.index_in(asked, value_set=known).to_pylist()
    return [None if place is None else int(keyed.rows[place]) for place in found]


def _features(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(part["features"])


def _mask(party: Party, peer: str, count: int) -> Ring:
    """Return the stream shared with ``peer``: the first by name draws the seed and adds it, the other subtracts."""
    channel = party.channel(peer)
    if party.node < peer:
        seed = secrets.token_bytes(_SEED_BYTES)
        channel.send("seed", seed)
    else:
        seed = channel.receive("seed", size_max=_SEED_BYTES)
    if len(seed) != _SEED_BYTES:
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected a seed of {_SEED_BYTES} bytes")
    # The seed is fresh and used for this one stream, so the nonce may be zero.
    stream = Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor().update(bytes(8 * count))
    words: Ring = np.frombuffer(stream, dtype="<u8").astype(np.uint64)
    return words if party.node < peer else np.uint64(0) - words
