"""Command line of the sample tables; see ``nodes.sample.department``."""

import argparse
import json
import sys
from pathlib import Path

from nodes.errors import NodeError
from nodes.sample.department import write_department


def main() -> int:
    """Write one department's sample tables and print what was laid where, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m nodes.sample", description="Sample tables of one department.")
    parser.add_argument("--home", type=Path, required=True, help="the node's home")
    parser.add_argument("--key", required=True, help="middle part of the catalogue ids, e.g. east")
    parser.add_argument("--owner", required=True, help="organisation id")
    parser.add_argument("--number", type=int, required=True, help="which department, from 0")
    parser.add_argument("--of", type=int, required=True, help="how many departments")
    parser.add_argument("--data", type=Path, help="folder with open tables instead of the built-in ones")
    parser.add_argument("--faulty", action="store_true", help="deliver the first table with a critical fault")
    parser.add_argument("--planted", type=Path, help="write the planted canaries to this file, outside the home")
    options = parser.parse_args()
    try:
        made = write_department(
            options.home,
            key=options.key,
            owner=options.owner,
            number=options.number,
            of=options.of,
            data=options.data,
            faulty=options.faulty,
        )
    except NodeError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return 1
    if options.planted:
        options.planted.write_text(json.dumps({item.resource: item.planted for item in made}, ensure_ascii=False))
    rows = [{"resource": item.resource, "kit": item.kit, "table": str(item.table)} for item in made]
    sys.stdout.write(json.dumps(rows, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
