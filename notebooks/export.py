"""Run the notebooks and write them with their outputs: ``python -m notebooks.export OUT [NAME …]``.

Per notebook two files that need neither network nor marimo to read: ``NAME.html`` and
``NAME.ipynb`` (nbformat 4.5).
"""

import argparse
import ast
import contextlib
import html
import importlib.util
import io
import json
import os
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
STYLE = (
    "body{font:15px/1.6 system-ui,'Noto Sans CJK SC',sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#f6f6f4;padding:.8rem;overflow:auto;font-size:13px}table{border-collapse:collapse;margin:1rem 0}"
    "td,th{border:1px solid #ccc;padding:.25rem .6rem;text-align:right}iframe{width:100%;border:1px solid #ccc}"
    "summary{color:#666;cursor:pointer}"
)


@dataclass(frozen=True)
class Cell:
    """One cell as it ran.

    Attributes:
        code: its source.
        output: what it showed, as HTML; may be empty.
    """

    code: str
    output: str


def sources(path: Path) -> list[str]:
    """Return the source of each cell of a marimo file, in order."""
    text = path.read_text("utf-8")
    found = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and any("app.cell" in ast.unparse(item) for item in node.decorator_list):
            body = [item for item in node.body if not isinstance(item, ast.Return)]
            lines = text.splitlines()[body[0].lineno - 1 : body[-1].end_lineno] if body else []
            found.append(textwrap.dedent("\n".join(lines)))
    return found


def run(path: Path) -> tuple[list[Cell], str]:
    """Run a notebook and return its cells and what it printed."""
    import marimo

    spec = importlib.util.spec_from_file_location(f"notebook_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        outputs, _ = module.app.run()
    shown = ["" if output is None else marimo.as_html(output).text for output in outputs]
    return [Cell(*pair) for pair in zip(sources(path), shown, strict=True)], printed.getvalue()


def page(title: str, cells: list[Cell], printed: str) -> str:
    """Return the notebook as one HTML page without scripts or links to elsewhere."""
    parts = [
        f"{cell.output}<details><summary>code</summary><pre>{html.escape(cell.code)}</pre></details>" for cell in cells
    ]
    return (
        f'<!doctype html><html lang="zh-CN"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style>{''.join(parts)}<pre>{html.escape(printed)}</pre></html>\n"
    )


def jupyter(cells: list[Cell], printed: str) -> str:
    """Return the notebook in Jupyter's format."""
    rows = []
    for number, cell in enumerate(cells, start=1):
        outputs = []
        if cell.output:
            outputs.append({"output_type": "display_data", "data": {"text/html": cell.output}, "metadata": {}})
        if number == len(cells) and printed:
            outputs.append({"output_type": "stream", "name": "stdout", "text": printed})
        rows.append(
            {"cell_type": "code", "id": f"cell-{number}", "execution_count": number, "metadata": {},
             "source": cell.code, "outputs": outputs}
        )  # fmt: skip
    document = {
        "cells": rows,
        "metadata": {
            "language_info": {"name": "python"},
            "kernelspec": {"name": "python3", "display_name": "Python 3"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def main() -> int:
    """Export all notebooks, or those named."""
    parser = argparse.ArgumentParser(prog="python -m notebooks.export", description="Run and export the notebooks.")
    parser.add_argument("out", type=Path, help="folder for the files")
    parser.add_argument("names", nargs="*", help="e.g. 01_model; all if none is given")
    options = parser.parse_args()
    known = {path.stem: path for path in sorted(FOLDER.glob("[0-9]*.py"))}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"expected names out of {', '.join(known)}, got {', '.join(unknown)}")
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MARIMO_SKIP_UPDATE_CHECK", "1")
    for name in options.names or known:
        cells, printed = run(known[name])
        for suffix, text in ((".html", page(name, cells, printed)), (".ipynb", jupyter(cells, printed))):
            target = options.out / f"{name}{suffix}"
            target.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
