"""Registries for tests: an SQLite file, and a schema of its own on the PostgreSQL server of this machine."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from factory.accounts.authentication import Authentication
from factory.accounts.credentials import Credentials
from factory.accounts.keys import AccountKeys
from factory.registry.store import Registry
from factory.services.actor import Actor
from factory.services.desk import Desk
from factory.services.people import NewAccount, NewOrganisation, People

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
KINDS = ("sqlite", "postgresql")
SERVER = "postgresql://postgres@127.0.0.1:5432/test"
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
PASSWORD = "wonderfully-long-43"


@contextmanager
def registry_url(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'registry.db'}"
        return
    import psycopg

    name = f"shufang_{uuid.uuid4().hex[:12]}"
    try:
        connection = psycopg.connect(SERVER, autocommit=True, connect_timeout=3)
    except psycopg.Error as error:
        if os.environ.get("SHUFANG_TEST_DATABASES") == "required":
            raise
        pytest.skip(f"no postgresql server with a database `test` on this machine ({type(error).__name__})")
    with connection:
        connection.execute(f"CREATE SCHEMA {name}")
        try:
            yield f"{SERVER}?options=-csearch_path%3D{name}"
        finally:
            connection.execute(f"DROP SCHEMA {name} CASCADE")
    connection.close()


class Clock:
    def __init__(self, moment: datetime = NOW) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment

    def pass_time(self, **parts: float) -> None:
        self.moment += timedelta(**parts)


class Platform:
    """Registry, desk, accounts and authentication with bodies and people of every role."""

    def __init__(self, url: str, folder: Path, *, founded: bool = True) -> None:
        self.url, self.clock = url, Clock()
        self.registry = Registry(url)
        self.desk = Desk(self.registry, self.clock)
        self.keys = AccountKeys.of_home(folder / "home")
        self.credentials = Credentials(self.registry, self.keys, CHEAP)
        self.authentication = Authentication(self.desk, self.credentials, platform="agency")
        self.people = People(self.desk, self.credentials, self.keys)
        if founded:
            self.found()

    def found(self) -> None:
        body = NewOrganisation(
            id="org-platform", name_zh="平台", name_en="Platform", roles=("administrator", "supervisor")
        )
        self.people.found(
            body,
            NewAccount(
                id="admin", name="管理员", organisation="org-platform", roles=("administrator",), identity="id-admin"
            ),
        )

    @property
    def admin(self) -> Actor:
        return Actor("admin", "org-platform", frozenset({"administrator"}), "password")

    def body(self, name: str, *roles: str, level: str = "", parent: str = "") -> None:
        self.people.register(
            self.admin,
            NewOrganisation(id=name, name_zh=name, name_en=name, roles=roles, level=level, parent=parent),
        )

    def person(self, name: str, organisation: str, *roles: str, identity: str = "") -> Actor:
        self.people.open_account(
            self.admin,
            NewAccount(id=name, name=name, organisation=organisation, roles=roles, identity=identity or f"id-{name}"),
        )
        return Actor(name, organisation, frozenset(roles), "password")

    def with_password(self, name: str, password: str = PASSWORD) -> None:
        self.authentication.accept(self.authentication.invite(self.admin, name), password)

    def close(self) -> None:
        self.registry.close()
