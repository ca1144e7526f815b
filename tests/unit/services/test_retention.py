"""Events stay five years; a gap is reported; afterwards their removal is allowed and is an event."""

import pytest

from factory.registry.errors import ChainBrokenError, TransitionRefusedError
from factory.registry.schema import table
from factory.services.retention import Retention
from tests.registries import KINDS, Platform, registry_url


@pytest.fixture(params=KINDS)
def platform(request, tmp_path):
    with registry_url(request.param, tmp_path) as url:
        found = Platform(url, tmp_path)
        yield found
        found.close()


def remove(platform, through, actor=None, reason="期满"):
    return Retention(platform.desk).remove(actor or platform.admin, through, reason=reason)


@pytest.mark.requirement("LOG-RETAIN")
def test_events_stay_five_years_and_then_go_on_record(platform):
    platform.clock.pass_time(days=1)
    platform.body("org-operator", "operator")
    platform.clock.moment = platform.clock.moment.replace(year=2031, day=2)
    platform.clock.pass_time(seconds=-1)
    with pytest.raises(TransitionRefusedError) as told:
        remove(platform, 2)
    assert told.value.refusal.code == "log.retained"
    platform.clock.pass_time(seconds=1)
    with pytest.raises(TransitionRefusedError) as told:
        remove(platform, 3)  # the third is a day younger
    assert "event 3" in str(told.value)
    event = remove(platform, 2)
    assert (event.body["act"], event.body["actor"], event.body["reason"]) == ("log.remove", "admin", "期满")
    assert [event.seq for event in platform.registry.events()] == [3, 4, 5, 6]
    assert platform.registry.verify_chain() == 6


@pytest.mark.requirement("LOG-RETAIN")
def test_a_gap_in_the_numbers_is_reported(platform):
    platform.body("org-operator", "operator")
    events = table("events")
    for query in (events.c.seq == 2, events.c.seq == 1):
        with platform.registry.transaction() as connection:
            connection.execute(events.delete().where(query))
        with pytest.raises(ChainBrokenError, match="missing"):
            platform.registry.verify_chain()


def test_nobody_else_removes_and_not_without_a_reason(platform):
    platform.clock.pass_time(days=9999)
    platform.body("org-operator", "operator")
    li = platform.person("li", "org-operator", "operator")
    for actor, reason, code in ((li, "x", "log.role"), (platform.admin, " ", "log.reason")):
        with pytest.raises(TransitionRefusedError) as told:
            remove(platform, 1, actor, reason)
        assert told.value.refusal.code == code
    assert platform.registry.events()[-1].body["act"] == "log.remove.refused"
