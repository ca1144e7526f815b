"""The released packages of the main job: one changed byte anywhere, one file more or less, and they are invalid.

The strangers' table of mutants is in ``test_verify_tampered``; here it is every file of the real thing.
"""

import json
import random
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from products.package import paths
from products.verify import verify
from tests import package_fixture as fixture

pytestmark = pytest.mark.xdist_group("demo")
ROOT = Path(__file__).parents[2]
FORMS = ("model", "report", "verification")
ABSENT = ("factory", "nodes", "quality", "numpy", "pandas", "flwr", "tenseal", "sqlalchemy")

OFFLINE = """
import builtins, json, sys
absent = set(sys.argv.pop(1).split(","))
touched = []

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(name)

def no_network(event, arguments):
    if event.startswith("socket."):
        touched.append(event)
        raise RuntimeError("expected no network")

sys.meta_path.insert(0, Absent())
sys.addaudithook(no_network)
if sys.argv[1] == "control":
    import socket
    try:
        import numpy
    except ModuleNotFoundError:
        touched.append("absent")
    try:
        socket.socket().connect(("127.0.0.1", 9))
    except RuntimeError:
        pass
    print(touched)
else:
    from products.cli import main
    main()
"""


@pytest.fixture(params=[*(pytest.param(form, marks=pytest.mark.slow) for form in FORMS[:2]), FORMS[2]])
def package(main_job, request, tmp_path):
    return fixture.copy(main_job.packages[request.param], tmp_path / "package")


@pytest.fixture
def check(main_job):
    def run(package: Path):
        return verify(
            package, root_sha256=main_job.root_sha256, fresh_trust=main_job.out / "trust", now=datetime.now(UTC)
        )

    return run


def files_of(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*") if path.is_file())


def failed(report) -> list[str]:
    return [check.code for check in report.checks if check.outcome == "failed"]


def positions(size: int, rng: random.Random) -> list[int]:
    return sorted({0, size // 2, size - 1, rng.randrange(size)})


def test_one_changed_byte_in_any_file_makes_it_invalid_and_undoing_it_valid(package, check):
    rng, tried = random.Random(20261123), 0
    for path in files_of(package):
        honest = path.read_bytes()
        assert honest, path
        for position in positions(len(honest), rng):
            altered = bytearray(honest)
            altered[position] ^= 1 << rng.randrange(8)
            path.write_bytes(altered)
            report = check(package)
            assert (report.verdict, report.exit_code) == ("invalid", 1), (path.relative_to(package), position)
            assert failed(report), (path.relative_to(package), position)
            tried += 1
        path.write_bytes(honest)
    assert tried > 100
    assert check(package).verdict == "valid"


def test_one_changed_byte_under_new_checksums_makes_it_invalid_too(package, check):
    """The forger makes the tag manifest fit again; what is signed decides."""
    manifest = package / paths.TAGMANIFEST
    honest_manifest = manifest.read_bytes()
    for path in files_of(package):
        if path == manifest:
            continue
        honest = path.read_bytes()
        altered = bytearray(honest)
        altered[len(honest) // 2] ^= 1
        path.write_bytes(altered)
        fixture.rebag(package)
        report = check(package)
        assert report.verdict == "invalid", path.relative_to(package)
        assert failed(report)
        path.write_bytes(honest)
        manifest.write_bytes(honest_manifest)
    assert check(package).verdict == "valid"


def test_a_file_more_less_or_of_another_name_makes_it_invalid(package, check):
    for path in files_of(package):
        aside = path.with_name(f"{path.name}.other")
        path.rename(aside)
        assert check(package).verdict == "invalid", f"renamed {path.relative_to(package)}"
        kept = package.parent / "kept"
        aside.rename(kept)
        report = check(package)
        assert report.verdict == "invalid", f"removed {path.relative_to(package)}"
        assert failed(report)
        kept.rename(path)
    for folder in [package, *(item for item in package.rglob("*") if item.is_dir())]:
        added = folder / "added.txt"
        added.write_bytes(b"x")
        assert check(package).verdict == "invalid", f"added to {folder.relative_to(package)}"
        added.unlink()
    assert check(package).verdict == "valid"


def test_the_files_of_one_product_do_not_fit_another(main_job, check, tmp_path):
    model = fixture.copy(main_job.packages["model"], tmp_path / "package")
    shutil.rmtree(model / "data")
    shutil.copytree(main_job.packages["report"] / "data", model / "data")
    assert check(model).verdict == "invalid"


def offline(*words: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-c", OFFLINE, ",".join(ABSENT), *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("form", FORMS)
def test_an_auditor_without_our_other_code_and_without_a_network_verifies(main_job, form, tmp_path):
    done = offline(
        "verify", main_job.packages[form], "--root", main_job.root_sha256, "--trust", main_job.out / "trust", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["verdict"] == "valid"


def test_the_auditors_surroundings_do_lack_what_they_should(tmp_path):
    assert offline("control", cwd=tmp_path).stdout.strip() == "['absent', 'socket.__new__']"
