"""The application unit's own questions: some of its customers are in the register, some are not.

It knows its customers; that the department's register holds them is what it asks. In the
main job they are drawn from the very table the department laid, so that the answers can be
compared with the truth; in a real deployment the file comes from the application unit.
"""

import csv
from pathlib import Path

from factory.pipelines.recipe import Recipe
from factory.site.layout import CLIENT, Site

HITS, MISSES = 6, 4


def write_questions(site: Site, recipe: Recipe) -> tuple[Path, list[bool]]:
    """Write a file of questions into the application unit's home.

    Returns:
        The file, and for each question whether it should match.
    """
    party = recipe.parties[0]
    department = next(d for d in site.departments if d.node == party.node)
    tables = site.node(department) / "tables"
    path = next(path for path in sorted(tables.glob("*.csv")) if set(party.columns) <= set(_header(path)))
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row[column] for column in party.columns)]
    step = max(1, len(rows) // (HITS + MISSES))
    chosen = [{column: row[column] for column in party.columns} for row in rows[step // 2 :: step][: HITS + MISSES]]
    expected = [True] * HITS + [False] * MISSES
    first = party.columns[0]
    for place in range(HITS, HITS + MISSES):
        chosen[place][first] = chosen[place - HITS][first] + "某" if place % 2 else "查无此人"
    target = site.home(CLIENT.id) / "questions.csv"
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, party.columns)
        writer.writeheader()
        writer.writerows(chosen)
    return target, expected


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), [])
