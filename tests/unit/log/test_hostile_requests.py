import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.log.errors import LogCorruptError
from factory.log.tiles import pack_bundle, unpack_bundle
from factory.log.witness import AddCheckpoint, create_home, open_home
from factory.log.witness_store import Held
from products.errors import ProductError
from tests.unit.log.logs import fill, make_home
from tests.unit.log.test_witness import NOW_S, request_bytes, signed


@given(st.binary(max_size=400))
@settings(max_examples=80, deadline=None)
def test_bytes_that_are_no_request_are_refused_as_such(body):
    with pytest.raises(ProductError):
        AddCheckpoint.from_bytes(body)


@given(st.binary(max_size=600))
@settings(max_examples=80, deadline=None)
def test_a_bundle_is_read_back_or_refused(bundle):
    try:
        entries = unpack_bundle(bundle)
    except LogCorruptError:
        return
    assert pack_bundle(entries) == bundle


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    home = make_home(folder / "log")
    fill(home, 5)
    create_home(folder / "w", name="witness.example/1")
    witness = open_home(folder / "w")
    witness.store.watch(home.key(2026))
    yield witness, request_bytes(0, [], signed(home))
    witness.store.close()


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_no_altered_request_is_ever_cosigned(watched, data):
    witness, good = watched
    at = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != good[at]))
    answer = witness.add_checkpoint(good[:at] + bytes([byte]) + good[at + 1 :], now_s=NOW_S)
    assert answer.status in (400, 403, 404, 409)
    held: Held | None = witness.store.held("log.op/2026")
    assert held is None
