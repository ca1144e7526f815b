"""The command: exit codes, JSON, languages, and that it needs nothing of ours but ``products``."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from products.cli import render
from products.verification.checks import TITLES
from products.verify import verify
from tests import package_fixture as fixture

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture.write(fixture.honest("report"), tmp_path_factory.mktemp("honest"))


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "SHUFANG_ROOT"}
    line = [sys.executable, "-m", "products", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_wrong_use_exits_with_4(package: Path, tmp_path: Path) -> None:
    assert command("verify").returncode == 4
    assert command("verify", package, "--bogus").returncode == 4
    assert command("verify", tmp_path / "absent").returncode == 4
    assert command("verify", package, "--root", "not-a-digest").returncode == 4


def test_an_altered_package_exits_with_1_and_names_the_file(package: Path, tmp_path: Path) -> None:
    copy = fixture.copy(package, tmp_path / "package")
    (copy / "data/product/tables.csv").write_bytes(b"t\n11\n")
    done = command("verify", copy, "--root", fixture.root_sha256())
    assert done.returncode == 1
    assert "data/product/tables.csv was altered" in done.stdout
    assert "无效" in done.stdout


def test_json_holds_every_check_with_its_code(package: Path) -> None:
    done = command("verify", package, "--root", package / "trust/metadata/1.root.json", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == report["exit_code"] == 3
    assert [check["code"] for check in report["checks"]] == list(TITLES)
    assert report["verdict"] == "unknown"
    assert report["product"]["id"] == "prod.report"


def test_a_valid_package_exits_with_0(package: Path, tmp_path: Path) -> None:
    trust = fixture.Trust().fresh()
    trust.issued = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    trust.write(tmp_path / "trust")
    done = command("verify", package, "--root", fixture.root_sha256(), "--trust", tmp_path / "trust", "--lang", "en")
    assert done.returncode == 0, done.stdout
    assert done.stdout.rstrip().endswith("VALID")


def test_both_languages_say_the_same_checks(package: Path) -> None:
    report = verify(package, root_sha256=None, fresh_trust=None, now=fixture.NOW)
    zh, en = render(report, "zh"), render(report, "en")
    assert any("见证人" in line for line in zh)
    assert any("quorum of witnesses" in line for line in en)
    assert sum(" rule." in line for line in zh) == sum(" rule." in line for line in en) == 14


def test_evidence_cannot_drive_the_terminal(package: Path, tmp_path: Path) -> None:
    copy = fixture.copy(package, tmp_path / "package")
    (copy / "data/evil\x1b[2J.txt").write_bytes(b"x")
    assert "\x1b" not in command("verify", copy).stdout


def test_verifying_loads_nothing_of_ours_but_products(package: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom datetime import UTC, datetime\nfrom products.verify import verify\n"
        f"verify(Path({str(package)!r}), root_sha256=None, fresh_trust=None, now=datetime.now(UTC))\n"
        "heavy = {'factory', 'nodes', 'quality', 'flwr', 'tenseal', 'sqlite3', 'pandas', 'numpy', 'requests', 'urllib3'}\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_reference_lists_every_check() -> None:
    page = (ROOT / "docs/reference/verify.md").read_text()
    for code, (step, title_zh, title_en) in TITLES.items():
        assert f"| {step} | `{code}` | {title_en} | {title_zh} |" in page
