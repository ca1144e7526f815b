"""The files of one report: its canonical bytes and the pages drawn from them, each whole or not at all."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rfc8785

from quality.projection import PAYLOAD_TYPE
from quality.report import html


def write_report(
    folder: Path, report: Mapping[str, Any], *, signature: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Write ``report.json`` and the pages in two languages.

    Args:
        folder: made if it is not there.
        report: of ``quality.projection.report_json``.
        signature: ``keyid`` and ``sig`` of the envelope around the bytes, for the pages; none before it is signed.

    Returns:
        Paths, the digest of the bytes, and what a caller needs to sign them.

    Raises:
        ReportError: the JSON is of another schema.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = bytes(rfc8785.dumps(dict(report)))
    digest = hashlib.sha256(content).hexdigest()
    replace(folder / "report.zh.html", html(report, lang="zh", sha256=digest, signature=signature).encode())
    replace(folder / "report.en.html", html(report, lang="en", sha256=digest, signature=signature).encode())
    replace(folder / "report.json", content)
    return {
        "report": str(folder / "report.json"),
        "sha256": digest,
        "html_zh": str(folder / "report.zh.html"),
        "html_en": str(folder / "report.en.html"),
        "payload_type": PAYLOAD_TYPE,
        "suite_sha256": report["suite"]["sha256"],
        "assessed_at": report["assessed_at"],
    }


def write_pdf(
    folder: Path, report: Mapping[str, Any], *, sha256: str, signature: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Write the PDF in two languages and return their paths.

    Raises:
        ReportError: the JSON is of another schema, or the extra ``reports`` is not installed.
    """
    from quality.pdf import pdf

    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / "report.zh.pdf", pdf(report, lang="zh", sha256=sha256, signature=signature))
    replace(folder / "report.en.pdf", pdf(report, lang="en", sha256=sha256, signature=signature))
    return {"pdf_zh": str(folder / "report.zh.pdf"), "pdf_en": str(folder / "report.en.pdf")}


def replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
