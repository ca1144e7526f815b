"""Keys at rest: encrypted files, and keys in a PKCS#11 token behind the same interface."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from factory.agency.authority import create_authority, load_authority
from factory.agency.office import make_root_keys
from factory.identity import create_identity, encrypt_keys, load_identity, rotate_identity
from factory.key_files import NOTE, HomeExistsError, HomeMissingError, UnsafeKeyFileError, encrypt_folder, load_p256_key
from factory.log.errors import LogKeyError
from factory.log.keys import make_key, read_key
from factory.pkcs11_key import TokenError
from tests import offices

SOFTHSM = next(
    (p for p in map(Path, ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm.so")) if p.exists()), None
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return offices.person(tmp_path, "registrar-1", "data-bureau", "registrar").home


def _passphrase(tmp_path: Path, text: str = "correct horse battery", mode: int = 0o600) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "passphrase"
    path.write_text(text + "\n")
    path.chmod(mode)
    return path


def test_a_passphrase_that_others_can_read_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsafeKeyFileError):
        encrypt_keys(home, _passphrase(tmp_path, mode=0o644))


def test_a_short_passphrase_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsafeKeyFileError, match="at least 12"):
        encrypt_keys(home, _passphrase(tmp_path, "short"))


def test_encrypted_keys_do_not_open_without_their_passphrase(home: Path, tmp_path: Path) -> None:
    path = _passphrase(tmp_path)
    encrypt_keys(home, path)
    path.write_text("another passphrase\n")
    with pytest.raises(HomeMissingError, match="passphrase"):
        load_identity(home)
    path.unlink()
    with pytest.raises(HomeMissingError):
        load_identity(home)


def test_keys_are_encrypted_once(home: Path, tmp_path: Path) -> None:
    encrypt_keys(home, _passphrase(tmp_path))
    with pytest.raises(HomeExistsError):
        encrypt_keys(home, _passphrase(tmp_path))


def test_encrypted_keys_are_the_same_keys(home: Path, tmp_path: Path) -> None:
    before = load_identity(home)
    trust = before.trust_key.public_key()
    assert encrypt_keys(home, _passphrase(tmp_path)) == ["statement.pem", "trust.pem"]
    for name in ("statement.pem", "trust.pem"):
        assert (home / "keys" / name).read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    after = load_identity(home)
    assert after.key.public == before.key.public
    assert after.trust_key.public_key() == trust


def test_a_rotated_key_is_encrypted_too(home: Path, tmp_path: Path) -> None:
    encrypt_keys(home, _passphrase(tmp_path))
    rotate_identity(load_identity(home))
    for path in (home / "keys").glob("statement*.pem"):
        assert b"ENCRYPTED" in path.read_bytes()[:64]


def test_keys_are_encrypted_from_the_first_byte_when_a_passphrase_is_named(tmp_path: Path) -> None:
    secret = tmp_path / "stick" / "passphrase"
    made = create_identity(
        tmp_path / "op",
        actor_id="operator",
        organisation="company",
        title_zh="运营",
        title_en="operator",
        roles=("operator",),
        passphrase_file=secret,
    )
    assert secret.stat().st_mode & 0o777 == 0o600
    plain = {p.name for p in (tmp_path / "op" / "keys").glob("*.pem") if b"ENCRYPTED" not in p.read_bytes()[:64]}
    assert plain == {"tls.pem"}
    assert load_identity(made.home).sealing_key is not None
    text = "".join(path.read_text() for path in made.home.rglob("*") if path.is_file())
    assert secret.read_text().strip() not in text


def test_root_authority_log_and_witness_keys_are_encrypted_too(tmp_path: Path) -> None:
    secret = _passphrase(tmp_path)
    (key,) = make_root_keys([tmp_path / "root"], [secret])
    authority = create_authority(tmp_path / "ca", organisation="bureau", now=offices.NOW, passphrase_file=secret)
    signer = make_key(tmp_path / "log" / "2026.pem", "log.op/2026", passphrase_file=secret)
    for path in (tmp_path / "root" / "root.pem", tmp_path / "ca" / "ca.pem", tmp_path / "log" / "2026.pem"):
        assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert load_p256_key(tmp_path / "root" / "root.pem").public_key() == key.public_key()
    assert load_authority(tmp_path / "ca").certificate == authority.certificate
    assert read_key(tmp_path / "log" / "2026.pem", "log.op/2026").public == signer.public
    make_key(tmp_path / "log" / "2027.pem", "log.op/2027")
    assert b"ENCRYPTED" in (tmp_path / "log" / "2027.pem").read_bytes()[:64]
    secret.write_text("another passphrase\n")
    with pytest.raises(LogKeyError, match="passphrase"):
        read_key(tmp_path / "log" / "2026.pem", "log.op/2026")


def test_an_encryption_that_was_interrupted_is_finished_by_the_next(tmp_path: Path) -> None:
    secret, folder = _passphrase(tmp_path), tmp_path / "keys"
    make_key(folder / "witness.pem", "w/1")
    (folder / NOTE).write_text(f"{secret}\n")
    (folder / NOTE).chmod(0o600)
    assert read_key(folder / "witness.pem", "w/1").name == "w/1"
    assert encrypt_folder(folder, secret) == ["witness.pem"]
    assert read_key(folder / "witness.pem", "w/1").name == "w/1"


def test_a_root_key_is_never_overwritten(tmp_path: Path) -> None:
    from factory.agency.errors import AgencyExistsError

    make_root_keys([tmp_path / "root"])
    with pytest.raises(AgencyExistsError, match="root key"):
        make_root_keys([tmp_path / "root"])


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pkcs11 = pytest.importorskip("pkcs11")
    if SOFTHSM is None or shutil.which("softhsm2-util") is None:
        pytest.skip("softhsm2 is not installed")
    (tmp_path / "tokens").mkdir()
    config = tmp_path / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(config))
    # The library reads its settings once per process: the keys are made, and used, in one of its own.
    assert pkcs11 is not None
    subprocess.run(
        [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            "registrar-1",
            "--pin",
            "123456",
            "--so-pin",
            "12345678",
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "SOFTHSM2_CONF": str(config)},
    )
    return config


_IN_TOKEN = """
import sys, pkcs11
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric import ec
from pkcs11.util.ec import encode_named_curve_parameters
home, module = Path(sys.argv[1]), sys.argv[2]
session = pkcs11.lib(module).get_token(token_label="registrar-1").open(user_pin="123456", rw=True)
curve = session.create_domain_parameters(
    pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}, local=True)
for label in ("statement", "trust"):
    curve.generate_keypair(store=True, label=label)
session.close()
from factory.identity import load_identity
from factory.pkcs11_key import TokenError
from nodes.contract.signing import sign
from securesystemslib.signer import CryptoSigner
identity = load_identity(home)
envelope = sign(identity.key, "application/vnd.in-toto+json", b"{}")
assert envelope.open(identity.key.public, "application/vnd.in-toto+json") == b"{}"
signer = CryptoSigner(identity.trust_key)
signer.public_key.verify_signature(signer.sign(b"metadata"), b"metadata")
try:
    identity.key.private.private_numbers()
    raise SystemExit("the key left the token")
except TokenError:
    print("signed in the token", repr(identity.key.private))
"""


def _use_token(home: Path, pin: str = "123456") -> None:
    settings = home / "identity.toml"
    table = f'\n[pkcs11]\nmodule = "{SOFTHSM}"\ntoken = "registrar-1"\npin_file = "pin"\nstatement = "statement"\ntrust = "trust"\n'
    settings.write_text(settings.read_text() + table)
    (home / "pin").write_text(pin + "\n")
    (home / "pin").chmod(0o600)


def test_a_key_in_a_token_signs_through_the_same_interface(home: Path, token: Path) -> None:
    import sys

    _use_token(home)
    for name in ("statement.pem", "trust.pem"):
        (home / "keys" / name).unlink()
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", _IN_TOKEN, str(home), str(SOFTHSM)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SOFTHSM2_CONF": str(token), "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr[-800:]
    assert "signed in the token" in done.stdout
    assert "123456" not in done.stdout


def test_a_token_that_is_not_there_is_said_plainly(home: Path) -> None:
    pytest.importorskip("pkcs11")
    settings = home / "identity.toml"
    settings.write_text(settings.read_text() + '\n[pkcs11]\nmodule = "/nowhere/lib.so"\ntoken = "t"\nstatement = "s"\n')
    (home / "pin").write_text("123456")
    (home / "pin").chmod(0o600)
    with pytest.raises(TokenError) as caught:
        load_identity(home)
    assert "123456" not in str(caught.value)


def test_a_home_with_an_sm2_key_enrols_it_and_signs_a_second_time(tmp_path: Path) -> None:
    from nodes.contract import gm
    from nodes.contract.enrolment import open_enrolment
    from nodes.contract.signing import sign
    from nodes.contract.statement import PAYLOAD_TYPE
    from products.dsse import Envelope
    from products.gm import verify

    pytest.importorskip("gmalg")
    made = create_identity(
        tmp_path / "reg",
        actor_id="registrar-1",
        organisation="bureau",
        title_zh="登记",
        title_en="registrar",
        roles=("registrar",),
        passphrase_file=tmp_path / "stick" / "passphrase",
        with_sm2=True,
    )
    assert b"ENCRYPTED" in (made.home / "keys" / "sm2.pem").read_bytes()[:64]
    private = load_identity(made.home).sm2_key
    assert private is not None
    actor = open_enrolment((made.home / "enrolment.json").read_bytes()).to_actor(
        not_before=offices.NOW, not_after=offices.NOW
    )
    import base64

    envelope = sign(made.key, PAYLOAD_TYPE, b"{}")
    second = Envelope.from_bytes(gm.countersign(private, envelope))
    verify(base64.b64decode(actor.sm2_spki), second.signature, second.pae)
