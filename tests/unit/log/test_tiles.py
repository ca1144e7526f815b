import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.log.errors import LogCorruptError
from factory.log.tiles import (
    RightEdge,
    TileReader,
    bundle_path,
    leftovers,
    pack_bundle,
    tile_path,
    tile_width,
    unpack_bundle,
)
from products.log import EMPTY_ROOT, leaf_hash, verify_consistency, verify_inclusion
from tests.unit.log.logs import entry, leaves, naive_root


def write_tree(root, size, *, batch=256):
    edge = RightEdge(0, [], [])
    while edge.size < size:
        step = min(batch, size - edge.size)
        edge, changed = edge.append([entry(edge.size + at) for at in range(step)])
        for path, data in changed.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
    return edge


def test_a_bundle_that_ends_within_an_entry_is_refused():
    with pytest.raises(LogCorruptError):
        unpack_bundle(b"\x00\x05abc")
    with pytest.raises(LogCorruptError):
        unpack_bundle(b"\x00")


def test_an_entry_beyond_the_length_field_is_refused():
    with pytest.raises(ValueError):
        pack_bundle([b"x" * 65536])


def test_a_missing_tile_is_reported_by_name(tmp_path):
    write_tree(tmp_path, 300)
    (tmp_path / "tile/0/000").unlink()
    with pytest.raises(LogCorruptError, match="tile/0/000"):
        TileReader(tmp_path, 300).inclusion_path(3, 300)


def test_a_tile_cut_short_is_reported(tmp_path):
    write_tree(tmp_path, 300)
    path = tmp_path / "tile/0/000"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LogCorruptError):
        TileReader(tmp_path, 300).inclusion_path(3, 300)


def test_a_bundle_that_differs_from_its_tile_is_refused_on_opening(tmp_path):
    write_tree(tmp_path, 5)
    (tmp_path / bundle_path(0, 5)).write_bytes(pack_bundle([entry(9)] * 5))
    with pytest.raises(LogCorruptError):
        RightEdge.read(TileReader(tmp_path, 5))


def test_proofs_beyond_the_tree_are_a_mistake_of_the_caller(tmp_path):
    write_tree(tmp_path, 5)
    reader = TileReader(tmp_path, 5)
    for index, size in ((5, 5), (-1, 5), (0, 6)):
        with pytest.raises(ValueError):
            reader.inclusion_path(index, size)
    with pytest.raises(ValueError):
        reader.consistency_path(4, 3)


def test_paths_are_those_of_the_specification():
    assert tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tile_path(3, 5, 17) == "tile/3/005.p/17"
    assert bundle_path(273, 112) == "tile/entries/273.p/112"
    assert bundle_path(1000) == "tile/entries/x001/000"


def test_tile_widths_are_those_of_the_specifications_example():
    assert tile_width(70_000, 0, 272) == 256
    assert tile_width(70_000, 0, 273) == 112
    assert tile_width(70_000, 1, 0) == 256
    assert tile_width(70_000, 1, 1) == 17
    assert tile_width(70_000, 2, 0) == 1
    assert tile_width(70_000, 3, 0) == 0


def test_a_tree_of_256_has_a_full_tile_and_one_hash_above_it(tmp_path):
    write_tree(tmp_path, 256)
    assert len((tmp_path / "tile/0/000").read_bytes()) == 8192
    assert len((tmp_path / "tile/1/000.p/1").read_bytes()) == 32


def test_the_empty_tree_has_the_hash_of_nothing(tmp_path):
    assert RightEdge(0, [], []).root == EMPTY_ROOT
    assert TileReader(tmp_path, 0).root_hash(0) == EMPTY_ROOT


@settings(max_examples=25, deadline=None)
@given(data=st.data(), size=st.integers(1, 700), batch=st.integers(1, 256))
def test_roots_and_proofs_agree_with_a_naive_tree(tmp_path_factory, data, size, batch):
    root = tmp_path_factory.mktemp("tree")
    edge = write_tree(root, size, batch=batch)
    every = leaves(size)
    reader = TileReader(root, size)
    assert edge.root == reader.root_hash(size) == naive_root(every)
    index = data.draw(st.integers(0, size - 1))
    path = reader.inclusion_path(index, size)
    verify_inclusion(index, size, every[index], path, edge.root)
    old = data.draw(st.integers(1, size))
    verify_consistency(old, naive_root(every[:old]), size, edge.root, reader.consistency_path(old, size))
    again = RightEdge.read(reader)
    assert again == edge
    assert list(reader.entries(old - 1)) == [entry(number) for number in range(old - 1, size)]


def test_a_tree_of_three_levels_agrees_with_the_naive_tree(tmp_path):
    size = 66_000
    edge = write_tree(tmp_path, size)
    every = leaves(size)
    assert edge.root == naive_root(every)
    reader = TileReader(tmp_path, size)
    for index in (0, 65_535, 65_536, size - 1):
        verify_inclusion(index, size, leaf_hash(entry(index)), reader.inclusion_path(index, size), edge.root)
    for old in (1, 256, 65_535, 65_536, 65_999):
        verify_consistency(old, naive_root(every[:old]), size, edge.root, reader.consistency_path(old, size))


def test_leftovers_are_what_lies_beyond_the_signed_tree(tmp_path):
    write_tree(tmp_path, 300)
    (tmp_path / "tile/0/001.p/45.writing").write_bytes(b"")
    found = {str(path.relative_to(tmp_path)) for path in leftovers(tmp_path, 200)}
    assert found == {
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/0/001.p/45.writing",
        "tile/entries/000",
        "tile/entries/001.p/44",
        "tile/1/000.p/1",
    }
    (tmp_path / "tile/0/001.p/45.writing").unlink()
    assert leftovers(tmp_path, 300) == []
