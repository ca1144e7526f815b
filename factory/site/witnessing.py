"""Make the transparency log and its witness, each in its own process: ``… SITE witness``, then ``… SITE log``.

The log's process writes ``tlog-policy.txt`` for the agency to sign; ``… SITE watch`` is the witness
again, which now learns the log's public key. No process opens the keys of both.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from factory.files import write_atomic
from factory.log.home import LogHome, WitnessPlace, witness_key, year_of
from factory.log.witness import create_home, open_home
from factory.site.layout import OPERATOR, Site


def main() -> int:
    """Make log and witness of the site named on the command line."""
    site = Site(Path(sys.argv[1]))
    folder = site.folder / "witness"
    match sys.argv[2]:
        case "witness":
            create_home(folder, name="witness.yunzhou/1", passphrase_file=site.passphrase("witness"))
        case "log":
            site.operator.mkdir(mode=0o700, parents=True, exist_ok=True)
            key = witness_key((folder / "vkey").read_text("utf-8").strip())
            place = WitnessPlace(key, str((folder / "address").absolute()))
            home = LogHome.create(site.log, operator=OPERATOR.id, witnesses=[place])
            home.prepare(year_of(datetime.now(UTC)), passphrase_file=site.passphrase("log"))
            write_atomic(site.folder / "tlog-policy.txt", home.policy_text())
        case "watch":
            log = LogHome.read(site.log)
            witness = open_home(folder)
            for year in log.years():
                witness.store.watch(log.key(year))
            witness.store.close()
        case other:
            raise ValueError(f"expected witness, log or watch, got {other}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
