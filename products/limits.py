"""Limits on what the verifier reads: a hostile package costs bounded time and memory.

A package is read file by file in chunks; only the small control files are held in memory.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest accepted package. Sizes in bytes.

    Attributes:
        files_max: files in a package.
        package_bytes_max: sum of all files.
        path_bytes_max: length of one relative path in UTF-8.
        path_depth_max: components of one path.
        tag_file_bytes_max: a manifest or another tag file that is not an envelope.
        kept_bytes_max: all files that are interpreted, together; they are held in memory.
        envelope_bytes_max: one DSSE envelope.
        envelopes_max: envelopes of one package.
        proof_bytes_max: one log proof.
        metadata_bytes_max: one TUF metadata file or target.
        root_versions_max: longest accepted chain of roots.
        note_signatures_max: signature lines of one checkpoint.
        subjects_max: subjects of one statement.
    """

    files_max: int = 20_000
    package_bytes_max: int = 16 * 1024**3
    path_bytes_max: int = 240
    path_depth_max: int = 12
    tag_file_bytes_max: int = 16 * 1024**2
    kept_bytes_max: int = 128 * 1024**2
    envelope_bytes_max: int = 8 * 1024**2
    envelopes_max: int = 2_000
    proof_bytes_max: int = 64 * 1024
    metadata_bytes_max: int = 4 * 1024**2
    root_versions_max: int = 64
    note_signatures_max: int = 32
    subjects_max: int = 20_000


LIMITS = Limits()
