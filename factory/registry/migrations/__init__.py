"""How an older registry becomes the present one: one file per revision, run by alembic in one transaction."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection


def upgrade(connection: "Connection", *, stamped: bool) -> None:
    """Bring the registry behind ``connection`` to the newest revision, inside its transaction.

    Args:
        connection: with the writer's lock.
        stamped: whether the registry says its revision; one that does not is the first.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    if not stamped:
        command.stamp(config, "r0001")
    command.upgrade(config, "head")
