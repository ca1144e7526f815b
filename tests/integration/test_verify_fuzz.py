"""Random damage: the verifier neither crashes nor believes, whatever becomes of the files outside the payload."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from products import canonical, log
from products.dsse import Envelope
from products.errors import ProductError
from products.package import paths
from products.verify import verify
from tests import package_fixture as fixture

ROOT = fixture.root_sha256()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    yield fixture.write(fixture.honest("verification"), folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture.Trust().fresh().write(tmp_path_factory.mktemp("fresh") / "trust")


@pytest.mark.slow
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(
    choice=st.floats(0, 0.999),
    place=st.floats(0, 1),
    cut=st.integers(0, 40),
    insert=st.one_of(
        st.binary(max_size=8), st.sampled_from([b" ", b"\n", b"0", b"\x00", b'"', b"{}", b"[[", "—".encode()])
    ),
)
def test_random_damage_is_never_believed(
    package: Path, fresh: Path, choice: float, place: float, cut: int, insert: bytes
) -> None:
    files = sorted(p for p in package.rglob("*") if p.is_file() and p.name != paths.TAGMANIFEST)
    file = files[int(choice * len(files))]
    data = file.read_bytes()
    at = int(place * len(data))
    damaged = data[:at] + insert + data[at + cut :]
    try:
        file.write_bytes(damaged)
        fixture.rebag(package)
        report = verify(package, root_sha256=ROOT, fresh_trust=fresh, now=fixture.NOW)
        assert (report.exit_code == 0) == (damaged == data), str(file)
    finally:
        file.write_bytes(data)
        fixture.rebag(package)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_parsers_refuse_random_bytes_with_their_own_errors(data: bytes) -> None:
    for parse in (
        log.LogProof.from_bytes,
        log.SignedCheckpoint.from_bytes,
        log.TlogPolicy.from_bytes,
        Envelope.from_bytes,
        lambda raw: canonical.loads(raw, size_max=1000),
    ):
        with pytest.raises(ProductError):
            parse(data)
