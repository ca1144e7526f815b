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
