"""Cases, artefacts and the chain of events."""

import sqlalchemy as sa
from alembic import op

revision = "r0001"
down_revision = None


def upgrade() -> None:
    """Lay out the first tables."""
    op.create_table(
        "cases",
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("id", sa.String(96), primary_key=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "artefacts",
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("case_id", sa.String(96), primary_key=True),
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("case_id", sa.String(96), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("events_of_case", "events", ["kind", "case_id"])
