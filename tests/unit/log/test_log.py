import os
import shutil
import signal
from datetime import UTC, datetime

import pytest

from factory.log.errors import (
    LogBusyError,
    LogCorruptError,
    LogDiskError,
    LogEntryError,
    LogFrozenError,
    LogKeyError,
    LogMissingError,
    LogRollbackError,
    NotWitnessedError,
)
from factory.log.files import DurableFiles
from factory.log.home import LogHome
from factory.log.log import Log, Submission
from factory.log.shard import Shard
from products.log import LogProof, leaf_hash
from tests.unit.log.logs import NOW, DyingFiles, entry, fill, leaves, make_home, naive_root, signing_key, submission


def test_an_envelope_of_another_key_is_refused_and_nothing_is_appended(tmp_path):
    home = make_home(tmp_path)
    wrong = Submission(submission(1).envelope, signing_key(1).public.spki)
    with Log.open(home, now=NOW) as log:
        with pytest.raises(LogEntryError):
            log.append([submission(0), wrong])
        assert log.checkpoint.size == 0


def test_an_altered_envelope_is_refused(tmp_path):
    good = submission(1).envelope
    other = submission(2).envelope
    payload = other.split(b'"payload":"')[1].split(b'"')[0]
    altered = good.replace(good.split(b'"payload":"')[1].split(b'"')[0], payload)
    with Log.open(make_home(tmp_path), now=NOW) as log:
        with pytest.raises(LogEntryError):
            log.append([Submission(altered, submission(1).spki)])
        with pytest.raises(LogEntryError):
            log.append([Submission(b"{}", submission(1).spki)])


def test_two_writers_exclude_each_other(tmp_path):
    home = make_home(tmp_path)
    with Log.open(home, now=NOW):
        with pytest.raises(LogBusyError):
            Log.open(home, now=NOW)
        with pytest.raises(LogBusyError):
            Log.open(home, now=NOW, wait_s=0.05)
    Log.open(home, now=NOW).close()


def test_a_key_open_to_others_is_refused(tmp_path):
    home = make_home(tmp_path)
    (tmp_path / "keys/2026.pem").chmod(0o640)
    with pytest.raises(LogKeyError):
        Log.open(home, now=NOW)
    (tmp_path / "keys/2026.pem").chmod(0o600)
    (tmp_path / "keys").chmod(0o755)
    with pytest.raises(LogKeyError):
        Log.open(home, now=NOW)


def test_a_folder_without_log_is_named(tmp_path):
    with pytest.raises(LogMissingError, match="shufang log init"):
        LogHome.read(tmp_path)


def test_a_year_that_is_not_prepared_is_refused(tmp_path):
    home = make_home(tmp_path)
    with pytest.raises(LogMissingError, match="2027"):
        Log.open(home, now=datetime(2027, 1, 1, tzinfo=UTC))


def test_a_tree_put_back_to_an_older_state_is_never_signed(tmp_path):
    home = make_home(tmp_path / "log")
    fill(home, 10)
    shutil.copytree(home.shard(2026), tmp_path / "old")
    fill(home, 10, start=10)
    shutil.rmtree(home.shard(2026))
    shutil.copytree(tmp_path / "old", home.shard(2026))
    with pytest.raises(LogCorruptError):
        Log.open(home, now=NOW)
    assert Shard(home, 2026).checkpoint().checkpoint.size == 10  # left as it was found, for the investigation
    assert (home.shard(2026) / "tile/0/000.p/10").exists()


def test_a_record_put_back_to_an_older_state_is_refused(tmp_path):
    home = make_home(tmp_path / "log")
    fill(home, 10)
    old = home.signed_path(2026).read_bytes()
    fill(home, 10, start=10)
    home.signed_path(2026).write_bytes(old)
    with pytest.raises(LogRollbackError):
        Log.open(home, now=NOW)
    assert (home.shard(2026) / "tile/0/000.p/20").exists()


def test_an_altered_record_is_refused(tmp_path):
    home = make_home(tmp_path)
    fill(home, 3)
    signed = home.signed_path(2026)
    signed.write_bytes(signed.read_bytes().replace(b"\n3\n", b"\n2\n"))
    with pytest.raises(LogCorruptError):
        Log.open(home, now=NOW)


@pytest.mark.parametrize("name", ["tile/0/000.p/20", "tile/entries/000.p/20"])
def test_a_corrupted_file_of_the_edge_stops_the_writer(tmp_path, name):
    home = make_home(tmp_path)
    fill(home, 20)
    path = home.shard(2026) / name
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(LogCorruptError):
        Log.open(home, now=NOW)


def test_a_tree_that_does_not_extend_the_signed_one_is_not_signed(tmp_path):
    home = make_home(tmp_path)
    with Log.open(home, now=NOW) as log:
        log.append_entries([entry(number) for number in range(10)])
        signed = home.signed_path(2026).read_bytes()
        log._edge.levels[0][3] = bytes(32)  # a fault of memory, or of ours
        with pytest.raises(LogRollbackError):
            log.append_entries([entry(77)])
        assert home.signed_path(2026).read_bytes() == signed
        assert log.append_entries([entry(10)]) == [10]
        assert log.checkpoint.root == naive_root(leaves(11))


def test_a_corrupted_tile_gives_no_proof(tmp_path):
    home = make_home(tmp_path)
    fill(home, 300)
    path = home.shard(2026) / "tile/0/000"
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    with pytest.raises(LogCorruptError):
        Shard(home, 2026).prove(1)


def test_a_full_disk_acknowledges_nothing_and_the_log_goes_on_afterwards(tmp_path):
    class FullDisk(DurableFiles):
        full = False

        def write_synced(self, path, data):
            if self.full and path.name.startswith("signed"):
                raise OSError(28, "No space left on device")
            super().write_synced(path, data)

    home, disk = make_home(tmp_path), FullDisk()
    with Log.open(home, now=NOW, files=disk) as log:
        log.append_entries([entry(number) for number in range(250)])
        disk.full = True
        with pytest.raises(LogDiskError, match="No space left"):
            log.append_entries([entry(number) for number in range(900, 910)])
        disk.full = False
        assert log.append_entries([entry(250)]) == [250]
        assert log.checkpoint.root == naive_root(leaves(251))
        assert not (home.shard(2026) / "tile/0/000").exists()


def test_the_same_statement_is_logged_once(tmp_path):
    home = make_home(tmp_path)
    with Log.open(home, now=NOW) as log:
        assert log.append([submission(0), submission(1), submission(0)]) == [0, 1, 0]
        assert log.append([submission(1), submission(2)]) == [1, 2]
    with Log.open(home, now=NOW) as log:
        assert log.append([submission(2), submission(0)]) == [2, 0]
        assert log.checkpoint.size == 3


def test_an_index_that_was_lost_or_damaged_is_made_again(tmp_path):
    home = make_home(tmp_path)
    fill(home, 300)
    index = home.state(2026) / "index.db"
    for damage in (b"no database at all" * 300, b""):
        index.write_bytes(damage)
        with Log.open(home, now=NOW) as log:
            assert log.append_entries([entry(299), entry(0)]) == [299, 0]


def test_a_new_year_has_its_own_tree_and_freezes_the_old_one(tmp_path):
    home = make_home(tmp_path)
    fill(home, 3)
    assert home.prepare(2027).name == "log.op/2027"
    with Log.open(home, now=datetime(2027, 1, 1, tzinfo=UTC)) as log:
        assert log.append_entries([entry(0)]) == [0]
        assert log.origin == "log.op/2027"
    with pytest.raises(LogFrozenError):
        Log.open(home, now=NOW)
    assert Shard(home, 2026).checkpoint().checkpoint.size == 3
    assert LogProof.from_bytes(Shard(home, 2026).prove(2)).note.checkpoint.origin == "log.op/2026"


def test_a_proof_holds_for_its_entry(tmp_path):
    home = make_home(tmp_path)
    fill(home, 300)
    proof = LogProof.from_bytes(Shard(home, 2026).prove(299))
    proof.verify(entry(299))
    assert Shard(home, 2026).find(leaf_hash(entry(299))) == 299
    assert Shard(home, 2026).find(leaf_hash(b"absent")) is None
    with pytest.raises(NotWitnessedError):
        Shard(home, 2026).prove(300)


def die_and_reopen(home, dies_at, *, already, count):
    """Append in a child that dies at an operation. Return whether it died, and what it acknowledged."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        files = DyingFiles(dies_at)
        with Log.open(home, now=NOW, files=files) as log:
            for number in range(already, already + count, 3):
                batch = [entry(at) for at in range(number, min(number + 3, already + count))]
                os.write(writes, bytes([log.append_entries(batch)[-1] - already + 1]))
        os._exit(0)
    os.close(writes)
    acknowledged = already
    while got := os.read(reads, 100):
        acknowledged = already + got[-1]
    os.close(reads)
    _, status = os.waitpid(child, 0)
    died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert died or status == 0
    return died, acknowledged


def test_a_writer_killed_at_any_write_loses_nothing_it_acknowledged(tmp_path):
    already, count = 251, 6  # crosses the edge of a tile
    template = make_home(tmp_path / "template")
    fill(template, already)
    seen, dies_at, died = set(), 0, True
    while died:
        dies_at += 1
        folder = tmp_path / f"at-{dies_at}"
        shutil.copytree(template.folder, folder)
        home = LogHome.read(folder)
        died, acknowledged = die_and_reopen(home, dies_at, already=already, count=count)
        with Log.open(home, now=NOW) as log:
            size = log.checkpoint.size
            assert acknowledged <= size <= acknowledged + 3
            assert log.checkpoint.root == naive_root(leaves(size))
            assert Shard(home, 2026).checkpoint().checkpoint == log.checkpoint
            log.append_entries([entry(number) for number in range(already + count)])
            assert log.checkpoint.root == naive_root(leaves(already + count))
        names = {path.name for path in folder.rglob("*") if path.is_file()}
        assert not any(name.endswith(".writing") for name in names)
        seen.add((acknowledged, size))
        shutil.rmtree(folder)
    assert dies_at > 30
    assert seen >= {(251, 251), (251, 254), (254, 257), (257, 257)}


def test_a_shard_killed_while_it_is_prepared_can_be_prepared_again(tmp_path):
    for dies_at in range(1, 12):
        folder = tmp_path / str(dies_at)
        home = LogHome.create(folder, operator="op")
        child = os.fork()
        if child == 0:
            home.prepare(2026, files=DyingFiles(dies_at))
            os._exit(0)
        os.waitpid(child, 0)
        home.prepare(2026)
        fill(home, 2)
        assert Shard(home, 2026).checkpoint().checkpoint.size == 2
