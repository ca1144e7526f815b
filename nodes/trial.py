"""A node of a throw-away trial, from first key to last answer in one process.

``python -m nodes.trial --home DIR --id NODE --desk DIR``. The desk is the folder over which
whoever runs the trial and this process hand files to each other:

    NODE.tables.json   in: per table ``resource``, ``path``, ``columns`` that are asked for, ``text`` columns
    root.json          in: the trial agency's root
    relay.txt          in: URL of the relay
    NODE.answer.json   in: the agency's answer to the enrolment

The steps and the code are those of a department's node: make a home, enrol, install the
answer, bind, serve. Two settings differ that only a department's own file can set: no quality
gate, and every valid grant is approved at once. For ``shufang try`` on local files; never for
a department's real node.

Privacy:
    The desk gets nothing from here but the enrolment in the home; tables are read in place.
"""

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nodes.agent.serve import serve
from nodes.binding import bind_entry
from nodes.books import Books
from nodes.catalogue_entries import CatalogueEntry
from nodes.contract.catalogue import Eligibility
from nodes.contract.errors import ContractError
from nodes.drafting import draft_entry
from nodes.enrolment import init_home, install_admission
from nodes.errors import CatalogueError, EnrolmentError, NodeError
from nodes.settings import NodeSettings, settings_toml

WAIT_EVERY_S = 0.02


def draft(tables: Sequence[Mapping[str, Any]], *, owner: str) -> list[CatalogueEntry]:
    """Draft the entries of a trial's tables.

    Args:
        tables: see ``NODE.tables.json`` in the module text.
        owner: organisation id.

    Raises:
        NodeError: a table cannot be read, or lacks a column that is asked for.
    """
    entries = []
    for table in tables:
        path = Path(table["path"])
        entry = draft_entry(path, resource=table["resource"], owner=owner, text_columns=table["text"])
        missing = [name for name in table["columns"] if name not in entry.column_names]
        if missing:
            raise CatalogueError(
                f"expected the columns {', '.join(missing[:5])} in {path.name}, got {', '.join(entry.column_names[:8])}"
                f"{' …' if len(entry.columns) > 8 else ''}; correct the recipe's columns, or the table"
            )
        # Files of whoever tries them: nobody's check for prohibited circumstances is awaited.
        checked = Eligibility(checked_by=owner, checked_on=f"{datetime.now(UTC):%Y-%m-%d}")
        columns = tuple(column.model_copy(update={"grade": "general"}) for column in entry.columns)
        entries.append(entry.model_copy(update={"eligibility": checked, "grade": "general", "columns": columns}))
    return entries


def run(home: Path, node: str, desk: Path, stop: threading.Event) -> None:
    """Be the node until ``stop`` is set or whoever started this process is gone.

    Raises:
        NodeError: a table, or the agency's answer, is not in order.
    """
    organisation = f"org-{node}"
    entries = draft(json.loads((desk / f"{node}.tables.json").read_bytes()), owner=organisation)
    settings = NodeSettings(
        home, node, organisation, node, node, planes=("relay",), quality_required=False, auto_approve_grants=True
    )
    init_home(settings, _await(desk / "root.json", stop), now=datetime.now(UTC))
    books = Books(settings.books)
    for entry in entries:
        bind_entry(settings, entry, books=books)
    books.close()
    answer = _await(desk / f"{node}.answer.json", stop)
    settings = replace(settings, relay=(desk / "relay.txt").read_text(encoding="ascii").strip())
    (home / "node.toml").write_text(settings_toml(settings), encoding="utf-8")
    install_admission(settings, answer, now=datetime.now(UTC))
    serve(settings, stop)


def main() -> int:
    """Do it; exit 1 with a message if something is not in order."""
    parser = argparse.ArgumentParser(prog="python -m nodes.trial", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--id", required=True)
    parser.add_argument("--desk", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        run(options.home.absolute(), options.id, options.desk, stop)
    except (NodeError, ContractError) as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return 1
    return 0


def _await(path: Path, stop: threading.Event) -> bytes:
    """Return a file that whoever runs the trial puts on the desk; files appear there whole."""
    parent = os.getppid()
    while not path.is_file():
        if stop.wait(WAIT_EVERY_S) or os.getppid() != parent:
            raise EnrolmentError(f"expected {path.name}; the trial was ended before")
    return path.read_bytes()


if __name__ == "__main__":
    sys.exit(main())
