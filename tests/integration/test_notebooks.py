"""Each notebook runs as a script, and the exported files hold what it showed."""

import json
import re
import subprocess
import sys

import pytest

from tests.trials import ROOT, environment

NAMES = ("01_model", "02_report", "03_verification")
pytestmark = pytest.mark.xdist_group("trials")


def ran(temporary, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment(temporary),
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(temporary.iterdir()) == []
    return done.stdout


def test_every_notebook_says_first_in_chinese_what_it_shows():
    from notebooks.export import sources

    assert [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.py"))] == list(NAMES)
    for name in NAMES:
        first = sources(ROOT / "notebooks" / f"{name}.py")[0]
        assert re.search(r"# 数据\w+ · A (joint|private) \w+", first)


@pytest.mark.slow
def test_the_model_notebook_shows_the_pooled_figures_beside_the_federated_ones(tmp_path):
    printed = ran(tmp_path / "tmp", "notebooks/01_model.py")
    gap = re.search(r"^weight gap ([0-9.]+)$", printed, re.MULTILINE)
    assert float(gap[1]) < 0.002
    federated, pooled = map(
        float, re.search(r"^auc federated ([0-9.]+) pooled ([0-9.]+)$", printed, re.MULTILINE).groups()
    )
    assert abs(federated - pooled) < 0.002  # the federated figure is read off 64 bins
    assert re.search(r"^product sha256 [0-9a-f]{64}$", printed, re.MULTILINE)


@pytest.mark.slow
def test_the_report_notebook_differs_from_pooled_counts_by_rounding_alone(tmp_path):
    printed = ran(tmp_path / "tmp", "notebooks/02_report.py")
    assert int(re.search(r"^largest gap (\d+)$", printed, re.MULTILINE)[1]) < 5


@pytest.mark.slow
def test_the_verification_notebook_finds_those_in_the_register_and_exports_with_its_outputs(tmp_path):
    ran(tmp_path / "tmp", "-m", "notebooks.export", str(tmp_path / "out"), "03_verification")
    document = json.loads((tmp_path / "out" / "03_verification.ipynb").read_text("utf-8"))
    printed = document["cells"][-1]["outputs"][-1]["text"]
    assert "matches 10 of 13" in printed
    assert re.search(r"product sha256 [0-9a-f]{64}", printed)
    page = (tmp_path / "out" / "03_verification.html").read_text("utf-8")
    assert "在登记中 in the register" in page
    assert "<script" not in page
