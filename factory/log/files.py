"""Durable files: the few operations by which the log changes its folder.

Every change of a log goes through one object of this kind, in a fixed order, so that a test
can stop the process at each operation. After ``replace_all`` returns, the files have their new
content even if the power fails; before, each has its old content or its new one.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

TEMPORARY_SUFFIX = ".writing"


class DurableFiles:
    """Operations on the disk; each is one point at which a process may die."""

    def replace_all(self, contents: Mapping[Path, bytes]) -> None:
        """Write several files so that all of them are durable on return.

        Args:
            contents: new content by path. Parent folders are made as needed.
        """
        folders: set[Path] = set()
        for path in contents:
            folders |= self._make_folder(path.parent)
        for path, data in contents.items():
            self.write_synced(_temporary(path), data)
        for path in contents:
            self.rename(_temporary(path), path)
            folders.add(path.parent)
        for folder in sorted(folders):
            self.sync_folder(folder)

    def replace(self, path: Path, data: bytes) -> None:
        """Write one file so that it is durable on return."""
        self.replace_all({path: data})

    def remove_all(self, paths: Iterable[Path]) -> None:
        """Remove files that may be absent, and folders that became empty. Need not be durable."""
        for path in paths:
            with suppress(FileNotFoundError):
                self.unlink(path)
            with suppress(OSError):  # not empty, or gone
                path.parent.rmdir()

    def write_synced(self, path: Path, data: bytes) -> None:
        """Write a new file and wait until its bytes are on the disk."""
        with path.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())

    def rename(self, source: Path, target: Path) -> None:
        """Replace ``target`` by ``source`` in one step."""
        source.replace(target)

    def sync_folder(self, folder: Path) -> None:
        """Wait until the names in ``folder`` are on the disk."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def unlink(self, path: Path) -> None:
        """Remove one file."""
        path.unlink()

    def make_folder(self, folder: Path) -> None:
        """Make one folder whose parent exists."""
        folder.mkdir(mode=0o755)

    def _make_folder(self, folder: Path) -> set[Path]:
        """Make a folder and its parents; return the folders whose names changed."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for name in reversed(missing):
            self.make_folder(name)
        return {name.parent for name in missing}


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + TEMPORARY_SUFFIX)
