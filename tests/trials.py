"""Tables and recipes for local trials."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
PARTIES = ("east", "west", "north")
ROOT = Path(__file__).parents[1]


def clinic(folder: Path) -> dict[str, Path]:
    """Write breast examinations for three parties."""
    from nodes.sample.split import split_table

    return split_table("breast_cancer", PARTIES, folder, seed=11)


def diabetes(folder: Path) -> dict[str, Path]:
    """Write follow-ups for three parties."""
    from nodes.sample.split import split_table

    return split_table("diabetes", PARTIES, folder, seed=11)


def persons(folder: Path, *, encoding: str = "utf-8") -> dict[str, Path]:
    """Write a register of 60 persons, and seven questions of which four are about them."""
    people = [(f"王小{chr(0x4E00 + n)}", f"1101011990{n // 28 + 1:02d}{n % 28 + 1:02d}12{n % 10}X") for n in range(64)]
    register, questions = folder / "persons.csv", folder / "questions.jsonl"
    with register.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream).writerows([("name", "id_no", "sex"), *((*one, "1") for one in people[:60])])
    asked = [*people[:4], *people[60:63]]
    lines = [json.dumps({"name": name, "id_no": number}, ensure_ascii=False) for name, number in asked]
    questions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"north": register, "client": questions}


def changed(recipe: str, folder: Path, *swaps: tuple[str, str]) -> Path:
    """Write an example with texts replaced."""
    text = (EXAMPLES / recipe).read_text("utf-8")
    for old, new in swaps:
        assert old in text
        text = text.replace(old, new)
    path = folder / recipe
    path.write_text(text, encoding="utf-8")
    return path


def command(recipe: Path, tables: dict[str, Path], *more: str) -> list[str]:
    """Return the command line of ``shufang try``."""
    options = [word for party, path in tables.items() for word in ("--table", f"{party}={path}")]
    return [sys.executable, "-m", "factory.cli", "try", str(recipe), *options, *more]


def environment(temporary: Path) -> dict[str, str]:
    """Return an environment in which temporary files go to a folder that a test can look into."""
    temporary.mkdir(exist_ok=True)
    return {**os.environ, "TMPDIR": str(temporary)}


def children_of(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def is_alive(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        state = (Path("/proc") / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return state != b"Z"
