"""An attack: work out one department's figure from everything the hub and the operator saw. It must fail."""

import re
import struct
from pathlib import Path

import numpy as np
from scipy.optimize import linprog
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from nodes.contract import wire
from nodes.contract.ckks import Scheme
from nodes.contract.messages import Result, parse
from nodes.contract.parameters import CKKS_SUMS
from nodes.contract.tasks.sums import to_limbs
from nodes.privacy.ckks import encrypt
from nodes.privacy.counting import vector
from tests.sums_world import FRAMES, NODES, PARAMETERS, World

DIGEST = re.compile(r"[0-9a-f]{64}")


def seen(world: World) -> list[tuple[str, str, str, list[int]]]:
    """Everything that passed the hub, but for what is random by design: digests, signatures, names of sessions."""
    views = []
    for node, kind, data in world.trial.bus.seen:
        envelope, parts = wire.unpack(data)
        body = DIGEST.sub("<digest>", repr(parse(Result, envelope.payload).body))
        body = re.sub(r"'session_id': '[^']*'", "'session_id': <name>", body)
        views.append((node, kind, body, [len(part) for part in parts if kind != "sums.attest"]))
    return views


def everything(world: World) -> bytes:
    agency = [part for query, parts in world.queries for part in (query.to_payload(), *parts)]
    return b"".join([*(data for _, _, data in world.trial.bus.seen), *agency])


def test_two_departments_that_swap_their_rows_leave_the_operators_view_as_it_was(tmp_path: Path) -> None:
    swapped = dict(FRAMES) | {"node-east": FRAMES["node-west"], "node-west": FRAMES["node-east"]}
    assert not FRAMES["node-east"].equals(FRAMES["node-west"])
    worlds, tables = [], []
    for name, frames in (("as-is", FRAMES), ("swapped", swapped)):
        (tmp_path / name).mkdir()
        world = World(tmp_path / name, frames=frames)
        tables.append(world.compute().tables_bytes)
        worlds.append(world)
    assert tables[0] == tables[1]
    assert seen(worlds[0]) == seen(worlds[1])


def test_no_figure_of_a_department_is_among_the_bytes(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.compute()
    stream = everything(world)
    assert len(stream) > 500_000
    for name, frame in FRAMES.items():
        figures = {value for value in vector(frame, PARAMETERS) if abs(value) > 2**24}
        assert figures, name
        for value in figures:
            for form in (str(value).encode(), struct.pack("<q", value), struct.pack("<d", float(value))):
                assert form not in stream
                assert form.hex().encode() not in stream


def test_published_tables_leave_a_departments_count_anywhere_between_none_and_all(tmp_path: Path) -> None:
    world = World(tmp_path, round_base=1)
    table = next(table for table in world.compute().tables if table["name"] == "by-kind")
    published = {cell["at"][0]: cell["value"] for cell in table["cells"] if cell["state"] == "published"}
    labels = table["axes"][0]
    place = {(node, label): at for at, (node, label) in enumerate((n, k) for n in NODES for k in labels)}
    rows, totals = [], []
    for at, value in published.items():
        row = np.zeros(len(place))
        for (_, label), column in place.items():
            row[column] = at in ("*", label)
        rows.append(row)
        totals.append(value)
    (label, total) = next((label, value) for label, value in published.items() if label != "*")
    target = np.zeros(len(place))
    target[place["node-east", label]] = 1
    ends = [
        side * linprog(side * target, A_eq=np.array(rows), b_eq=totals, bounds=(0, None)).fun for side in (1.0, -1.0)
    ]
    assert (round(ends[0]), round(ends[1])) == (0, total)


def test_of_two_candidates_for_a_departments_figures_the_ciphertext_does_not_tell_which(tmp_path: Path) -> None:
    world = World(tmp_path)
    public = world.call("he.public_key", {"session_id": "s-1"}, ()).attachments[1]
    scheme = Scheme(CKKS_SUMS.name)
    candidates = [to_limbs(vector(FRAMES[name], PARAMETERS)) for name in ("node-east", "node-west")]
    assert candidates[0] != candidates[1]
    sealed = [encrypt(scheme, public, candidates[number % 2])[0] for number in range(40)]
    assert len(set(sealed)) == 40  # trying a candidate out gives other bytes every time
    features = []
    for data in sealed:
        words = np.frombuffer(data[len(data) % 8 :], dtype="<u8")
        counts = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256) / len(data)
        features.append([*counts, (words >> np.uint64(40)).mean() / 2**20, words.std() / 2**60])
    answers = np.arange(40) % 2
    score = cross_val_score(LogisticRegression(max_iter=2000), features, answers, cv=5, scoring="roc_auc").mean()
    assert 0.1 < score < 0.9


def test_differences_of_ciphertexts_open_under_no_key_that_the_operator_can_make(tmp_path: Path) -> None:
    import tenseal.sealapi as seal

    world = World(tmp_path)
    world.compute()
    own = {node: wire.unpack(data)[1] for node, kind, data in world.trial.bus.seen if kind == "sums.reveal"}
    scheme = Scheme(CKKS_SUMS.name)
    difference = scheme.ciphertext(own["node-east"][0])
    seal.Evaluator(scheme.context).sub_inplace(difference, scheme.ciphertext(own["node-west"][0]))
    plain = seal.Plaintext()
    seal.Decryptor(scheme.context, seal.KeyGenerator(scheme.context).secret_key()).decrypt(difference, plain)
    found = np.array(seal.CKKSEncoder(scheme.context).decode_double(plain))
    low = [limbs[0] for limbs in (to_limbs(vector(FRAMES[name], PARAMETERS)) for name in ("node-east", "node-west"))]
    right = np.array(low[0][:50]) - np.array(low[1][:50])
    assert np.abs(found[:50] - right).min() > 2**20  # far from every true difference
    assert not list((world.home / "keys").rglob("*.secret"))  # the one that would do is gone
