"""Watches what a program asks, and tells when it looks like going through a register instead of verifying.

Three figures over the last ``WINDOW`` records of a key:

- *hits*: a program that verifies people it deals with finds most of them; one that guesses finds few.
- *entropy*: values asked about spread over the register; numbers that were counted up share all but
  their last places. The measure is the entropy of the values without their last ``TAIL`` places,
  relative to that of as many values that are all different.
- *rate* is limited by quota here and by the node's ``minute_max``.

Source:
    C. E. Shannon, A Mathematical Theory of Communication, 1948, section 6 (entropy).

Privacy:
    Values are kept in memory as keyed digests whose key is drawn at every start.
"""

import hmac
import math
import secrets
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

WINDOW = 200
HITS_PERCENT_MIN = 10
ENTROPY_PERCENT_MIN = 60
TAIL = 4


@dataclass(frozen=True, slots=True)
class Alarm:
    """What looks wrong.

    Attributes:
        kind: ``hits`` or ``entropy``.
        percent: the figure.
        limit: what it should be at least.
    """

    kind: str
    percent: int
    limit: int


@dataclass(slots=True, repr=False)
class Watch:
    """The last records of one key."""

    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _hits: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _heads: deque[bytes] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def see(self, records: Sequence[Sequence[str]], matches: Sequence[bool]) -> Alarm | None:
        """Take note of asked records and their answers; return the first alarm they raise.

        Args:
            records: the values of each record.
            matches: what came of it.
        """
        self._hits.extend(matches)
        self._heads.extend(self._head(values) for values in records)
        if len(self._hits) < WINDOW:
            return None
        hits = sum(self._hits) * 100 // WINDOW
        if hits < HITS_PERCENT_MIN:
            return Alarm("hits", hits, HITS_PERCENT_MIN)
        spread = entropy_percent(list(self._heads))
        if spread < ENTROPY_PERCENT_MIN:
            return Alarm("entropy", spread, ENTROPY_PERCENT_MIN)
        return None

    def clear(self) -> None:
        """Begin anew."""
        self._hits.clear()
        self._heads.clear()

    def _head(self, values: Sequence[str]) -> bytes:
        longest = max(values, key=len, default="")
        return hmac.digest(self._key, longest[:-TAIL].encode(), "sha256")[:16]


def entropy_percent(values: Sequence[bytes]) -> int:
    """Return the entropy of the values in percent of the most it could be."""
    if len(values) < 2:
        return 100
    shares = [count / len(values) for count in Counter(values).values()]
    return round(-sum(share * math.log2(share) for share in shares) / math.log2(len(values)) * 100)
