"""The power fails: what was not synced may be lost, each name by itself."""

import shutil

from factory.log.files import TEMPORARY_SUFFIX, DurableFiles
from factory.log.home import LogHome
from factory.log.log import Log
from tests.unit.log.logs import NOW, entry, fill, leaves, make_home, naive_root


class RecordingFiles(DurableFiles):
    def __init__(self):
        self.steps = []

    def write_synced(self, path, data):
        self.steps.append(("write", path, data))
        super().write_synced(path, data)

    def rename(self, source, target):
        self.steps.append(("rename", target, source.read_bytes()))
        super().rename(source, target)

    def sync_folder(self, folder):
        self.steps.append(("sync", folder, b""))
        super().sync_folder(folder)

    def make_folder(self, folder):
        self.steps.append(("mkdir", folder, b""))
        super().make_folder(folder)

    def unlink(self, path):
        self.steps.append(("unlink", path, b""))
        super().unlink(path)


def names_at_risk(steps):
    """Steps whose name is not yet on the disk: no sync of the folder came after them."""
    return [
        at
        for at, (kind, path, _) in enumerate(steps)
        if kind in ("rename", "mkdir", "unlink")
        and not any(later == "sync" and folder == path.parent for later, folder, _ in steps[at:])
    ]


def rebuild(steps, lost, source, target):
    for at, (kind, path, data) in enumerate(steps):
        place = target / path.relative_to(source)
        if at in lost or not place.parent.is_dir():
            continue
        if kind == "mkdir":
            place.mkdir(exist_ok=True)
        elif kind == "rename":
            place.write_bytes(data)
        elif kind == "unlink":
            place.unlink(missing_ok=True)


def test_after_a_power_failure_the_log_is_the_tree_before_or_after(tmp_path):
    already, count = 254, 4  # the first batch fills a tile
    template = make_home(tmp_path / "template")
    fill(template, already)
    shutil.copytree(template.folder, tmp_path / "run")
    recorder, acknowledged_at = RecordingFiles(), []
    with Log.open(LogHome.read(tmp_path / "run"), now=NOW, files=recorder) as log:
        for number in range(already, already + count, 2):
            log.append_entries([entry(number), entry(number + 1)])
            acknowledged_at.append((len(recorder.steps), number + 2))
    outcomes = set()
    for end in range(len(recorder.steps) + 1):
        steps = recorder.steps[:end]
        acknowledged = max([size for at, size in acknowledged_at if at <= end], default=already)
        risk = names_at_risk(steps)
        for lost in {frozenset(), frozenset(risk), frozenset(risk[-1:])}:
            folder = tmp_path / "crashed"
            shutil.copytree(template.folder, folder)
            rebuild(steps, lost, tmp_path / "run", folder)
            if steps and steps[-1][0] == "write":  # a temporary file with half its bytes
                half = folder / steps[-1][1].relative_to(tmp_path / "run")
                if half.parent.is_dir():
                    half.write_bytes(steps[-1][2][: len(steps[-1][2]) // 2])
            with Log.open(LogHome.read(folder), now=NOW) as log:
                size = log.checkpoint.size
                assert acknowledged <= size <= acknowledged + 2
                assert log.checkpoint.root == naive_root(leaves(size))
                log.append_entries([entry(number) for number in range(already + count)])
                assert log.checkpoint.root == naive_root(leaves(already + count))
            outcomes.add((acknowledged, size))
            assert not list((folder / "2026/tile").rglob(f"*{TEMPORARY_SUFFIX}"))
            shutil.rmtree(folder)
    assert outcomes >= {(already, already), (already, already + 2), (already + 2, already + 4)}
