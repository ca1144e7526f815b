"""Make the transparency log and its witness: ``python -m factory.site.witnessing SITE``.

Writes ``tlog-policy.txt`` for the agency to sign. The two keys belong to two parties; in an
embedded deployment one command makes both homes and forgets them.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from factory.files import write_atomic
from factory.log.home import LogHome, WitnessPlace, year_of
from factory.log.witness import create_home, open_home
from factory.site.layout import OPERATOR, Site


def main() -> int:
    """Make log and witness of the site named on the command line."""
    site = Site(Path(sys.argv[1]))
    folder = site.folder / "witness"
    key = create_home(folder, name="witness.yunzhou/1")
    site.operator.mkdir(mode=0o700, parents=True, exist_ok=True)
    home = LogHome.create(
        site.log, operator=OPERATOR.id, witnesses=[WitnessPlace(key, str((folder / "address").absolute()))]
    )
    log_key = home.prepare(year_of(datetime.now(UTC)))
    witness = open_home(folder)
    witness.store.watch(log_key)
    witness.store.close()
    write_atomic(site.folder / "tlog-policy.txt", home.policy_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
