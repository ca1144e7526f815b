"""The departments' side of a sample deployment: lay tables, bind them, assess their quality.

Each act is a command that the department's own staff would run, on the department's own home.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from factory.site.layout import Department, Site
from factory.site.processes import run_module, run_modules

NODE_CLI, SAMPLE = "nodes.cli", "nodes.sample"


def lay_tables(site: Site, *, data: Path | None = None, faulty: Department | None = None) -> dict[str, list[str]]:
    """Have every department lay its sample tables, entries and suites into its node's home.

    Args:
        site: the deployment.
        data: folder with open tables; the built-in ones if not given.
        faulty: department whose first delivery has a fault that critical rules catch.

    Returns:
        Planted canaries by resource, for tests that search for them.
    """
    planted = site.folder / "planted"
    planted.mkdir(mode=0o700, parents=True, exist_ok=True)
    run_modules(
        [
            (
                SAMPLE, "--home", str(site.node(department)), "--key", department.key,
                "--owner", department.organisation, "--number", str(number), "--of", str(len(site.departments)),
                "--planted", str(planted / f"{department.node}.json"),
                *(("--data", str(data)) if data else ()), *(("--faulty",) if department == faulty else ()),
            )
            for number, department in enumerate(site.departments)
        ]
    )  # fmt: skip
    found: dict[str, list[str]] = {}
    for path in sorted(planted.glob("*.json")):
        found |= json.loads(path.read_text("utf-8"))
    return found


def deliver_again(site: Site, department: Department, *, data: Path | None = None) -> None:
    """Have one department deliver its tables anew, without the fault."""
    number = site.departments.index(department)
    run_module(
        SAMPLE, "--home", str(site.node(department)), "--key", department.key, "--owner", department.organisation,
        "--number", str(number), "--of", str(len(site.departments)), *(("--data", str(data)) if data else ()),
    )  # fmt: skip


def bind_tables(site: Site) -> list[dict[str, Any]]:
    """Have every department bind its tables and run their quality suites; departments work side by side.

    Returns:
        Per resource: node, verdict, score and the paths of its report.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=len(site.departments)) as pool:
        return [row for rows in pool.map(lambda d: _bind(site, d), site.departments) for row in rows]


def catalogue_tables(site: Site) -> None:
    """Have departments review and submit their entries, and the data administration confirm them."""
    run_modules(
        [
            (
                NODE_CLI, "entry", "review", "--home", str(site.node(d)), "--reviewer", "赵敏",
                "--compliance", "依法履职产生，可授权运营", "--security", "不出域，仅出聚合结果",
            )
            for d in site.departments
        ]
    )  # fmt: skip
    offered = site.folder / "offered"
    run_modules(
        [
            (NODE_CLI, "entry", "submit", "--home", str(site.node(d)), "--out", str(offered / d.node))
            for d in site.departments
        ]
    )
    act, home = ("factory.cli", "agency", "catalogue"), ("--home", str(site.agency))
    run_module(*act, "take", *home, *map(str, sorted(offered.glob("*/*.entry"))))
    run_module(*act, "confirm", *home, "--official", "王芳")
    run_module(*act, "bind", *home, *map(str, sorted(offered.glob("*/*.binding"))))


def register_personal(site: Site, *, node: str, resource: str, columns: Sequence[str], purpose: str) -> None:
    """Have a department register on what the use of personal information for a purpose rests."""
    home = next(site.node(d) for d in site.departments if d.node == node)
    run_module(
        NODE_CLI, "personal", "register", resource, "--home", str(home), "--id", f"pi-{purpose}"[:60],
        "--purpose", purpose, "--kind", "legal", "--group", "登记人口", "--reference", "示例：个人信息处理依据文件",
        *(text for column in columns for text in ("--column", column)),
    )  # fmt: skip


def assess(site: Site, department: Department) -> list[dict[str, Any]]:
    """Have a department run the suites of all its resources; a failed verdict is a result, not an error."""
    home = str(site.node(department))
    text = run_module(NODE_CLI, "quality", "run", "--all", "--home", home, "--json", accept=(0, 1))
    return [{"node": department.node, **row} for row in json.loads(text.strip().splitlines()[-1])]


def _bind(site: Site, department: Department) -> list[dict[str, Any]]:
    home = site.node(department)
    entries = sorted((home / "catalogue").glob("*.toml"))
    run_module(NODE_CLI, "bind", *(str(entry) for entry in entries), "--home", str(home))
    return assess(site, department)
