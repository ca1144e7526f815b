import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from factory.log.batching import Batcher
from factory.log.errors import LogDiskError, LogEntryError
from factory.log.files import DurableFiles
from factory.log.log import Log, Submission
from tests.unit.log.logs import NOW, make_home, submission


class CountingFiles(DurableFiles):
    def __init__(self):
        self.checkpoints = 0
        self.full = False

    def write_synced(self, path, data):
        if self.full:
            raise OSError(28, "No space left on device")
        self.checkpoints += path.name.startswith("checkpoint")
        super().write_synced(path, data)


def test_a_bad_submission_is_refused_at_once(tmp_path):
    with Log.open(make_home(tmp_path), now=NOW) as log, Batcher(log) as batcher, pytest.raises(LogEntryError):
        batcher.submit(Submission(b"{}", submission(0).spki))


def test_a_disk_error_reaches_every_submitter_of_the_batch(tmp_path):
    files = CountingFiles()
    with Log.open(make_home(tmp_path), now=NOW, files=files) as log, Batcher(log, delay_s_max=0.05) as batcher:
        files.full = True
        futures = [batcher.submit(submission(number)) for number in range(3)]
        for future in futures:
            with pytest.raises(LogDiskError):
                future.result(5)
        files.full = False
        assert batcher.submit(submission(0)).result(5) == 0


def test_a_closed_batcher_takes_nothing_more_and_finishes_what_waits(tmp_path):
    with Log.open(make_home(tmp_path), now=NOW) as log:
        with Batcher(log) as batcher:
            futures = [batcher.submit(submission(number)) for number in range(5)]
        assert [future.result(0) for future in futures] == [0, 1, 2, 3, 4]
        with pytest.raises(ValueError):
            batcher.submit(submission(9))


def test_submitters_share_checkpoints_and_none_waits_beyond_the_delay(tmp_path):
    files = CountingFiles()
    with Log.open(make_home(tmp_path), now=NOW, files=files) as log, Batcher(log, delay_s_max=0.2) as batcher:
        before, began = files.checkpoints, time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            futures = list(pool.map(lambda number: batcher.submit(submission(number)), range(40)))
        assert sorted(future.result(5) for future in futures) == list(range(40))
        assert time.monotonic() - began < 3
        assert files.checkpoints - before <= 3


def test_a_full_batch_does_not_wait(tmp_path):
    with Log.open(make_home(tmp_path), now=NOW) as log, Batcher(log, size_max=4, delay_s_max=60) as batcher:
        futures = [batcher.submit(submission(number)) for number in range(8)]
        assert [future.result(5) for future in futures] == list(range(8))
