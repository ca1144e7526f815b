"""The database under the registry: one writer at a time, and transactions that are whole or nothing.

SQLite (WAL, synchronous=FULL) unless the URL names PostgreSQL. A transaction is opened once
per thread: what is called inside joins it. Writers queue, on SQLite by ``BEGIN IMMEDIATE``,
on PostgreSQL by one advisory lock, so that whoever holds the lock reads what nobody changes.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from factory.registry import schema
from factory.registry.errors import RegistryOutdatedError, RegistryUnusableError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_WRITER = 0x5348_5546  # "SHUF", the number of the advisory lock that writers queue for
_BUSY_MS = 30_000
_FIRST = "r0001"
"""Revision of databases that were laid out before revisions were written down."""


class Database:
    """An engine with the rules above."""

    def __init__(self, url: str, *, upgrade: bool = False) -> None:
        """Open the database at an SQLAlchemy URL; a new one is laid out.

        Args:
            url: ``sqlite:///path`` or ``postgresql://user@host/name``.
            upgrade: whether an older layout is brought up to date even where others may use it.

        Raises:
            RegistryUnusableError: it cannot be reached, or is no registry.
            RegistryOutdatedError: its layout is older or newer than this release.
        """
        self._engine = _engine(url)
        self._thread = threading.local()
        self._turn = threading.RLock()
        try:
            with self.transaction() as connection:
                _bring_up_to_date(connection, url, upgrade=upgrade or self.dialect == "sqlite")
        except BaseException:
            self.close()
            raise

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return str(self._engine.dialect.name)

    def close(self) -> None:
        """Release the connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def transaction(self) -> Iterator["Connection"]:
        """Hold the writer's lock; all changes inside happen, or none. Inside another, join it."""
        joined = getattr(self._thread, "connection", None)
        if joined is not None:
            yield joined
            return
        self._thread.afterwards = []
        try:
            with self._turn, self._usable(), self._engine.connect().execution_options(writing=True) as connection:
                self._thread.connection = connection
                try:
                    with connection.begin():
                        if self.dialect == "postgresql":
                            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER})")
                        yield connection
                finally:
                    self._thread.connection = None
        finally:
            waiting, self._thread.afterwards = self._thread.afterwards, []
            for act in waiting:
                act()

    def afterwards(self, act: Callable[[], object]) -> None:
        """Do something once the transaction of this thread is over, however it ended; now if there is none."""
        if getattr(self._thread, "connection", None) is None:
            act()
        else:
            self._thread.afterwards.append(act)

    @contextlib.contextmanager
    def reading(self) -> Iterator["Connection"]:
        """Read without waiting for writers; inside a transaction, read what it has written."""
        joined = getattr(self._thread, "connection", None)
        if joined is not None:
            yield joined
            return
        with self._usable(), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        from sqlalchemy.exc import DBAPIError
        from sqlalchemy.exc import TimeoutError as PoolTimeoutError

        try:
            yield
        except (DBAPIError, PoolTimeoutError) as error:
            self._engine.dispose()
            reason = getattr(error, "orig", None) or error
            raise RegistryUnusableError(
                f"expected to be able to use the registry {self._engine.url.database or ''} ({_first_line(reason)}); "
                "check the room on its disk and what runs, and run the command again"
            ) from error


def _first_line(reason: object) -> str:
    return str(reason).strip().partition("\n")[0][:200]


def _bring_up_to_date(connection: "Connection", url: str, *, upgrade: bool) -> None:
    from sqlalchemy import inspect

    names = set(inspect(connection).get_table_names())
    if "alembic_version" in names:
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    elif "cases" in names:
        found = _FIRST
    else:
        schema.tables().create_all(connection)
        _write_revision(connection)
        return
    if found == schema.HEAD:
        return
    if found > schema.HEAD:
        raise RegistryOutdatedError(
            f"expected a registry of revision {schema.HEAD} or older, got {found}; install the release that wrote it"
        )
    if not upgrade:
        raise RegistryOutdatedError(
            f"expected a registry of revision {schema.HEAD}, got {found}; back it up, end what uses it and run: "
            f"shufang registry upgrade --url {_without_password(url)}"
        )
    from factory.registry.migrations import upgrade as run

    run(connection, stamped="alembic_version" in names)


def _write_revision(connection: "Connection") -> None:
    connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{schema.HEAD}')")  # noqa: S608 our constant


def _without_password(url: str) -> str:
    from sqlalchemy import make_url

    return make_url(url).render_as_string(hide_password=True)


def _engine(url: str) -> "Engine":
    from sqlalchemy import create_engine, event, make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        place = make_url(url)
        if place.drivername == "postgresql":
            place = place.set(drivername="postgresql+psycopg")
        engine = create_engine(place, pool_size=20, max_overflow=20, pool_timeout=60, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError):
        raise RegistryUnusableError("expected the registry as sqlite:///path or postgresql://user@host/name") from None
    except ModuleNotFoundError as error:
        raise RegistryUnusableError(
            f"expected the driver {error.name} for this registry; install it with the extra: shufang[postgresql]"
        ) from None
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _configure(connection: Any, _record: object) -> None:
            connection.isolation_level = None
            connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")

        @event.listens_for(engine, "begin")
        def _begin(connection: "Connection") -> None:
            writing = connection.get_execution_options().get("writing", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine
