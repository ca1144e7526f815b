"""Real database servers for tests: PostgreSQL and MariaDB on this machine, or the test is skipped with the reason."""

import os
import uuid
from pathlib import Path

import pytest

SERVERS = {
    "postgresql": {"kind": "postgresql", "host": "127.0.0.1", "port": 5432, "database": "test", "user": "postgres"},
    "mysql": {"kind": "mysql", "host": "127.0.0.1", "port": 3306, "database": "test", "user": "root"},
}


def write_connection(path: Path, kind: str, *, mode: int = 0o600, **changes: object) -> Path:
    document = {**SERVERS[kind], **changes}
    lines = [
        f"{key} = {value!r}" if isinstance(value, int) else f'{key} = "{value}"' for key, value in document.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    path.chmod(mode)
    return path


class Server:
    """One server with a table of its own for a test."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.table = f"shufang_{uuid.uuid4().hex[:12]}"
        self._run("SELECT 1")

    def create(self, columns: str, rows: list[str]) -> None:
        self._run(f"CREATE TABLE {self.table} ({columns})")
        for start in range(0, len(rows), 500):
            self._run(f"INSERT INTO {self.table} VALUES {', '.join(rows[start : start + 500])}")

    def change(self, sql: str) -> None:
        self._run(sql.format(table=self.table))

    def drop(self) -> None:
        self._run(f"DROP TABLE IF EXISTS {self.table}")

    def _run(self, sql: str) -> None:
        where = SERVERS[self.kind]
        if self.kind == "postgresql":
            from adbc_driver_postgresql import dbapi

            uri = f"postgresql://{where['user']}@{where['host']}:{where['port']}/{where['database']}?connect_timeout=3"
            with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
                cursor.execute(sql)
        else:
            import pymysql

            with pymysql.connect(
                host=where["host"], port=where["port"], user=where["user"], database=where["database"],
                charset="utf8mb4", autocommit=True, connect_timeout=3,
            ) as connection, connection.cursor() as cursor:  # fmt: skip
                cursor.execute("SET sql_mode = ''")
                cursor.execute(sql)


def server(kind: str) -> Server:
    try:
        return Server(kind)
    except Exception as error:
        if os.environ.get("SHUFANG_TEST_DATABASES") == "required":
            raise
        pytest.skip(f"no {kind} server with a database `test` on this machine ({type(error).__name__})")
