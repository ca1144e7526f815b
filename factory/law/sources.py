"""What the sources say about requirements: the tests that claim to show one, and the modules that cite one.

Nothing is imported or run; files are read as text.
"""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from factory.law.table import Stage

PACKAGES = ("factory", "nodes", "products", "quality")
MARK = "requirement"


def root() -> Path:
    """Return the folder that holds the packages."""
    return Path(__file__).resolve().parents[2]


def marked_tests(tests: Path) -> dict[str, tuple[str, ...]]:
    """Return the tests that are marked with each requirement.

    Args:
        tests: folder of tests; names are given relative to its parent.

    Returns:
        Names ``tests/…/test_x.py::test_y`` by requirement id, sorted.
    """
    found: dict[str, set[str]] = {}
    for path in sorted(tests.rglob("test_*.py")):
        place = path.relative_to(tests.parent).as_posix()
        for name, ids in _claims(ast.parse(path.read_text("utf-8"))):
            for requirement in ids:
                found.setdefault(requirement, set()).add(f"{place}::{name}")
    return {requirement: tuple(sorted(names)) for requirement, names in sorted(found.items())}


def _claims(module: ast.Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    of_module = _of_assignment(module)
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield node.name, (*of_module, *_ids(node.decorator_list))
        elif isinstance(node, ast.ClassDef):
            of_class = (*of_module, *_ids(node.decorator_list))
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name.startswith("test"):
                    yield f"{node.name}::{inner.name}", (*of_class, *_ids(inner.decorator_list))


def _of_assignment(module: ast.Module) -> tuple[str, ...]:
    for node in module.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets):
            return _ids(node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [node.value])
    return ()


def _ids(decorators: Iterable[ast.expr]) -> tuple[str, ...]:
    ids: list[str] = []
    for node in decorators:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == MARK:
            ids += [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return tuple(ids)


def citing_modules(folder: Path, requirements: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the modules whose source cites each requirement; the law's own data does not count."""
    names = sorted(requirements, key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, names))})(?![\w-])")
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in sorted((folder / package).rglob("*.py")):
            module = ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
            if module.startswith("factory.law"):
                continue
            for requirement in set(pattern.findall(path.read_text("utf-8"))):
                found.setdefault(requirement, set()).add(module)
    return {requirement: tuple(sorted(modules)) for requirement, modules in found.items()}


def digest(folder: Path) -> str:
    """Return the SHA-256 over all Python sources of packages and tests, so that old results are known as old."""
    total = hashlib.sha256()
    for package in (*PACKAGES, "tests"):
        for path in sorted((folder / package).rglob("*.py")):
            total.update(path.relative_to(folder).as_posix().encode() + b"\0")
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def missing_modules(folder: Path, controls: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return modules that are named as controls and are not there."""
    return tuple(
        sorted(
            module
            for modules in controls.values()
            for module in modules
            if not (folder / Path(*module.split("."))).with_suffix(".py").is_file()
            and not (folder / Path(*module.split(".")) / "__init__.py").is_file()
        )
    )


def stage_gaps(folder: Path, stages: Iterable[Stage]) -> dict[str, str]:
    """Return what a stage of the data's life lacks: a control, its module, or the record it should leave."""
    gaps = {}
    for stage in stages:
        lacking = [m for m, record in stage.controls.items() if not _leaves(_source(folder, m), record)]
        if not stage.controls:
            gaps[stage.id] = "no control is assigned"
        elif lacking:
            gaps[stage.id] = f"{lacking[0]} does not leave the record {stage.controls[lacking[0]]}"
    return gaps


def _leaves(source: str, record: str) -> bool:
    """Whether a module writes a record by its whole name, or does that act through the desk, which adds the kind."""
    act = record.rpartition(".")[2]
    return record in source or f'"{act}"' in source


def _source(folder: Path, module: str) -> str:
    path = folder / Path(*module.split("."))
    found = next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)
    return found.read_text("utf-8") if found else ""
