"""Tools that others wrote accept our packages; the table of docs/reference/foreign-tools.md.

`make test-foreign` installs the tools into environments of their own, runs the main job and
names its packages in SHUFANG_PACKAGES; without them the packages of the tests' fixture are read.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import package_fixture as fixture

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-foreign" / "bin" / "python"
NPM = Path(__file__).parent / "npm"
PAGE = ROOT / "docs" / "reference" / "foreign-tools.md"

pytestmark = pytest.mark.slow


def _packages() -> list[str]:
    folder = os.environ.get("SHUFANG_PACKAGES", "")
    released = [str(path) for path in sorted(Path(folder).iterdir())] if folder else []
    return ["fixture:model", "fixture:report", "fixture:verification", "fixture:dataset", *released]


@pytest.fixture(params=_packages())
def package(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param.startswith("fixture:"):
        return fixture.write(fixture.honest(request.param.removeprefix("fixture:")), tmp_path, second=True)
    return Path(request.param)


def _answers(command: list[str | Path]) -> dict[str, str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600, cwd=NPM)
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.skipif(not PYTHON.exists(), reason="the foreign tools are not installed: make foreign-tools")
def test_every_python_and_system_tool_accepts_the_package(package: Path) -> None:
    answers = _answers([PYTHON, Path(__file__).parent / "tools.py", package])
    assert {name: text for name, text in answers.items() if text not in ("ok", "none")} == {}
    form = json.loads((package / "certificate" / "registration.json").read_bytes())["product"]["form"]
    expected_none = {"cyclonedx", "model_signing"} if form != "model" else set()
    expected_none |= {"mlcroissant"} if form != "dataset" else set()
    assert {name for name, text in answers.items() if text == "none"} == expected_none


@pytest.mark.skipif(
    not (NPM / "node_modules").is_dir() or shutil.which("node") is None,
    reason="the foreign tools are not installed: make foreign-tools",
)
def test_sigstores_and_tufs_javascript_verifiers_accept_the_package(package: Path) -> None:
    assert _answers(["node", NPM / "verify.mjs", package]) == {"@sigstore/verify": "ok", "tuf-js": "ok"}


@pytest.mark.skipif(not PYTHON.exists(), reason="the foreign tools are not installed: make foreign-tools")
@pytest.mark.parametrize(
    ("victim", "finders"),
    [
        ("data/product/model.onnx", {"bagit", "sha256sum", "in-toto-verify", "model_signing"}),
        ("trust/metadata/1.targets.json", {"bagit", "sha256sum", "python-tuf"}),
        ("attestations/release.operator.dsse.json", {"bagit", "sha256sum", "securesystemslib"}),
    ],
)
def test_the_tools_do_look(tmp_path: Path, victim: str, finders: set[str]) -> None:
    package = fixture.write(fixture.honest("model"), tmp_path, second=True)
    data = (package / victim).read_bytes()
    at = data.index(b"payload") + 30 if b'"payload"' in data else len(data) // 2
    (package / victim).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    answers = _answers([PYTHON, Path(__file__).parent / "tools.py", package, *sorted(finders)])
    assert {name for name, text in answers.items() if text != "ok"} == finders


def test_the_published_table_names_every_tool() -> None:
    page = PAGE.read_text("utf-8")
    source = (Path(__file__).parent / "tools.py").read_text("utf-8")
    names = [line.split('"')[1] for line in source.split("TOOLS = {")[1].split("}")[0].splitlines() if '"' in line]
    for name in [*names, "@sigstore/verify", "tuf-js"]:
        assert f"| {name} |" in page, name
