"""Nothing that was acknowledged is missing in the log, whatever was away or died; what was altered is seen."""

import os
import signal

import pytest

from factory.log.errors import LogDiskError
from factory.log.files import DurableFiles
from factory.log.home import LogHome
from factory.log.log import Log
from factory.log.shard import Shard
from factory.registry import outbox
from factory.registry.errors import ChainBrokenError
from factory.registry.schema import table
from factory.registry.store import Act, Registry
from tests.registries import KINDS, NOW, registry_url
from tests.unit.log.logs import make_home, signing_key

ACT = Act("li", "operator", "org-operator", "request.submit", "需要", {"request": "ab" * 32})
KEY = signing_key()


class World:
    def __init__(self, url, folder):
        self.registry = Registry(url)
        self.home = make_home(folder / "log")

    def act(self, count=1):
        first = len(self.registry.cases("request"))
        with self.registry.transaction():
            for number in range(first, first + count):
                self.registry.create("request", f"r-{number:04}", state="open", document={"n": 1}, act=ACT, now=NOW)

    def deliver(self, files=None):
        with Log.open(self.home, now=NOW, files=files) as log:
            return outbox.deliver(self.registry, KEY, log)

    def trees(self):
        shard = Shard(self.home, 2026)
        head = shard.checkpoint().checkpoint
        return {head.origin: shard.reader(head.size)}

    def verify(self):
        return outbox.verify(self.registry, KEY.public.spki, self.trees())

    def break_with(self, *statements):
        with self.registry.transaction() as connection:
            for statement in statements:
                connection.execute(statement)


@pytest.fixture(params=KINDS)
def world(request, tmp_path):
    with registry_url(request.param, tmp_path) as url:
        found = World(url, tmp_path)
        yield found
        found.registry.close()


class FullDisk(DurableFiles):
    def replace_all(self, contents):
        raise OSError(28, "No space left on device")


def test_every_event_is_logged_once_in_order(world):
    world.act(300)
    assert world.deliver() == 300
    world.act()
    assert (world.deliver(), world.deliver()) == (1, 0)
    assert world.verify() == 301
    assert outbox.backlog(world.registry) == outbox.Backlog(301, 0)


def test_while_the_log_is_away_events_wait_and_then_go_as_they_were(world):
    world.act(2)
    with pytest.raises(LogDiskError):
        world.deliver(FullDisk())
    assert outbox.backlog(world.registry) == outbox.Backlog(0, 2)
    world.act()
    assert world.deliver() == 3
    assert world.verify() == 3


def test_a_sender_killed_between_log_and_registry_sends_nothing_twice(world):
    world.act(3)

    class Dying:
        def __init__(self, log):
            self.log, self.origin = log, log.origin

        def append(self, submissions):
            self.log.append(submissions)
            os.kill(os.getpid(), signal.SIGKILL)

    url = world.registry.database._engine.url.render_as_string(hide_password=False)
    world.registry.close()
    pid = os.fork()
    if pid == 0:
        try:
            registry = Registry(url)
            with Log.open(LogHome.read(world.home.folder), now=NOW) as log:
                outbox.deliver(registry, KEY, Dying(log))
        finally:
            os._exit(3)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert next(iter(world.trees().values())).size == 3
    assert outbox.backlog(world.registry).waiting == 3
    assert world.deliver() == 3
    assert next(iter(world.trees().values())).size == 3
    assert world.verify() == 3


@pytest.mark.requirement("LOG-ALL")
@pytest.mark.parametrize("damage", ["edit", "rechained", "last", "last-with-its-place", "first"])
def test_an_event_altered_or_deleted_is_seen(world, damage):
    world.act(3)
    world.deliver()
    assert (world.registry.verify_chain(), world.verify()) == (3, 3)
    events, logged = table("events"), table("logged")
    if damage == "edit":
        event = world.registry.events()[1]
        forged = repr(event.body).encode()
        world.break_with(events.update().where(events.c.seq == 2).values(body=forged))
        with pytest.raises(Exception, match=r"."):
            world.registry.verify_chain()
        return
    if damage == "rechained":  # an administrator who recomputes the chain
        from factory.registry.store import GENESIS
        from nodes.contract import canonical
        from nodes.contract.signing import sha256_hex

        previous = GENESIS
        for event in world.registry.events():
            body = canonical.dumps({**event.body, "previous": previous, "reason": "nothing happened"})
            previous = sha256_hex(body)
            world.break_with(events.update().where(events.c.seq == event.seq).values(body=body, sha256=previous))
        assert world.registry.verify_chain() == 3
    elif damage == "first":
        world.break_with(events.delete().where(events.c.seq == 1))
        with pytest.raises(ChainBrokenError):
            world.registry.verify_chain()
    else:
        world.break_with(events.delete().where(events.c.seq == 3))
        if damage == "last-with-its-place":
            world.break_with(logged.delete().where(logged.c.seq == 3))
        assert world.registry.verify_chain() == 2
    with pytest.raises(ChainBrokenError):
        world.verify()
