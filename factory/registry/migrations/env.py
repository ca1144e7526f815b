"""Run by alembic: migrations on the connection that the registry holds."""

from alembic import context

from factory.registry import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.tables(),
    transaction_per_migration=False,
)
context.run_migrations()
