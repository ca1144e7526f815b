"""Reading a package from disk with bounded time and memory, trusting nothing in it.

Every file is opened once, without following links; large ones are only digested. What the
later steps see is what was digested, so a file that changes meanwhile cannot be believed.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from products import kinds, repository
from products.errors import MalformedError, TooLargeError, UntrustedError
from products.limits import LIMITS
from products.package import paths
from products.package.bag import FileFacts, facts_of

_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PackageFiles:
    """A package as it was read.

    Attributes:
        facts: size and digests by path.
        content: bytes of the small files that are interpreted.
    """

    facts: dict[str, FileFacts]
    content: dict[str, bytes]

    @property
    def payload(self) -> dict[str, FileFacts]:
        """The files below ``data/``."""
        return {path: facts for path, facts in self.facts.items() if path.startswith(paths.DATA)}

    def below(self, prefix: str) -> dict[str, bytes]:
        """Return the interpreted files below ``prefix`` by their path."""
        return {path: data for path, data in self.content.items() if path.startswith(prefix)}


def read_package(package: Path) -> PackageFiles:
    """Read a package folder.

    Raises:
        MalformedError: not a folder, links, special files, paths that are not plain, or two
            paths that a case-insensitive system takes for one.
        TooLargeError: over a limit.
    """
    try:
        return _read(package)
    except OSError as error:
        raise MalformedError(f"expected a package that can be read: {error.strerror}") from error


def _read(package: Path) -> PackageFiles:
    facts: dict[str, FileFacts] = {}
    content: dict[str, bytes] = {}
    total = kept = 0
    for path, location, size in _walk(package):
        total += size
        if total > LIMITS.package_bytes_max:
            raise TooLargeError(f"expected at most {LIMITS.package_bytes_max} bytes in a package")
        if _is_interpreted(path):
            data = _read_small(location, path)
            kept += len(data)
            if kept > LIMITS.kept_bytes_max:
                raise TooLargeError(f"expected at most {LIMITS.kept_bytes_max} bytes outside data/")
            content[path] = data
            facts[path] = facts_of([data], sm3=path.startswith(paths.DATA))
        else:
            facts[path] = facts_of(_pieces(location, path, size), sm3=True)
    return PackageFiles(facts, content)


def read_trust(folder: Path) -> dict[str, bytes]:
    """Read what is needed of a live trust repository, by path relative to ``folder``.

    Raises:
        UntrustedError: a file that the metadata names is missing.
        MalformedError: metadata that does not parse.
        TooLargeError: over a limit.
    """
    files: dict[str, bytes] = {}
    for version in range(1, LIMITS.root_versions_max + 1):
        location = folder / "metadata" / f"{version}.root.json"
        if not location.is_file():
            break
        files[f"metadata/{version}.root.json"] = _read_small(location, location.name)
    while True:
        missing = [name for name in repository.needed_files(files) if name not in files]
        if not missing:
            return files
        for name in missing:
            location = folder / name
            if not location.is_file():
                raise UntrustedError(f"expected {name} in the trust repository {folder}")
            files[name] = _read_small(location, name)


def _is_interpreted(path: str) -> bool:
    return not path.startswith(paths.DATA) or kinds.is_content_checked(path)


def _walk(package: Path) -> Iterator[tuple[str, Path, int]]:
    """Yield path, location and size of every file, in order; refuse everything that is not plain."""
    if not package.is_dir():
        raise MalformedError(f"expected a package folder with bagit.txt, got no folder at {package}")
    seen: set[str] = set()
    pending: list[tuple[str, Path]] = [("", package)]
    while pending:
        prefix, folder = pending.pop()
        with os.scandir(folder) as scan:
            entries = []
            for entry in scan:
                entries.append(entry)
                if len(seen) + len(entries) > LIMITS.files_max:
                    raise TooLargeError(f"expected at most {LIMITS.files_max} files and folders in a package")
        if not entries:
            raise MalformedError(f"expected no empty folder in a package: {prefix or '.'!a}")
        for entry in sorted(entries, key=lambda item: os.fsencode(item.name)):
            path = prefix + entry.name
            paths.require_path(path)
            if paths.folded(path) in seen:
                raise MalformedError(f"expected paths that differ by more than case: {path!a}")
            seen.add(paths.folded(path))
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                pending.append((path + "/", Path(entry.path)))
            elif stat.S_ISREG(status.st_mode):
                yield path, Path(entry.path), status.st_size
            else:
                raise MalformedError(f"expected regular files and folders only, no link or device: {path!a}")


def _open(location: Path, path: str) -> int:
    try:
        descriptor = os.open(location, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise MalformedError(f"expected a readable regular file: {path!a} ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise MalformedError(f"expected a regular file: {path!a}")
    return descriptor


def _read_small(location: Path, path: str) -> bytes:
    with os.fdopen(_open(location, path), "rb") as stream:
        data = stream.read(LIMITS.tag_file_bytes_max + 1)
    if len(data) > LIMITS.tag_file_bytes_max:
        raise TooLargeError(f"expected at most {LIMITS.tag_file_bytes_max} bytes in {path!a}")
    return data


def _pieces(location: Path, path: str, size: int) -> Iterator[bytes]:
    seen = 0
    with os.fdopen(_open(location, path), "rb") as stream:
        while chunk := stream.read(_CHUNK):
            seen += len(chunk)
            if seen > size:
                raise MalformedError(f"the file changed while it was read: {path!a}")
            yield chunk
