"""CKKS ciphertexts as bytes: reading, checking and adding them, shared by nodes, operator and agency.

SEAL (through ``tenseal.sealapi``) reads and writes by file name only; the bytes go through
an anonymous memory file, never to a disk. Addition is exact and the same at every party,
so the digest of a sum means the same everywhere.

Source:
    Cheon, Kim, Kim, Song, "Homomorphic Encryption for Arithmetic of Approximate Numbers",
    ASIACRYPT 2017; parameters: ``nodes.contract.parameters.CKKS_SUMS``.

Privacy:
    Ciphertexts are semantically secure under the agency's key. Adding needs no key.
"""

import os
import tempfile
from collections.abc import Sequence
from typing import Any

from nodes.contract.errors import BadCiphertextError
from nodes.contract.parameters import CKKS_SUMS, CkksSet

SETS = {CKKS_SUMS.name: CKKS_SUMS}


class Scheme:
    """The SEAL context of one named parameter set; holds no key.

    Attributes:
        parameters: the set.
        context: SEAL's context.
    """

    def __init__(self, name: str) -> None:
        """Make the context of the set ``name``.

        Raises:
            BadCiphertextError: no set of this name.
        """
        import tenseal.sealapi as seal

        if name not in SETS:
            raise BadCiphertextError(f"expected a named parameter set: {', '.join(SETS)}")
        self.parameters: CkksSet = SETS[name]
        options = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        options.set_poly_modulus_degree(self.parameters.degree)
        options.set_coeff_modulus(seal.CoeffModulus.Create(self.parameters.degree, list(self.parameters.modulus_bits)))
        self.context: Any = seal.SEALContext(options, True, seal.SEC_LEVEL_TYPE.TC128)
        self._seal: Any = seal

    @property
    def scale(self) -> float:
        """Factor by which numbers are multiplied before rounding to the ring."""
        return 2.0**self.parameters.scale_bits

    def public_key(self, data: bytes) -> Any:
        """Read a public key.

        Raises:
            BadCiphertextError: not a key of this set.
        """
        return self.load(self._seal.PublicKey(), data, self.parameters.key_bytes_max)

    def ciphertext(self, data: bytes) -> Any:
        """Read a fresh or summed ciphertext and check its shape, level and scale.

        Raises:
            BadCiphertextError: not a ciphertext of this set at the level of sums, or one that hides nothing.
        """
        value = self.load(self._seal.Ciphertext(), data, self.parameters.ciphertext_bytes_max)
        if (
            value.size() != 2
            or not value.is_ntt_form()
            or value.scale != self.scale
            or list(value.parms_id()) != list(self.context.first_parms_id())
            or value.is_transparent()
        ):
            raise BadCiphertextError("expected a ciphertext of two parts at the first level and the set's scale")
        return value

    def add(self, parts: Sequence[bytes]) -> bytes:
        """Add ciphertexts and return the sum's bytes.

        Raises:
            BadCiphertextError: none, or one that is not a ciphertext of this set.
        """
        if not parts:
            raise BadCiphertextError("expected at least one ciphertext")
        evaluator = self._seal.Evaluator(self.context)
        total = self.ciphertext(parts[0])
        for part in parts[1:]:
            evaluator.add_inplace(total, self.ciphertext(part))
        return dump(total)

    def load(self, target: Any, data: bytes, size_max: int) -> Any:
        """Fill a SEAL object from bytes; what it would write again must be the same bytes.

        Raises:
            BadCiphertextError: too long, not readable, or with bytes that carry nothing.
        """
        if len(data) > size_max:
            raise BadCiphertextError(f"expected at most {size_max} bytes, got {len(data)}")
        descriptor, path = _memory_file()
        try:
            os.write(descriptor, data)
            target.load(self.context, path)
        except (RuntimeError, ValueError) as error:
            raise BadCiphertextError("expected bytes that SEAL wrote for this parameter set") from error
        finally:
            _release(descriptor, path)
        if dump(target) != data:
            raise BadCiphertextError("expected the one form in which SEAL writes this object")
        return target


def dump(value: Any) -> bytes:
    """Return the bytes SEAL writes for a key, plaintext or ciphertext."""
    descriptor, path = _memory_file()
    try:
        value.save(path)
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, size, 0)
    finally:
        _release(descriptor, path)


def _memory_file() -> tuple[int, str]:
    """Open a file that exists in memory only; elsewhere than on Linux a private temporary file."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("shufang-ckks", os.MFD_CLOEXEC)
        return descriptor, f"/proc/self/fd/{descriptor}"
    return tempfile.mkstemp(prefix="shufang-ckks-")


def _release(descriptor: int, path: str) -> None:
    os.close(descriptor)
    if not path.startswith("/proc/self/fd/"):
        os.unlink(path)  # noqa: PTH108  the path is a plain text made above
