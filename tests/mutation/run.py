"""Change the pure guards of the law one by one; the tests of that module must notice each change.

    python -m tests.mutation.run [MODULE …] [--json FILE]

Each mutant is one changed node of a module's syntax tree. It is loaded in a forked child, in which
the module's quick tests run until one of them fails. A mutant that no test notices *survives*.
Exit 1 when fewer than 95 % of all are noticed.
"""

import argparse
import ast
import contextlib
import copy
import importlib
import io
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEAST_PERCENT = 95
LIMIT_S = 60

TARGETS = {
    "factory.lifecycle.machine": ("lifecycle", "registry/test_product_machine.py"),
    "factory.lifecycle.agreement": ("lifecycle/test_agreement.py", "lifecycle/test_machines.py"),
    "factory.lifecycle.incident": ("lifecycle/test_incident.py", "lifecycle/test_machines.py"),
    "factory.lifecycle.standing": ("lifecycle/test_standing.py", "lifecycle/test_machines.py"),
    "factory.lifecycle.product": (
        "registry/test_product_machine.py",
        "lifecycle/test_product.py",
        "lifecycle/test_machines.py",
    ),
    "factory.lifecycle.product_list": ("lifecycle/test_product_list.py", "lifecycle/test_machines.py"),
    "factory.lifecycle.sandbox": ("lifecycle/test_sandbox.py", "lifecycle/test_machines.py"),
    "factory.lifecycle.registration": ("lifecycle/test_registration.py", "lifecycle/test_machines.py"),
    "factory.lifecycle.request": ("lifecycle/test_request.py", "lifecycle/test_machines.py"),
    "factory.law.limits": ("law/test_clocks.py",),
    "factory.law.clocks": ("law/test_clocks.py",),
}
"""Modules with the tests, below tests/unit, that hold them."""

_COMPARE = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}


@dataclass(frozen=True)
class Mutant:
    """One change: where, what, and the changed source."""

    module: str
    line: int
    what: str
    source: str


def mutants(module: str) -> Iterator[Mutant]:
    """Return every mutant of the functions of a module, and of its table of transitions."""
    path = ROOT / Path(*module.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text("utf-8"))
    spots = [spot for top in tree.body if _counts(top) for spot in _spots(top)]
    for place, (line, what, _) in enumerate(spots):
        changed = copy.deepcopy(tree)
        again = [spot for top in changed.body if _counts(top) for spot in _spots(top)]
        again[place][2]()
        yield Mutant(module, line, what, ast.unparse(ast.fix_missing_locations(changed)))


def _counts(top: ast.stmt) -> bool:
    if isinstance(top, ast.FunctionDef):
        return True
    return isinstance(top, ast.AnnAssign) and isinstance(top.target, ast.Name) and top.target.id == "TRANSITIONS"


def _spots(top: ast.stmt):
    """Yield (line, what, do) for every change below a statement; docstrings and messages are left alone."""
    shown = {id(part) for node in ast.walk(top) if isinstance(node, ast.Slice) for part in ast.walk(node)}
    for node in ast.walk(top):
        if id(node) in shown:
            continue  # how many items a message lists
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARE:
            new = _COMPARE[type(node.ops[0])]
            yield node.lineno, f"{type(node.ops[0]).__name__} → {new.__name__}", _setter(node.ops, 0, new())
        elif isinstance(node, ast.BoolOp):
            new_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield node.lineno, f"{type(node.op).__name__} → {type(new_op).__name__}", _attribute(node, "op", new_op)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield node.lineno, "not removed", _unnot(node)
        elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            new_arithmetic = _ARITHMETIC[type(node.op)]()
            yield (
                node.lineno,
                f"{type(node.op).__name__} → {type(new_arithmetic).__name__}",
                _attribute(node, "op", new_arithmetic),
            )
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            yield node.lineno, f"{node.value} → {node.value + 1}", _attribute(node, "value", node.value + 1)
        elif isinstance(node, ast.If):
            yield node.lineno, "if → never", _attribute(node, "test", ast.Constant(value=False))
        elif isinstance(node, ast.IfExp):
            yield node.lineno, "branches swapped", _swap(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Transition":
            yield from _arrow(node)


def _arrow(node: ast.Call):
    """Changes of one arrow: another target, and each guard left out."""
    yield node.lineno, "target changed", _attribute(node.args[2], "value", "elsewhere")
    if len(node.args) > 4 and isinstance(node.args[4], ast.Tuple):
        for place, guard in enumerate(node.args[4].elts):
            yield node.lineno, f"guard {ast.unparse(guard)} left out", _deleter(node.args[4].elts, place)


def _setter(items: list, place: int, value: object):
    def change() -> None:
        items[place] = value

    return change


def _deleter(items: list, place: int):
    def change() -> None:
        del items[place]

    return change


def _attribute(node: object, name: str, value: object):
    return lambda: setattr(node, name, value)


def _unnot(node: ast.UnaryOp):
    def change() -> None:
        node.op, node.operand = ast.Not(), ast.UnaryOp(op=ast.Not(), operand=node.operand)

    return change


def _swap(node: ast.IfExp):
    def change() -> None:
        node.body, node.orelse = node.orelse, node.body

    return change


def _try(mutant: Mutant, answer: "multiprocessing.connection.Connection") -> None:
    """In a child: put the mutant in place of its module and run the tests."""
    import pytest

    module = importlib.import_module(mutant.module)
    sys.stdout = sys.stderr = io.StringIO()
    try:
        before = dict(vars(module))
        exec(compile(mutant.source, mutant.module, "exec"), vars(module))
        _keep_classes(before, vars(module))
    except Exception:
        answer.send(True)
        return
    tests = [str(ROOT / "tests" / "unit" / name) for name in TARGETS[mutant.module]]
    tests = [path for path in tests if Path(path).exists()]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", *tests])
    answer.send(code != 0)


def _keep_classes(before: dict[str, object], now: dict[str, object]) -> None:
    """Classes keep their identity, so that the tests' own imports still fit."""
    for name, value in before.items():
        if isinstance(value, type) and isinstance(now.get(name), type):
            now[name] = value


def is_noticed(mutant: Mutant) -> bool:
    """Run the tests on a mutant in a child; one that does not end counts as noticed."""
    context = multiprocessing.get_context("fork")
    mine, other = context.Pipe(duplex=False)
    child = context.Process(target=_try, args=(mutant, other))
    child.start()
    other.close()
    try:
        noticed = bool(mine.recv()) if mine.poll(LIMIT_S) else True
    except EOFError:
        noticed = True
    if child.is_alive():
        child.terminate()
    child.join()
    return noticed


def main() -> int:
    """Run; see the module text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(TARGETS))
    parser.add_argument("--json", type=Path, help="write the survivors to a file")
    asked = parser.parse_args()
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take longer to load than the tests take to run
    import pytest  # noqa: F401 - loaded before the forks

    survivors, total = [], 0
    for module in asked.modules:
        importlib.import_module(module)
        found = list(mutants(module))
        path = ROOT / Path(*module.split(".")).with_suffix(".py")
        if is_noticed(Mutant(module, 0, "nothing", ast.unparse(ast.parse(path.read_text("utf-8"))))):
            print(f"{module}: its tests fail without any change", file=sys.stderr)
            return 2
        alive = [mutant for mutant in found if not is_noticed(mutant)]
        total += len(found)
        survivors += alive
        print(f"{module}: {len(found) - len(alive)} of {len(found)} noticed", flush=True)
        for mutant in alive:
            print(f"  survives: line {mutant.line}: {mutant.what}", flush=True)
    percent = 100 * (total - len(survivors)) / total
    print(f"{total - len(survivors)} of {total} mutants noticed ({percent:.1f} %)")
    if asked.json:
        rows = [{"module": m.module, "line": m.line, "what": m.what} for m in survivors]
        asked.json.write_text(json.dumps({"total": total, "survivors": rows}, indent=1) + "\n", "utf-8")
    return 0 if percent >= LEAST_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
