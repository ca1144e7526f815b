"""Numbers both sides agree on: limits, clocks and named cryptographic parameter sets.

Nobody passes a bare key length or modulus: a message names a set of this module, and a
name that is not here is refused. Nothing in here weakens a protocol for tests.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest sizes that are accepted from another party, in bytes unless named otherwise."""

    header_bytes_max: int = 4 * 1024 * 1024
    parts_max: int = 4096
    parcel_bytes_max: int = 512 * 1024 * 1024
    frame_bytes_max: int = 64 * 1024 * 1024
    frames_queued_max: int = 256
    queue_bytes_max: int = 256 * 1024 * 1024
    frame_age_s_max: int = 900


LIMITS = Limits()

CLOCK_SKEW_S_MAX = 300
"""Largest difference between two parties' clocks that is tolerated, in seconds (five minutes)."""

ORDER_AGE_S_MAX = 3600
"""Longest time between ``issued_at`` and ``expires_at`` of an order, in seconds."""

WIRE_VERSION = 1
"""Version of the messages of this release. A change of any signed field raises it."""

MICRO = 1_000_000
"""Unit of fixed-point fractions in messages: one millionth."""


@dataclass(frozen=True, slots=True)
class SecaggSet:
    """A named set of secure aggregation.

    Attributes:
        name: as parameters name it.
        security_bits: strength of the weakest part (X25519, the 128-bit self-mask seeds).
        parties_min: fewest nodes of a session; with two each would learn the other's input.
        parties_max: most nodes; sums of ``value_bits`` values stay below 2**63.
        rounds_max: most sums of one session; each has keys of its own.
        length_max: most entries of one masked vector.
        value_bits: each node's entries lie within ±2**value_bits.
        scale_bits: a fraction travels as an integer with 2**-scale_bits as the unit.
        source: where the construction is described.
    """

    name: str
    security_bits: int
    parties_min: int
    parties_max: int
    rounds_max: int
    length_max: int
    value_bits: int
    scale_bits: int
    source: str


SECAGG = SecaggSet(
    name="secagg-x25519-chacha20-v1",
    security_bits=128,
    parties_min=3,
    parties_max=200,
    rounds_max=256,
    length_max=2**20,
    value_bits=55,
    scale_bits=24,
    source="Bonawitz et al., CCS 2017, figure 4; RFC 7748 (X25519), RFC 5869 (HKDF), RFC 8439 (ChaCha20)",
)
"""The only set of secure aggregation of this release."""


@dataclass(frozen=True, slots=True)
class CkksSet:
    """A named CKKS parameter set for sums; nothing of it can be chosen by a message.

    Attributes:
        name: how keys and orders name it.
        degree: ring dimension N; a ciphertext carries N / 2 numbers.
        modulus_bits: sizes of the primes; the last one is reserved for keys.
        scale_bits: numbers are encoded times 2**scale_bits.
        limb_bits: integers travel as two limbs, so that double precision stays exact.
        flooding_bits: standard deviation of the noise added before rounding is 2**-flooding_bits.
        ciphertext_bytes_max: longest accepted ciphertext.
        key_bytes_max: longest accepted public key.
        security_bits: classical security.
        source: where that figure comes from.
    """

    name: str
    degree: int
    modulus_bits: tuple[int, ...]
    scale_bits: int
    limb_bits: int
    flooding_bits: int
    ciphertext_bytes_max: int
    key_bytes_max: int
    security_bits: int
    source: str


CKKS_SUMS = CkksSet(
    name="ckks-8192-sums-v1",
    degree=8192,
    modulus_bits=(60, 60, 60),
    scale_bits=60,
    limb_bits=24,
    flooding_bits=6,
    ciphertext_bytes_max=300_000,
    key_bytes_max=450_000,
    security_bits=128,
    source="HomomorphicEncryption.org standard 2018, table 1: N = 8192 allows 218 bits of modulus, used are 180",
)
"""Additions only. Fresh noise is about 2**-40 of a unit and rounding of doubles below 2**-18, so the flooding noise
of 2**-6 hides both. A number strays by a quarter with probability below 2**-180, one of a ciphertext below 2**-170."""


@dataclass(frozen=True, slots=True)
class VerticalCkksSet:
    """A named CKKS set for inner products of one party's columns with rows that another party encrypted.

    Attributes:
        name: how orders name it.
        degree: ring dimension N; a ciphertext carries N / 2 rows.
        base_bits, drop_bits: the two primes in which products are formed; rescaling drops the second.
        level_bits: prime per multiplication on the way to the rows' residuals, and the scale of what is encrypted.
        levels_max: most multiplications one after the other.
        special_bits: prime reserved for keys.
        noise_bits: the noise of a residual, per coefficient, stays below 2**noise_bits.
        flooding_bits: standard deviation of the noise added to an opened value, over the bound of its own noise.
        answers_max: most values that are opened under one key; a session has fresh keys.
        security_bits: classical security.
        source: where the figures come from.
    """

    name: str
    degree: int
    base_bits: int
    drop_bits: int
    level_bits: int
    levels_max: int
    special_bits: int
    noise_bits: int
    flooding_bits: int
    answers_max: int
    security_bits: int
    source: str

    def modulus_bits(self, levels: int) -> tuple[int, ...]:
        """Return the sizes of the primes for a computation of ``levels`` multiplications.

        Raises:
            ValueError: more than ``levels_max``.
        """
        if not 0 <= levels <= self.levels_max:
            raise ValueError(f"expected 0 to {self.levels_max} levels, got {levels}")
        return (self.base_bits, self.drop_bits, *(self.level_bits,) * levels, self.special_bits)


CKKS_VERTICAL = VerticalCkksSet(
    name="ckks-16384-vertical-v1",
    degree=16384,
    base_bits=60,
    drop_bits=30,
    level_bits=58,
    levels_max=4,
    special_bits=60,
    noise_bits=7,
    flooding_bits=29,
    answers_max=2**13,
    security_bits=128,
    source="HomomorphicEncryption.org standard 2018, table 1: N = 16384 allows 438 bits of modulus, used are at most "
    "382; flooding: Li, Micciancio, Schultz, Sorrell, CRYPTO 2022, section 5, 40 statistical bits",
)
"""Vertical regression. 2**flooding_bits exceeds sqrt(24 * answers_max) * 2**20. The noise of a residual is that of the
last rescaling, sqrt((1 + 2N/3) / 12), below 2**5 per coefficient; noise_bits leaves a factor of four for the rest."""

PARCEL_MESSAGE_TYPE = "query.parcel"
"""The one Flower message type a node answers; its content is one parcel."""

BUNDLE_SHA256 = "a7822fc704dbab454271227242627c02021c3564e53968601e74f8dc44590ea9"
"""Digest of the one Flower bundle a node accepts. It holds no code; ``factory.hub.bundle`` makes it."""
