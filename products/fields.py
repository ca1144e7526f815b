"""Types of the fields of statements and trust data, as pydantic understands them."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints

from products import canonical


def parse_time(value: object) -> datetime:
    """Return the time of ``2026-01-31T08:00:00Z``, the one spelling of statements.

    Raises:
        ValueError: another spelling.
    """
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or len(value) != 20 or not value.isascii():
        raise ValueError("expected a time like 2026-01-31T08:00:00Z")
    return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def time_text(moment: datetime) -> str:
    """Return ``moment`` as statements write times: UTC to the second."""
    if moment.tzinfo is None:
        raise ValueError("expected an aware time")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[datetime, BeforeValidator(parse_time), PlainSerializer(time_text, return_type=str)]
"""An aware time to the second; in JSON ``2026-01-31T08:00:00Z``."""


def parse_end(value: object) -> datetime | None:
    """Return the end of a term: a time, a day (its end in China), or None for an empty text.

    Raises:
        ValueError: another spelling.
    """
    if value in (None, ""):
        return None
    if isinstance(value, str) and len(value) == 10:
        day = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=_CHINA)
        return (day + timedelta(days=1)).astimezone(UTC)
    return parse_time(value)


_CHINA = timezone(timedelta(hours=8))

End = Annotated[datetime | None, BeforeValidator(parse_end)]
"""End of a term that departments write as a day or a time, or leave empty."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._:-]{0,95}$")]
"""Identifier: lower-case letters, digits, dot, underscore, colon, hyphen; at most 96."""

Hex32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 digest as hex."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=4000)]
"""Text for people."""

Count = Annotated[int, Field(ge=0, le=2**53 - 1)]


class Closed(BaseModel):
    """Base of trust data: frozen, strict, closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def to_bytes(self) -> bytes:
        """Return the canonical JSON."""
        return canonical.dumps(self.model_dump(mode="json"))


class Open(BaseModel):
    """Base of predicates: frozen, strict in what it knows; unknown fields are ignored.

    Source:
        in-toto Attestation Framework v1, parsing rules: consumers ignore unrecognised fields.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)
