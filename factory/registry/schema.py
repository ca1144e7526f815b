"""The tables of the registry, and the revision they stand for.

What people read and what events tell is in ``cases``, ``artefacts`` and ``events``; the rest
holds what must never be printed: digests of credentials, sessions, failures of a login, and
answers kept for repeated commands. Moments are text (``2026-03-02T08:00:00Z``) and identifiers
compare byte by byte, so that SQLite and PostgreSQL order and compare alike.
"""

import functools
from typing import Any

HEAD = "r0002"
"""Newest revision of the migrations; ``migrations/versions`` holds one file per revision."""

READABLE = ("cases", "artefacts", "events")
"""Tables that may be exported; the others hold credentials or answers to single persons."""


@functools.cache
def tables() -> Any:  # a sqlalchemy MetaData; typed loosely so that sqlalchemy loads late
    """Return the tables as SQLAlchemy describes them."""
    from sqlalchemy import Column, Index, Integer, LargeBinary, MetaData, String, Table

    def word(length: int) -> Any:
        return String(length).with_variant(String(length, collation="C"), "postgresql")

    metadata = MetaData()
    cases = Table(
        "cases",
        metadata,
        Column("kind", word(32), primary_key=True),
        Column("id", word(96), primary_key=True),
        Column("state", word(32), nullable=False),
        Column("revision", Integer, nullable=False),
        Column("document", LargeBinary, nullable=False),
        Column("organisation", word(96), nullable=False, server_default=""),
        Column("agreement", word(96), nullable=False, server_default=""),
    )
    Index("cases_of_organisation", cases.c.kind, cases.c.organisation)
    Table(
        "artefacts",
        metadata,
        Column("kind", word(32), primary_key=True),
        Column("case_id", word(96), primary_key=True),
        Column("name", word(200), primary_key=True),
        Column("content", LargeBinary, nullable=False),
    )
    events = Table(
        "events",
        metadata,
        Column("seq", Integer, primary_key=True, autoincrement=False),
        Column("kind", word(32), nullable=False),
        Column("case_id", word(96), nullable=False),
        Column("sha256", word(64), nullable=False, unique=True),
        Column("body", LargeBinary, nullable=False),
        Column("actor", word(200), nullable=False, server_default=""),
    )
    Index("events_of_case", events.c.kind, events.c.case_id)
    Index("events_of_actor", events.c.actor)
    Table(
        "logged",
        metadata,
        Column("seq", Integer, primary_key=True, autoincrement=False),
        Column("envelope", LargeBinary, nullable=False),
        Column("origin", word(200), nullable=False, server_default=""),
        Column("position", Integer, nullable=True),
    )
    credentials = Table(
        "credentials",
        metadata,
        Column("id", word(64), primary_key=True),
        Column("owner", word(96), nullable=False),
        Column("kind", word(16), nullable=False),
        Column("secret", LargeBinary, nullable=False),
        Column("settings", LargeBinary, nullable=False),
        Column("created_at", word(32), nullable=False),
        Column("expires_at", word(32), nullable=False),
        Column("revoked_at", word(32), nullable=False, server_default=""),
    )
    Index("credentials_of_owner", credentials.c.owner, credentials.c.kind)
    Table(
        "failures",
        metadata,
        Column("login", word(64), primary_key=True),
        Column("attempts", Integer, nullable=False),
        Column("locked_until", word(32), nullable=False, server_default=""),
    )
    Table(
        "answers",
        metadata,
        Column("actor", word(96), primary_key=True),
        Column("key", word(200), primary_key=True),
        Column("command_sha256", word(64), nullable=False),
        Column("status", Integer, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("at", word(32), nullable=False),
    )
    return metadata


def table(name: str) -> Any:  # a sqlalchemy Table
    """Return one of the tables."""
    return tables().tables[name]
