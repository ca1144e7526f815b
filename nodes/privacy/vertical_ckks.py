"""Inner products of one party's columns with rows that another party encrypted, and nothing else of the rows.

``Holder`` is the party whose key it is: it encrypts one number per row and opens products.
``Calculator`` works under another party's key: it adds its own numbers to the encrypted scores,
evaluates a polynomial on them, and forms for each of its columns the sum over all rows of
column times residual. What goes back to the holder per product is

    one integer   the constant coefficient (the sum), plus a mask drawn uniformly modulo q
    one ring part the other half of the ciphertext, plus a fresh encryption of zero

and what comes back is that integer decrypted, plus flooding noise. The mask is exact, not
statistical: what the holder decrypts is uniform, whatever the sum, the noise or the calculator's
columns are.

Privacy:
    The calculator sees ciphertexts (semantic security of CKKS) and per product one sum over all
    rows with flooding noise. The holder sees one uniform integer and one pseudo-random ring part
    per product (ring learning with errors): nothing of the calculator's columns or of the sum.
    The holder opens at most the announced number of products, each once, and returns one number
    for each: a dishonest calculator gets that many numbers of its choice, no more.

Source:
    Cheon, Kim, Kim, Song, ASIACRYPT 2017 (CKKS; the constant coefficient is the mean of the
    slots); Li, Micciancio, Schultz, Sorrell, "Securing Approximate Homomorphic Encryption Using
    Differential Privacy", CRYPTO 2022 (flooding); de Castro, Juvekar, Vaikuntanathan, "Fast
    Vector Oblivious Linear Evaluation from Ring Learning with Errors", WAHC 2021 (a fresh
    encryption of zero hides the multiplier from the key's owner). Parameters:
    ``nodes.contract.parameters.CKKS_VERTICAL``.
"""

import hashlib
import math
import os
import secrets
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nodes.contract.ckks import dump
from nodes.contract.errors import BadCiphertextError
from nodes.contract.parameters import CKKS_VERTICAL
from nodes.contract.tasks.sigmoid import OddPolynomial

Floats = NDArray[np.float64]

_LENGTH = struct.Struct("<I")
_WORD = struct.Struct("<Q")
_HEADER_BYTES = 16
_NOT_COMPRESSED = 0
_ZSTANDARD = 2
_SCALE_BITS_MIN = 18
_NOISE_SIGMAS = 8
_DEGREE = CKKS_VERTICAL.degree
SLOTS = _DEGREE // 2
"""Rows of one ciphertext."""

_RING_BYTES = 8 * _DEGREE
KEYS_BYTES_MAX = 2 * 8 * _RING_BYTES * 8
"""Longest public keys: two ring parts over at most eight primes for the encryption key and for each of seven digits."""

_PRODUCT_BYTES = _WORD.size + _RING_BYTES


def blocks_of(rows: int) -> int:
    """Return how many ciphertexts ``rows`` numbers take."""
    return -(-rows // SLOTS)


def wire_bytes_max(rows: int, levels: int) -> int:
    """Return an upper bound of the bytes of one number per row, encrypted."""
    return blocks_of(rows) * (2 * (levels + 2) * _RING_BYTES + 4096)


def opened_bytes(count: int) -> int:
    """Return the bytes of ``count`` opened products."""
    return count * _WORD.size


def products_bytes(count: int) -> int:
    """Return the bytes of ``count`` masked products."""
    return count * _PRODUCT_BYTES


@dataclass(frozen=True, slots=True)
class Fixed:
    """How numbers become integers in one computation; both sides derive it from what they agreed on.

    Attributes:
        levels: multiplications between fresh scores and the residuals.
        column_scale_bits: columns are encoded times 2**column_scale_bits.
        flooding: standard deviation of the noise added to an opened integer.
    """

    levels: int
    column_scale_bits: int
    flooding: float


def agree(*, rows: int, levels: int, column_max: float, residual_max: float) -> Fixed:
    """Choose scales so that no sum of ``rows`` products can leave the range of the last prime.

    Args:
        rows: how many rows both sides have.
        levels: of the polynomial and what follows.
        column_max: largest absolute value in a column.
        residual_max: largest absolute value of a residual.

    Raises:
        ValueError: so many rows that precision would suffer.
    """
    chosen = CKKS_VERTICAL
    constant = max(1.0, rows * column_max * residual_max * 2 / _DEGREE)
    # scale of a product after dropping a prime: level + column - drop; its constant must stay below a quarter of q.
    room = chosen.base_bits - 2 - math.ceil(math.log2(constant))
    bits = room + chosen.drop_bits - chosen.level_bits
    if bits < _SCALE_BITS_MIN:
        raise ValueError(f"expected fewer rows than {rows}: split the table")
    spread = column_max * math.sqrt(blocks_of(rows)) * 2.0 ** (bits + chosen.noise_bits - chosen.drop_bits)
    rounding = math.sqrt(_DEGREE)
    return Fixed(levels, bits, 2.0**chosen.flooding_bits * _NOISE_SIGMAS * (spread + rounding))


def pack(parts: Iterable[bytes]) -> bytes:
    """Return byte strings as one, each with its length before it."""
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def unpack(data: bytes, count: int) -> list[bytes]:
    """Return exactly ``count`` byte strings.

    Raises:
        BadCiphertextError: more, fewer, or cut off.
    """
    parts, at = [], 0
    for _ in range(count):
        end = at + _LENGTH.size
        length = int.from_bytes(data[at:end], "little")
        if end > len(data) or end + length > len(data):
            raise BadCiphertextError(f"expected {count} parts, the bytes end before")
        parts.append(data[end : end + length])
        at = end + length
    if at != len(data):
        raise BadCiphertextError(f"expected {count} parts and nothing behind them")
    return parts


class _Ring:
    """SEAL's context for a number of levels, and numbers in and out of it. Holds no key."""

    def __init__(self, levels: int) -> None:
        import tenseal.sealapi as seal

        self.seal: Any = seal
        options = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        options.set_poly_modulus_degree(_DEGREE)
        options.set_coeff_modulus(seal.CoeffModulus.Create(_DEGREE, list(CKKS_VERTICAL.modulus_bits(levels))))
        self.context: Any = seal.SEALContext(options, True, seal.SEC_LEVEL_TYPE.TC128)
        self.encoder: Any = seal.CKKSEncoder(self.context)
        self.evaluator: Any = seal.Evaluator(self.context)
        at, places = self.context.first_context_data(), []
        while at is not None:
            places.append(at.parms_id())
            at = at.next_context_data()
        self.ids: list[Any] = [None, *reversed(places)]  # by number of primes
        self.primes: list[int] = [prime.value() for prime in self.context.first_context_data().parms().coeff_modulus()]
        self.scale = 2.0**CKKS_VERTICAL.level_bits

    def plain(self, values: Sequence[float] | float, primes: int, scale: float) -> Any:
        plaintext = self.seal.Plaintext()
        self.encoder.encode(values, self.ids[primes], scale, plaintext)
        return plaintext

    def load(self, target: Any, data: bytes) -> Any:
        descriptor = os.memfd_create("shufang-ckks", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, data)
            target.load(self.context, f"/proc/self/fd/{descriptor}")
        except (RuntimeError, ValueError) as error:
            raise BadCiphertextError("expected bytes that SEAL wrote for this parameter set") from error
        finally:
            os.close(descriptor)
        return target

    def ciphertext(self, data: bytes, primes: int) -> Any:
        value = self.load(self.seal.Ciphertext(), data)
        if (
            value.size() != 2
            or not value.is_ntt_form()
            or value.scale != self.scale
            or list(value.parms_id()) != list(self.ids[primes])
            or value.is_transparent()
        ):
            raise BadCiphertextError("expected a ciphertext of two parts at the agreed level and scale")
        return value

    def dropped(self, value: Any) -> Any:
        """Rescale in place and call the result's scale exactly ``scale``: the primes differ from it by under 2**-30."""
        self.evaluator.rescale_to_next_inplace(value)
        value.scale = self.scale
        return value


def _body(data: bytes) -> bytes:
    """Return what SEAL wrote behind its header, decompressed."""
    import pyarrow as pa

    if data[5] == _ZSTANDARD:
        stream = pa.CompressedInputStream(pa.BufferReader(data[_HEADER_BYTES:]), "zstd")
        return bytes(stream.read())
    if data[5] == _NOT_COMPRESSED:
        return data[_HEADER_BYTES:]
    raise BadCiphertextError("expected a SEAL object that is not compressed, or by Zstandard")


def _uncompressed(data: bytes, body: bytes) -> bytes:
    """Return the bytes SEAL reads for ``body``, with the header of ``data``."""
    return data[:5] + bytes([_NOT_COMPRESSED]) + data[6:8] + _WORD.pack(_HEADER_BYTES + len(body)) + body


def _constant(ntt: NDArray[np.uint64], prime: int) -> int:
    """Return the constant coefficient of a ring element in evaluation form: the mean of its values."""
    total = int((ntt >> np.uint64(32)).sum()) * 2**32 + int((ntt & np.uint64(0xFFFFFFFF)).sum())
    return total * pow(_DEGREE, -1, prime) % prime


def _blocks(values: Floats) -> Iterator[list[float]]:
    for start in range(0, len(values), SLOTS):
        yield values[start : start + SLOTS].tolist()


class Holder:
    """A party's own fresh key: encrypts its rows, opens masked products. Its repr shows nothing."""

    def __init__(self, fixed: Fixed, *, answers: int) -> None:
        """Draw a key.

        Args:
            fixed: see ``agree``.
            answers: how many products will be opened, at most.

        Raises:
            ValueError: more answers than the parameter set allows under one key.
        """
        if answers > CKKS_VERTICAL.answers_max:
            raise ValueError(f"expected at most {CKKS_VERTICAL.answers_max} answers under one key, got {answers}")
        self._ring = _Ring(fixed.levels)
        self._fixed = fixed
        self._left = answers
        self._seen: set[bytes] = set()
        seal = self._ring.seal
        generator = seal.KeyGenerator(self._ring.context)
        secret = generator.secret_key()
        public, relin = seal.PublicKey(), seal.RelinKeys()
        generator.create_public_key(public)
        generator.create_relin_keys(relin)
        self._public, self._relin = dump(public), dump(relin)
        self._encryptor = seal.Encryptor(self._ring.context, public, secret)
        self._decryptor = seal.Decryptor(self._ring.context, secret)
        self._template = b""

    @property
    def public_bytes(self) -> bytes:
        """What a calculator needs: the public key and the key for multiplications."""
        return pack([self._public, self._relin])

    def encrypt(self, values: Floats, *, spent: int = 0) -> bytes:
        """Encrypt one number per row.

        Args:
            values: shape ``(rows,)``, of the order of one.
            spent: how many multiplications the numbers will meet later than fresh scores do.
        """
        primes = 2 + self._fixed.levels - spent
        sealed = []
        for block in _blocks(values):
            plaintext = self._ring.plain(block, primes, self._ring.scale)
            sealed.append(dump(self._encryptor.encrypt_symmetric(plaintext)))
        return pack(sealed)

    def open(self, data: bytes, count: int) -> bytes:
        """Decrypt ``count`` masked products and return one flooded integer for each.

        Raises:
            BadCiphertextError: not that many, not well formed, opened before, or more than announced.
        """
        if count > self._left:
            raise BadCiphertextError(f"expected at most {self._left} more products under this key, got {count}")
        if len(data) != products_bytes(count):
            raise BadCiphertextError(f"expected {products_bytes(count)} bytes of {count} products, got {len(data)}")
        self._left -= count
        noise = secrets.SystemRandom()
        prime = self._ring.primes[0]
        opened = []
        for start in range(0, len(data), _PRODUCT_BYTES):
            word, part = data[start : start + _WORD.size], data[start + _WORD.size : start + _PRODUCT_BYTES]
            print_ = hashlib.sha256(part).digest()
            if print_ in self._seen or not any(part[:64]):
                raise BadCiphertextError(
                    "expected a product with a mask of its own, got one that was seen or hides nothing"
                )
            self._seen.add(print_)
            value = self._decrypt(_WORD.unpack(word)[0], part)
            opened.append((value + round(noise.gauss(0.0, self._fixed.flooding))) % prime)
        return b"".join(map(_WORD.pack, opened))

    def _decrypt(self, constant: int, part: bytes) -> int:
        ring = self._ring
        if constant >= ring.primes[0]:
            raise BadCiphertextError("expected an integer below the modulus")
        if not self._template:
            zero = ring.seal.Ciphertext()
            self._encryptor.encrypt_zero(ring.ids[1], zero)
            self._template = dump(zero)
        # A constant has the same value at every point.
        first = np.full(_DEGREE, constant, dtype="<u8").tobytes()
        body = _body(self._template)[: -2 * _RING_BYTES] + first + part
        value, plaintext = ring.seal.Ciphertext(), ring.seal.Plaintext()
        ring.load(value, _uncompressed(self._template, body))
        self._decryptor.decrypt(value, plaintext)
        return _constant(np.frombuffer(_body(dump(plaintext))[-_RING_BYTES:], dtype="<u8"), ring.primes[0])


@dataclass(slots=True, repr=False)
class Columns:
    """A party's columns, encoded once if they are small. Its repr shows nothing.

    Attributes:
        values: shape ``(rows, columns)``.
    """

    values: Floats
    _cache: dict[tuple[int, int], Any] = field(default_factory=dict)

    CACHE_ENTRIES_MAX = 1024
    """Encoded blocks kept, of a quarter of a megabyte each."""


class Calculator:
    """Computes under another party's key; holds none itself."""

    def __init__(self, fixed: Fixed, public_bytes: bytes) -> None:
        """Read the holder's keys.

        Raises:
            BadCiphertextError: not keys of the parameter set.
        """
        self._ring = _Ring(fixed.levels)
        self._fixed = fixed
        seal = self._ring.seal
        public, relin = unpack(public_bytes, 2)
        key = self._ring.load(seal.PublicKey(), public)
        self._relin = self._ring.load(seal.RelinKeys(), relin)
        self._encryptor = seal.Encryptor(self._ring.context, key)

    def read(self, data: bytes, rows: int, *, spent: int = 0) -> list[Any]:
        """Read one encrypted number per row.

        Raises:
            BadCiphertextError: another number of blocks, or not at this level.
        """
        primes = 2 + self._fixed.levels - spent
        return [self._ring.ciphertext(part, primes) for part in unpack(data, blocks_of(rows))]

    def write(self, blocks: Sequence[Any]) -> bytes:
        """Return encrypted numbers as bytes, for the next calculator under this key."""
        return pack(map(dump, blocks))

    def add(self, blocks: Sequence[Any], values: Floats, *, spent: int = 0) -> None:
        """Add one number per row, in place."""
        primes = 2 + self._fixed.levels - spent
        for block, mine in zip(blocks, _blocks(values), strict=True):
            self._ring.evaluator.add_plain_inplace(block, self._ring.plain(mine, primes, self._ring.scale))

    def add_encrypted(self, blocks: Sequence[Any], others: Sequence[Any]) -> None:
        """Add encrypted numbers of the same level, in place."""
        for block, other in zip(blocks, others, strict=True):
            self._ring.evaluator.add_inplace(block, other)

    def polynomial(self, polynomial: OddPolynomial, blocks: Sequence[Any]) -> list[Any]:
        """Evaluate the polynomial on each row."""
        evaluate = {1: self._degree_1, 2: self._degree_3, 4: self._degree_7}[len(polynomial.coefficients)]
        return [evaluate(polynomial.coefficients, block) for block in blocks]

    def times(self, blocks: Sequence[Any], values: Floats, *, spent: int) -> list[Any]:
        """Multiply by one number per row of one's own."""
        primes = 2 + self._fixed.levels - spent
        return [
            self._scaled(block, self._ring.plain(mine, primes, float(self._ring.primes[primes - 1])))
            for block, mine in zip(blocks, _blocks(values), strict=True)
        ]

    def times_encrypted(self, blocks: Sequence[Any], others: Sequence[Any]) -> list[Any]:
        """Multiply by one encrypted number per row, of the same level."""
        return [self._product(block, other) for block, other in zip(blocks, others, strict=True)]

    def products(self, blocks: Sequence[Any], columns: Columns) -> tuple[bytes, list[int]]:
        """Return per column the masked inner product with the rows, and the masks.

        Args:
            blocks: residuals at the last level.
            columns: as many rows.
        """
        return self._masked(
            [(block, self._encoded(columns, place, column)) for place, block in enumerate(blocks)]
            for column in range(columns.values.shape[1])
        )

    def histogram(self, by_bin: Sequence[Sequence[Any]], mine: Columns) -> tuple[bytes, list[int]]:
        """Return, masked, how many rows have each total of two bin numbers.

        Args:
            by_bin: per bin of the holder, one encrypted flag per row, at the last level.
            mine: per own bin, in ascending order, a column of flags.

        Returns:
            One masked product per total, ``len(by_bin) + mine.values.shape[1] - 1`` in all, and the masks.
        """
        bins = mine.values.shape[1]
        return self._masked(
            [
                (block, self._encoded(mine, place, total - other))
                for other, blocks in enumerate(by_bin)
                if 0 <= total - other < bins
                for place, block in enumerate(blocks)
            ]
            for total in range(len(by_bin) + bins - 1)
        )

    def unmask(self, opened: bytes, masks: Sequence[int]) -> Floats:
        """Take the masks off what the holder returned.

        Returns:
            Shape ``(len(masks),)``: the sums over all rows of column times residual.

        Raises:
            BadCiphertextError: another number of integers, or one out of range.
        """
        prime = self._ring.primes[0]
        if len(opened) != _WORD.size * len(masks):
            raise BadCiphertextError(f"expected {len(masks)} integers")
        scale = self._ring.scale * 2.0**self._fixed.column_scale_bits / self._ring.primes[1]
        sums = []
        for (value,), mask in zip(_WORD.iter_unpack(opened), masks, strict=True):
            if value >= prime:
                raise BadCiphertextError("expected an integer below the modulus")
            bare = (value - mask) % prime
            sums.append((bare - prime if bare > prime // 2 else bare) * SLOTS / scale)
        return np.array(sums)

    def _masked(self, sums: Iterable[Sequence[tuple[Any, Any]]]) -> tuple[bytes, list[int]]:
        ring = self._ring
        prime = ring.primes[0]
        parts, masks = [], []
        for pairs in sums:
            total = self._sum(pairs)
            zero = ring.seal.Ciphertext()
            self._encryptor.encrypt_zero(ring.ids[1], zero)
            if total is not None:
                zero.scale = total.scale
                ring.evaluator.add_inplace(zero, total)
            body = _body(dump(zero))
            mask = secrets.randbelow(prime)
            first = np.frombuffer(body[-2 * _RING_BYTES : -_RING_BYTES], dtype="<u8")
            parts.append(_WORD.pack((_constant(first, prime) + mask) % prime) + body[-_RING_BYTES:])
            masks.append(mask)
        return b"".join(parts), masks

    def _sum(self, pairs: Sequence[tuple[Any, Any]]) -> Any:
        """Return the sum of ciphertext times plaintext one level down; None stands for nothing but zeros."""
        ring, total = self._ring, None
        for block, encoded in pairs:
            if encoded is None:
                continue  # SEAL refuses to multiply by nothing but zeros
            term = ring.seal.Ciphertext()
            ring.evaluator.multiply_plain(block, encoded, term)
            if total is None:
                total = term
            else:
                ring.evaluator.add_inplace(total, term)
        if total is not None:
            ring.evaluator.rescale_to_next_inplace(total)
        return total

    def _encoded(self, columns: Columns, place: int, column: int) -> Any:
        key = (place, column)
        if key in columns._cache:  # noqa: SLF001  one pair of classes
            return columns._cache[key]  # noqa: SLF001
        values = columns.values[place * SLOTS : (place + 1) * SLOTS, column]
        encoded = None
        if bool(values.any()):
            encoded = self._ring.plain(values.tolist(), 2, 2.0**self._fixed.column_scale_bits)
        if len(columns._cache) < Columns.CACHE_ENTRIES_MAX:  # noqa: SLF001
            columns._cache[key] = encoded  # noqa: SLF001
        return encoded

    def _at(self, value: Any, primes: int) -> Any:
        lower = self._ring.seal.Ciphertext()
        self._ring.evaluator.mod_switch_to(value, self._ring.ids[primes], lower)
        return lower

    def _scaled(self, value: Any, plaintext: Any) -> Any:
        result = self._ring.seal.Ciphertext()
        self._ring.evaluator.multiply_plain(value, plaintext, result)
        return self._ring.dropped(result)

    def _factor(self, value: Any, factor: float) -> Any:
        primes = value.coeff_modulus_size()
        return self._scaled(value, self._ring.plain(factor, primes, float(self._ring.primes[primes - 1])))

    def _product(self, left: Any, right: Any) -> Any:
        result = self._ring.seal.Ciphertext()
        self._ring.evaluator.multiply(left, right, result)
        self._ring.evaluator.relinearize_inplace(result, self._relin)
        return self._ring.dropped(result)

    def _square(self, value: Any) -> Any:
        result = self._ring.seal.Ciphertext()
        self._ring.evaluator.square(value, result)
        self._ring.evaluator.relinearize_inplace(result, self._relin)
        return self._ring.dropped(result)

    def _degree_1(self, coefficients: Sequence[float], u: Any) -> Any:
        return self._factor(u, coefficients[0])

    def _degree_3(self, coefficients: Sequence[float], u: Any) -> Any:
        linear, cubic = coefficients
        top = u.coeff_modulus_size()
        result = self._product(self._factor(u, cubic), self._square(u))
        self._ring.evaluator.add_inplace(result, self._factor(self._at(u, top - 1), linear))
        return result

    def _degree_7(self, coefficients: Sequence[float], u: Any) -> Any:
        # c1 u + (c3 u) u² + ((c5 u) + (c7 u) u²) u⁴, three multiplications deep
        first, third, fifth, seventh = coefficients
        top = u.coeff_modulus_size()
        add = self._ring.evaluator.add_inplace
        square = self._square(u)
        fourth = self._square(square)
        high = self._product(self._factor(u, seventh), square)
        low = self._at(u, top - 1)
        add(high, self._factor(low, fifth))
        result = self._product(high, fourth)
        small = self._product(self._factor(u, third), square)
        add(small, self._factor(low, first))
        add(result, self._at(small, top - 3))
        return result
