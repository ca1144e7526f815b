"""Databases: tables of PostgreSQL, MySQL and MariaDB as streams of Arrow batches, never whole in memory.

Address and password stand in a connection file that only its owner can read (mode 0600):

    kind = "postgresql"            # postgresql | mysql (also MariaDB)
    host = "10.1.2.3"
    port = 5432
    database = "registers"
    user = "shufang_reader"
    password = "…"
    tls_ca = "/etc/ssl/dept-ca.pem"   # optional; then the server must show a certificate of it

Sessions are read-only. Errors say what failed, never the library's message: it may quote a cell,
an address or a user.
"""

import stat
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from quality.errors import SourceError

DatabaseKind: TypeAlias = Literal["postgresql", "mysql"]
_CONNECT_TIMEOUT_S = 10
_MYSQL_BATCH_ROWS = 20_000
# Types that Arrow carries as they are; every other one is asked for as the server's own text.
_POSTGRESQL_NATIVE = frozenset(
    {"int2", "int4", "int8", "float4", "float8", "text", "varchar", "date", "timestamp", "timestamptz"}
)


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a database is and how to enter it.

    Attributes:
        kind: of the server.
        host, port, database, user: as the server knows them.
        password: secret; not in the repr.
        tls_ca: certificate authority the server's certificate must come from; empty: none is asked for.
    """

    kind: DatabaseKind
    host: str
    port: int
    database: str
    user: str
    password: str = field(default="", repr=False)
    tls_ca: str = ""


def read_connection(path: Path) -> Connection:
    """Read a connection file.

    Raises:
        SourceError: it is missing, others can read it, or a field is missing, unknown or of the wrong type.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceError("source.connection", f"expected a connection file {path.name}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SourceError("source.connection", f"expected TOML in {path.name} ({type(error).__name__})") from None
    if mode & 0o077:
        raise SourceError("source.connection", f"expected mode 0600 for {path.name}, got {mode:04o}; chmod 600 it")
    try:
        found = Connection(**document)
    except TypeError:
        raise SourceError("source.connection", f"expected only the fields of a connection in {path.name}") from None
    texts = (found.host, found.database, found.user, found.password, found.tls_ca)
    if found.kind not in get_args(DatabaseKind) or any(not isinstance(text, str) for text in texts):
        raise SourceError("source.connection", f"expected kind postgresql or mysql and texts in {path.name}")
    if not isinstance(found.port, int) or not 0 < found.port < 65_536:
        raise SourceError("source.connection", f"expected a port number in {path.name}")
    return found


def columns_of(connection: Connection, table: str) -> tuple[str, ...]:
    """Return the column names of a table.

    Raises:
        SourceError: the server cannot be reached, or has no such table for this user.
    """
    with _entered(connection) as session:
        return tuple(name for name, _ in session.columns(table))


@contextmanager
def reading(connection: Connection, table: str, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """Open a stream of a table's rows: an Arrow ``RecordBatchReader``, to be read inside the block.

    Args:
        connection: the database.
        table: ``table`` or ``schema.table``.
        columns: which; all if not given.

    Raises:
        SourceError: the server cannot be reached, or has no such table or column for this user.
    """
    with _entered(connection) as session:
        known = dict(session.columns(table))
        wanted = list(known) if columns is None else list(columns)
        if any(name not in known for name in wanted):
            raise SourceError("source.missing", "expected columns that the table has")
        yield session.stream(table, [(name, known[name]) for name in wanted])


class _PostgreSql:
    """One read-only session of PostgreSQL, over ADBC: rows arrive as Arrow, by the server's binary COPY."""

    def __init__(self, connection: Connection) -> None:
        from adbc_driver_postgresql import dbapi

        values = {
            "host": connection.host,
            "port": str(connection.port),
            "dbname": connection.database,
            "user": connection.user,
            "password": connection.password,
            "connect_timeout": str(_CONNECT_TIMEOUT_S),
            "options": "-c default_transaction_read_only=on",
            "application_name": "shufang-node",
        }
        if connection.tls_ca:
            values |= {"sslmode": "verify-full", "sslrootcert": connection.tls_ca}
        # The driver takes libpq's keyword form; a value is quoted with its quotes and backslashes escaped.
        text = " ".join(f"{key}='{_escaped(value)}'" for key, value in values.items() if value)
        self._connection = dbapi.connect(text)

    def columns(self, table: str) -> list[tuple[str, str]]:
        """Return name and type of each column."""
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {_ansi(table)} LIMIT 0")  # noqa: S608 - a quoted name
            schema = cursor.fetch_record_batch().schema
        return [(item.name, (item.metadata or {}).get(b"POSTGRESQL:type", b"").decode()) for item in schema]

    def stream(self, table: str, columns: Sequence[tuple[str, str]]) -> Any:
        """Return the rows."""
        parts = []
        for name, kind in columns:
            quoted = _ansi(name, whole=True)
            parts.append(quoted if kind in _POSTGRESQL_NATIVE else f"CAST({quoted} AS text) AS {quoted}")
        self._cursor = self._connection.cursor()
        self._cursor.execute(f"SELECT {', '.join(parts)} FROM {_ansi(table)}")  # noqa: S608 - quoted names
        return self._cursor.fetch_record_batch()

    def close(self) -> None:
        """End the session."""
        if hasattr(self, "_cursor"):
            self._cursor.close()
        self._connection.close()


class _MySql:
    """One read-only session of MySQL or MariaDB; every cell arrives as the server's text."""

    def __init__(self, connection: Connection) -> None:
        import pymysql
        from pymysql.converters import encoders
        from pymysql.cursors import SSCursor

        self._connection = pymysql.connect(
            host=connection.host,
            port=connection.port,
            user=connection.user,
            password=connection.password,
            database=connection.database,
            charset="utf8mb4",
            connect_timeout=_CONNECT_TIMEOUT_S,
            # No decoders: a date like 0000-00-00 must reach the checks as it is.
            conv=dict(encoders),
            cursorclass=SSCursor,
            ssl={"ca": connection.tls_ca} if connection.tls_ca else None,
        )
        with self._connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION READ ONLY")

    def columns(self, table: str) -> list[tuple[str, str]]:
        """Return name and type of each column."""
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {_ticked(table)} LIMIT 0")  # noqa: S608 - a quoted name
            return [(str(item[0]), "") for item in cursor.description]

    def stream(self, table: str, columns: Sequence[tuple[str, str]]) -> Any:
        """Return the rows."""
        import pyarrow as pa

        parts = ", ".join(_ticked(name, whole=True) for name, _ in columns)
        self._cursor = self._connection.cursor()
        self._cursor.execute(f"SELECT {parts} FROM {_ticked(table)}")  # noqa: S608 - quoted names
        schema = pa.schema([(name, pa.string()) for name, _ in columns])
        return pa.RecordBatchReader.from_batches(schema, self._batches(self._cursor, schema))

    def close(self) -> None:
        """End the session, also in the middle of a stream."""
        if hasattr(self, "_cursor"):
            # Else cursor and result, when they are collected, would read the rest from a connection that is gone.
            self._cursor.connection = None
            if self._connection._result is not None:  # noqa: SLF001 - as below
                self._connection._result.unbuffered_active = False  # noqa: SLF001 - as below
        self._connection._force_close()  # noqa: SLF001 - close() would first read the rest of the table

    @staticmethod
    def _batches(cursor: Any, schema: Any) -> Iterator[Any]:
        import pyarrow as pa

        while rows := cursor.fetchmany(_MYSQL_BATCH_ROWS):
            columns = [
                pa.array([cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell for cell in column])
                if any(isinstance(cell, bytes) for cell in column)
                else pa.array(column, type=pa.string())
                for column in zip(*rows, strict=True)
            ]
            yield pa.RecordBatch.from_arrays([column.cast(pa.string()) for column in columns], schema=schema)


@contextmanager
def _entered(connection: Connection) -> Iterator[_PostgreSql | _MySql]:
    failures, missing = _errors(connection.kind)
    try:
        session = _PostgreSql(connection) if connection.kind == "postgresql" else _MySql(connection)
    except failures as error:
        kind = type(error).__name__
        raise SourceError("source.unreachable", f"expected to enter the {connection.kind} server ({kind})") from None
    except RuntimeError as error:  # pymysql without a module that an authentication method needs
        raise SourceError("source.unreachable", f"expected to enter the server ({type(error).__name__})") from None
    try:
        yield session
    except missing:
        raise SourceError("source.missing", "expected the table on the server, visible to this user") from None
    except failures as error:
        raise SourceError("source.unreadable", f"reading the table failed ({type(error).__name__})") from None
    finally:
        session.close()


def _errors(kind: DatabaseKind) -> tuple[type[Exception], type[Exception]]:
    """Return the library's root error and the one for a table that is not there."""
    try:
        if kind == "postgresql":
            from adbc_driver_postgresql import dbapi

            return dbapi.Error, dbapi.ProgrammingError
        import pymysql
    except ImportError:
        raise SourceError(
            "source.driver", "expected the database drivers; install them: pip install 'shufang[sources]'"
        ) from None
    return pymysql.MySQLError, pymysql.ProgrammingError


def _ansi(name: str, *, whole: bool = False) -> str:
    return _quoted(name, '"', whole=whole)


def _ticked(name: str, *, whole: bool = False) -> str:
    return _quoted(name, "`", whole=whole)


def _quoted(name: str, quote: str, *, whole: bool) -> str:
    """Return a name, or ``schema.table`` unless it is whole, as an identifier."""
    parts = [name] if whole else name.split(".", 1)
    return ".".join(quote + part.replace(quote, quote * 2) + quote for part in parts)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
