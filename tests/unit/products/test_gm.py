"""SM2-with-SM3: the vectors of the standard, foreign signatures, and every wrong one refused."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from nodes.contract import gm as signing
from products import gm
from products.errors import BadSignatureError, MalformedError

pytest.importorskip("gmalg")

# GB/T 32918.5-2017, annex A.2: key, identifier, message and signature.
PRIVATE = bytes.fromhex("3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8")
POINT = bytes.fromhex(
    "0409F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020"
    "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"
)
MESSAGE = b"message digest"
R = 0xF5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3
S = 0xB1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA
SPKI = gm.SPKI_PREFIX + POINT


@pytest.mark.parametrize(("r", "s"), [(R ^ 1, S), (R, S ^ 1), (S, R), (0, S), (R, 0)])
def test_another_signature_is_refused(r: int, s: int) -> None:
    with pytest.raises(BadSignatureError):
        gm.verify(SPKI, encode_dss_signature(r, s), MESSAGE)


def test_another_message_is_refused() -> None:
    with pytest.raises(BadSignatureError):
        gm.verify(SPKI, encode_dss_signature(R, S), MESSAGE + b" ")


def test_a_point_off_the_curve_is_refused() -> None:
    with pytest.raises(BadSignatureError):
        gm.verify(SPKI[:-1] + bytes([SPKI[-1] ^ 1]), encode_dss_signature(R, S), MESSAGE)


@pytest.mark.parametrize("spki", [b"", SPKI[:-1], b"\0" + SPKI[1:]])
def test_another_kind_of_key_is_refused(spki: bytes) -> None:
    with pytest.raises(MalformedError):
        gm.verify(spki, encode_dss_signature(R, S), MESSAGE)


@pytest.mark.parametrize(
    "signature", [b"", b"\x30\x00", encode_dss_signature(R, S) + b"\0", encode_dss_signature(2**300, S)]
)
def test_bytes_that_are_no_signature_are_refused(signature: bytes) -> None:
    with pytest.raises(MalformedError):
        gm.verify(SPKI, signature, MESSAGE)


def test_the_vector_of_the_standard_verifies() -> None:
    assert signing.spki_of(PRIVATE) == SPKI
    gm.verify(SPKI, encode_dss_signature(R, S), MESSAGE)


def test_what_is_signed_verifies_here_and_in_openssl(tmp_path: Path) -> None:
    signature = signing.sign(PRIVATE, MESSAGE)
    gm.verify(SPKI, signature, MESSAGE)
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    for name, data in {"key.der": SPKI, "sig": signature, "message": MESSAGE}.items():
        (tmp_path / name).write_bytes(data)
    command = "openssl pkeyutl -verify -pubin -inkey key.der -keyform DER -rawin -digest sm3 -in message -sigfile sig -pkeyopt"
    done = subprocess.run([*command.split(), "distid:1234567812345678"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
