"""The trust boundary, as far as imports can hold it."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("factory", "nodes", "products", "quality")


def _sources() -> list[Path]:
    return [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


_BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {banned}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
"""


def test_each_of_the_four_names_is_ours() -> None:
    for package in PACKAGES:
        module = importlib.import_module(package)
        assert Path(str(module.__file__)).resolve().is_relative_to(ROOT), package


def test_the_four_init_files_hold_a_docstring_and_nothing_else() -> None:
    for package in PACKAGES:
        tree = ast.parse((ROOT / package / "__init__.py").read_text("utf-8"))
        assert len(tree.body) == 1
        assert isinstance(tree.body[0], ast.Expr), package


def test_no_module_of_the_product_imports_pickle_or_its_kin() -> None:
    banned = re.compile(r"^\s*(import|from)\s+(pickle|cloudpickle|dill|joblib|shelve|marshal)\b", re.MULTILINE)
    offenders = [str(path.relative_to(ROOT)) for path in _sources() if banned.search(path.read_text("utf-8"))]
    assert offenders == []


def test_imports_within_the_product_are_absolute() -> None:
    relative = re.compile(r"^\s*from\s+\.", re.MULTILINE)
    assert [str(p.relative_to(ROOT)) for p in _sources() if relative.search(p.read_text("utf-8"))] == []


def test_products_can_be_imported_without_the_factory_the_nodes_and_their_libraries() -> None:
    code = _BLOCK.format(
        banned={
            "factory",
            "nodes",
            "quality",
            "flwr",
            "tenseal",
            "duckdb",
            "sqlalchemy",
            "pandas",
            "numpy",
            "great_expectations",
        }
    )
    modules = [m.name for m in pkgutil.walk_packages([str(ROOT / "products")], "products.")]
    code += "import importlib\n" + "\n".join(
        f"importlib.import_module({name!r})" for name in modules if not name.endswith("__main__")
    )
    done = _python(code)
    assert done.returncode == 0, done.stderr


def test_nodes_and_quality_can_be_imported_without_factory_and_products() -> None:
    modules = [
        m.name
        for package in ("nodes", "quality")
        for m in pkgutil.walk_packages([str(ROOT / package)], package + ".")
        if "__main__" not in m.name and ".vectors" not in m.name
    ]
    code = _BLOCK.format(banned={"factory", "products"})
    code += "import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in modules)
    done = _python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "module",
    [
        "nodes.contract.messages",
        "nodes.contract.statement",
        "nodes.policy",
        "products.verify",
        "nodes.cli",
        "factory.cli",
    ],
)
def test_the_core_and_the_commands_load_without_heavy_libraries(module: str) -> None:
    heavy = ("flwr", "tenseal", "duckdb", "pandas", "sklearn", "great_expectations", "pyarrow", "numpy", "faker")
    done = _python(
        f"import sys, importlib; importlib.import_module({module!r}); print([m for m in {heavy!r} if m in sys.modules])"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_error_codes_are_unique_and_every_error_has_one() -> None:
    codes: dict[str, str] = {}
    for package in PACKAGES:
        for info in pkgutil.walk_packages([str(ROOT / package)], package + "."):
            path = ROOT / Path(*info.name.split("."))
            source = (path / "__init__.py") if info.ispkg else path.with_suffix(".py")
            text = source.read_text("utf-8")
            for match in re.finditer(
                r"^class (\w+Error)\([^)]*Error\):(.*?)(?=^class |\Z)", text, re.MULTILINE | re.DOTALL
            ):
                code = re.search(r'^    code\b[^=\n]*= "([a-z0-9_.]+)"', match[2], re.MULTILINE)
                assert code, f"{info.name}.{match[1]} has no code"
                assert code[1] not in codes, f"{code[1]} is used by {codes.get(code[1])} and {info.name}.{match[1]}"
                codes[code[1]] = f"{info.name}.{match[1]}"
    assert len(codes) > 5


def test_no_address_of_a_package_index_is_in_the_repository() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    marks = re.compile(
        r"--(extra-)?index-url\b(?!\W*no)|https?://[^\s\")]*(/simple\b|/packages/)|pypi\.(org|python)|registry\.npmjs"
    )
    offenders = []
    for name in files:
        path = ROOT / name
        if path.is_file() and path.stat().st_size < 2_000_000 and name != "tests/architecture/test_boundaries.py":
            text = path.read_text("utf-8", errors="ignore")
            if marks.search(text.replace("--no-emit-index-url", "")):
                offenders.append(name)
    assert offenders == []


def test_privacy_is_written_down_where_bytes_may_cross() -> None:
    missing = []
    for folder in ("nodes/tasks", "nodes/privacy", "factory/federation"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name in {"__init__.py", "spec.py", "catalogue.py"}:
                continue
            if "Privacy:" not in path.read_text("utf-8") and "Privacy" not in (
                ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            ):
                missing.append(str(path.relative_to(ROOT)))
    assert missing == []


def test_public_functions_have_docstrings() -> None:
    # ruff's D rules hold this; here only that the rule is not switched off.
    config = (ROOT / "pyproject.toml").read_text("utf-8")
    assert inspect.cleandoc('convention = "google"') in config
    assert not re.search(r'"D10[0-4]"', config)


def test_one_way_to_write():
    """What happens to a case goes through the desk; nothing else opens, changes or records in a registry."""
    allowed = {"factory/services/desk.py", "factory/services/retention.py", "factory/registry/store.py"}
    writing = {"create", "change", "record", "remove_events"}
    found = set()
    for path in sorted((ROOT / "factory").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in writing):
                continue
            if ast.unparse(node.func.value).endswith("registry"):
                found.add(path.relative_to(ROOT).as_posix())
    assert found <= allowed, found - allowed
    assert "factory/services/desk.py" in found
