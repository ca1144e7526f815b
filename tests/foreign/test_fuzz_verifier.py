"""The verifier under a coverage-guided fuzzer: no crash, no hang, no false accept."""

import os
import subprocess
from pathlib import Path

import pytest

from tests import package_fixture as fixture

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-foreign" / "bin" / "python"
RUNS = os.environ.get("SHUFANG_FUZZ_RUNS", "400")

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not PYTHON.exists(), reason="atheris is not installed: make foreign-tools")
def test_no_altered_file_crashes_hangs_or_is_accepted(tmp_path: Path) -> None:
    has_atheris = subprocess.run([PYTHON, "-c", "import atheris"], capture_output=True, check=False)
    if has_atheris.returncode:
        pytest.skip("atheris has no build for this platform")
    package = fixture.write(fixture.honest("model"), tmp_path, second=True)
    script = Path(__file__).parent / "fuzz_verifier.py"
    done = subprocess.run(
        [PYTHON, script, package, fixture.root_sha256(), fixture.NOW.isoformat(), f"-runs={RUNS}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-1500:]
    assert "Done" in done.stderr
