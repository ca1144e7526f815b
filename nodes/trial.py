"""Make a node ready for a throw-away trial: ``python -m nodes.trial --home DIR --answer FILE --table FILE --resource ID``.

Installs the admission, drafts and binds the table, and sets what only a department's own
file can set: no quality gate, and every valid grant is approved at once. For ``shufang try``
on local files; never for a department's real node.
"""

import argparse
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from nodes.binding import bind_entry
from nodes.books import Books
from nodes.contract.errors import ContractError
from nodes.drafting import draft_entry
from nodes.enrolment import install_admission
from nodes.errors import NodeError
from nodes.settings import load_settings, settings_toml


def main() -> int:
    """Do it; exit 1 with a message if something is not in order."""
    parser = argparse.ArgumentParser(prog="python -m nodes.trial", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--answer", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--resource", required=True)
    options = parser.parse_args()
    try:
        settings = replace(load_settings(options.home), quality_required=False, auto_approve_grants=True)
        (options.home / "node.toml").write_text(settings_toml(settings), encoding="utf-8")
        install_admission(settings, options.answer.read_bytes(), now=datetime.now(UTC))
        entry = draft_entry(options.table, resource=options.resource, owner=settings.organisation)
        books = Books(settings.books)
        bind_entry(settings, entry, books=books)
        books.close()
    except (NodeError, ContractError) as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
