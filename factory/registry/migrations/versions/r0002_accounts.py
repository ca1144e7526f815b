"""Cases by organisation and agreement, events by person, the log, credentials, failures and kept answers."""

import json

import sqlalchemy as sa
from alembic import op

revision = "r0002"
down_revision = "r0001"

_BYTEWISE = {
    "cases": {"kind": 32, "id": 96, "state": 32},
    "artefacts": {"kind": 32, "case_id": 96, "name": 200},
    "events": {"kind": 32, "case_id": 96, "sha256": 64},
}


def _word(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables and fill in who acted."""
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        for table, columns in _BYTEWISE.items():
            for column, length in columns.items():
                op.alter_column(table, column, type_=sa.String(length, collation="C"))
        op.execute("ALTER TABLE events ALTER COLUMN seq DROP DEFAULT")
    op.add_column("events", sa.Column("actor", _word(200), nullable=False, server_default=""))
    rows = connection.execute(sa.text("SELECT seq, body FROM events ORDER BY seq")).all()
    for seq, body in rows:
        actor = str(json.loads(bytes(body)).get("actor", ""))[:200]
        connection.execute(sa.text("UPDATE events SET actor = :actor WHERE seq = :seq"), {"actor": actor, "seq": seq})
    op.create_index("events_of_actor", "events", ["actor"])
    _place_cases(connection)
    op.create_table(
        "logged",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.Column("origin", _word(200), nullable=False, server_default=""),
        sa.Column("position", sa.Integer, nullable=True),
    )
    op.create_table(
        "credentials",
        sa.Column("id", _word(64), primary_key=True),
        sa.Column("owner", _word(96), nullable=False),
        sa.Column("kind", _word(16), nullable=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
        sa.Column("settings", sa.LargeBinary, nullable=False),
        sa.Column("created_at", _word(32), nullable=False),
        sa.Column("expires_at", _word(32), nullable=False),
        sa.Column("revoked_at", _word(32), nullable=False, server_default=""),
    )
    op.create_index("credentials_of_owner", "credentials", ["owner", "kind"])
    op.create_table(
        "failures",
        sa.Column("login", _word(64), primary_key=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("locked_until", _word(32), nullable=False, server_default=""),
    )
    op.create_table(
        "answers",
        sa.Column("actor", _word(96), primary_key=True),
        sa.Column("key", _word(200), primary_key=True),
        sa.Column("command_sha256", _word(64), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("at", _word(32), nullable=False),
    )


def _place_cases(connection: sa.Connection) -> None:
    for column in ("organisation", "agreement"):
        op.add_column("cases", sa.Column(column, _word(96), nullable=False, server_default=""))
    op.create_index("cases_of_organisation", "cases", ["kind", "organisation"])
    openers: dict[tuple[str, str], str] = {}
    for kind, case_id, body in connection.execute(sa.text("SELECT kind, case_id, body FROM events ORDER BY seq")):
        openers.setdefault((kind, case_id), str(json.loads(bytes(body)).get("organisation", ""))[:96])
    for kind, case_id, document in connection.execute(sa.text("SELECT kind, id, document FROM cases")).all():
        agreement = json.loads(bytes(document)).get("agreement_id", "")
        connection.execute(
            sa.text("UPDATE cases SET organisation = :body, agreement = :agreement WHERE kind = :kind AND id = :id"),
            {"body": openers.get((kind, case_id), ""), "agreement": agreement, "kind": kind, "id": case_id},
        )
