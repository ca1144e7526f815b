"""Joins of real vertical tables, held against the plain join."""

from pathlib import Path

import pandas as pd
import pytest

from nodes.contract.tasks.match import MatchField
from nodes.privacy import psi
from nodes.privacy.keys import keyed_rows
from tests.party_pairs import pair

DATA = Path(__file__).parents[3].parent / "shared" / "data"
TABLES = {
    "breast": ("fate_small_hetero/breast_hetero_guest.csv", "fate_small_hetero/breast_hetero_host.csv", 569),
    "dvisits": ("fate_small_hetero/dvisits_hetero_guest.csv", "fate_small_hetero/dvisits_hetero_host.csv", 5190),
    "vehicle": (
        "fate_small_hetero/vehicle_scale_hetero_guest.csv", "fate_small_hetero/vehicle_scale_hetero_host.csv", 846,
    ),
    "credit": (
        "fate_default_credit/default_credit_hetero_guest.csv.gz",
        "fate_default_credit/default_credit_hetero_host.csv.gz",
        30_000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_private_join_has_the_rows_of_the_plain_one(name):
    left, right, rows = TABLES[name]
    if not (DATA / left).is_file() or not (DATA / right).is_file():
        pytest.skip(f"expected the shared data {left}")
    guest, host = (pd.read_csv(DATA / path, dtype={"id": str}) for path in (left, right))
    guest = guest.drop(index=guest.index[::7]).reset_index(drop=True)  # so that neither holds the other
    plain = set(guest["id"]) & set(host["id"])
    field = (MatchField(column="id"),)
    leader, follower = pair(
        lambda party: psi.lead(party, keyed_rows(guest, field), minimum=10).tolist(),
        lambda party: psi.follow(party, "node-a", keyed_rows(host, field), minimum=10).tolist(),
    )
    joined = guest["id"].to_numpy()[leader.value].tolist()
    assert joined == host["id"].to_numpy()[follower.value].tolist()
    assert set(joined) == plain
    assert len(host) == rows
