"""The tutorial, command by command as it is printed, on a fresh deployment."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial" / "first-product.md"


@pytest.mark.slow
def test_every_command_of_the_tutorial_works_as_printed(tmp_path):
    site = tmp_path / "site"
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    script = "\n".join(blocks).replace("make setup\n", "").replace("out/site", str(site))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    try:
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=1200,
        )  # fmt: skip
    finally:
        subprocess.run(
            [sys.executable, "-m", "factory.cli", "down", "--home", str(site)],
            cwd=ROOT,
            check=False,
            capture_output=True,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stdout + done.stderr
    assert "有效 VALID" in done.stdout
    assert "无效 INVALID" in done.stdout
    assert "核减 cut: res.east.clinic mean_symmetry" in done.stdout
