"""Keys of a node at rest: refused when others can read them, encrypted when the officer names a passphrase."""

from datetime import timedelta
from pathlib import Path

import pytest

from nodes.enrolment import init_home, rotate_keys
from nodes.errors import KeyFileError
from nodes.keys import COMMITMENT, SEALING, STATEMENT, encrypt_keys, load_keys, make_keys
from nodes.settings import NodeSettings
from tests.offices import NOW

SECRET = "correct horse battery"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir(mode=0o700)
    path = folder / "passphrase"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys")
    return tmp_path / "keys"


def test_a_passphrase_that_others_can_read_is_refused_and_nothing_changes(keys: Path, secret: Path) -> None:
    before = {path.name: path.read_bytes() for path in keys.iterdir()}
    secret.chmod(0o644)
    with pytest.raises(KeyFileError, match="0600"):
        encrypt_keys(keys, secret)
    assert {path.name: path.read_bytes() for path in keys.iterdir()} == before


def test_a_short_passphrase_is_refused(keys: Path, secret: Path) -> None:
    secret.write_text("short")
    with pytest.raises(KeyFileError, match="at least 12"):
        encrypt_keys(keys, secret)


def test_another_or_no_passphrase_does_not_open_them(keys: Path, secret: Path) -> None:
    encrypt_keys(keys, secret)
    secret.write_text("another passphrase\n")
    with pytest.raises(KeyFileError, match="passphrase"):
        load_keys(keys)
    secret.unlink()
    with pytest.raises(KeyFileError):
        load_keys(keys)


def test_encrypted_keys_are_the_same_keys(keys: Path, secret: Path) -> None:
    before = load_keys(keys)
    assert encrypt_keys(keys, secret) == [STATEMENT, SEALING, COMMITMENT]
    after = load_keys(keys)
    assert after.statement.public == before.statement.public
    assert after.sealing.private_bytes_raw() == before.sealing.private_bytes_raw()
    assert after.commitment == before.commitment
    for name in (STATEMENT, SEALING, COMMITMENT):
        assert (keys / name).read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        assert (keys / name).stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeyFileError, match="not encrypted yet"):
        encrypt_keys(keys, secret)


def test_a_home_is_encrypted_from_the_start_and_so_are_its_next_keys(tmp_path: Path) -> None:
    settings = NodeSettings(tmp_path / "home", "node-east", "east", "云东", "East")
    secret = tmp_path / "stick" / "passphrase"
    from tests import offices

    root = offices.world(tmp_path / "agency").office.root()
    init_home(settings, root, now=NOW, passphrase_file=secret)
    rotate_keys(settings, now=NOW + timedelta(days=1))
    for folder in (settings.keys, settings.keys / "next"):
        assert b"ENCRYPTED" in (folder / STATEMENT).read_bytes()[:64]
    load_keys(settings.keys)
    assert secret.stat().st_mode & 0o777 == 0o600
    text = b"".join(path.read_bytes() for path in settings.home.rglob("*") if path.is_file())
    assert secret.read_bytes().strip() not in text
