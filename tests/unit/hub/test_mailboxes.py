"""What the relay holds: who may do what, in which order, within which limits."""

import dataclasses

import pytest

from factory.hub.mailboxes import Mailboxes, Place
from nodes.contract.frames import RelayRefusedError
from nodes.contract.parameters import LIMITS

SMALL = dataclasses.replace(LIMITS, frame_bytes_max=100, queue_bytes_max=250, frames_queued_max=3, frame_age_s_max=60)
PLACE = Place("s-1", "operator", "node-east", "c1")


def boxes(**changes: int) -> Mailboxes:
    mailboxes = Mailboxes(dataclasses.replace(SMALL, **changes))
    mailboxes.put_session("operator", "s-1", {"operator", "node-east", "unit-1"}, 30, may_create=True, now=0)
    return mailboxes


def status(call, *args, **kwargs) -> int:
    with pytest.raises(RelayRefusedError) as refused:
        call(*args, **kwargs)
    return refused.value.status


def test_who_may_not_create_sessions_is_refused() -> None:
    assert status(Mailboxes(SMALL).put_session, "unit-1", "s-2", {"unit-1"}, 30, may_create=False, now=0) == 403


def test_a_session_of_others_cannot_be_widened() -> None:
    call = boxes().put_session
    assert status(call, "operator-2", "s-1", {"operator-2", "node-east"}, 30, may_create=True, now=0) == 403


def test_a_session_one_is_no_party_of_cannot_be_created() -> None:
    assert status(boxes().put_session, "operator", "s-2", {"node-east"}, 30, may_create=True, now=0) == 403


def test_a_session_of_others_cannot_be_ended() -> None:
    assert status(boxes().end_session, "node-east", "s-1", now=0) == 403


def test_an_ended_session_does_not_come_back() -> None:
    mailboxes = boxes()
    mailboxes.end_session("operator", "s-1", now=1)
    assert status(mailboxes.put_ask, PLACE, 1, b"a", now=2) == 410
    assert status(mailboxes.put_session, "operator", "s-1", {"operator"}, 30, may_create=True, now=2) == 410


def test_who_is_no_party_is_refused() -> None:
    for place in (
        dataclasses.replace(PLACE, asker="node-west"),
        dataclasses.replace(PLACE, responder="node-west"),
    ):
        assert status(boxes().put_ask, place, 1, b"a", now=0) == 403


def test_a_session_nobody_opened_is_not_found() -> None:
    assert status(boxes().put_ask, dataclasses.replace(PLACE, session="s-9"), 1, b"a", now=0) == 404


def test_a_gap_is_refused() -> None:
    assert status(boxes().put_ask, PLACE, 2, b"a", now=0) == 409


def test_other_bytes_under_the_same_number_are_refused() -> None:
    mailboxes = boxes()
    mailboxes.put_ask(PLACE, 1, b"a", now=0)
    assert status(mailboxes.put_ask, PLACE, 1, b"b", now=0) == 409


def test_a_number_that_was_passed_is_refused() -> None:
    mailboxes = boxes()
    mailboxes.put_ask(PLACE, 1, b"a", now=0)
    mailboxes.put_reply(PLACE, 1, b"r", now=0)
    mailboxes.put_ask(PLACE, 2, b"b", now=0)
    assert status(mailboxes.put_ask, PLACE, 1, b"a", now=0) == 409


def test_the_next_number_waits_for_the_reply() -> None:
    mailboxes = boxes()
    mailboxes.put_ask(PLACE, 1, b"a", now=0)
    assert status(mailboxes.put_ask, PLACE, 2, b"b", now=0) == 409


def test_another_reply_to_the_same_parcel_is_refused() -> None:
    mailboxes = boxes()
    mailboxes.put_ask(PLACE, 1, b"a", now=0)
    mailboxes.put_reply(PLACE, 1, b"r", now=0)
    assert status(mailboxes.put_reply, PLACE, 1, b"s", now=0) == 409


def test_a_reply_nobody_waits_for_is_not_found() -> None:
    assert status(boxes().put_reply, PLACE, 1, b"r", now=0) == 404


@pytest.mark.parametrize(("size", "expected"), [(100, 0), (101, 413)])
def test_a_frame_over_the_limit_is_refused(size: int, expected: int) -> None:
    mailboxes = boxes()
    if expected:
        assert status(mailboxes.put_ask, PLACE, 1, bytes(size), now=0) == expected
    else:
        assert mailboxes.put_ask(PLACE, 1, bytes(size), now=0)


def test_an_asker_that_holds_too_many_bytes_is_told_to_wait_and_others_are_not() -> None:
    mailboxes = boxes()
    for channel in ("c1", "c2"):
        mailboxes.put_ask(dataclasses.replace(PLACE, channel=channel), 1, bytes(100), now=0)
    assert status(mailboxes.put_ask, dataclasses.replace(PLACE, channel="c3"), 1, bytes(51), now=0) == 429
    assert mailboxes.put_ask(dataclasses.replace(PLACE, asker="unit-1"), 1, bytes(100), now=0)


def test_an_asker_with_too_many_open_exchanges_is_told_to_wait_and_others_are_not() -> None:
    mailboxes = boxes()
    for channel in ("c1", "c2", "c3"):
        mailboxes.put_ask(dataclasses.replace(PLACE, channel=channel), 1, b"a", now=0)
    assert status(mailboxes.put_ask, dataclasses.replace(PLACE, channel="c4"), 1, b"a", now=0) == 429
    assert mailboxes.put_ask(dataclasses.replace(PLACE, asker="unit-1"), 1, b"a", now=0)


@pytest.mark.parametrize(("age", "kept"), [(59, True), (60, False), (61, False)])
def test_a_parcel_is_dropped_at_the_age_limit(age: int, kept: bool) -> None:
    mailboxes = Mailboxes(SMALL)
    mailboxes.put_session("operator", "s-1", {"operator", "node-east"}, 300, may_create=True, now=0)
    mailboxes.put_ask(PLACE, 1, b"a", now=0)
    mailboxes.sweep(age)
    assert bool(mailboxes.fetch("node-east", ())) is kept
    assert mailboxes.held_bytes == int(kept)


@pytest.mark.parametrize(("now", "kept"), [(29, True), (30, False)])
def test_a_session_left_unused_is_forgotten(now: int, kept: bool) -> None:
    mailboxes = boxes()
    mailboxes.sweep(now)
    if kept:
        assert mailboxes.put_ask(PLACE, 1, b"a", now=now)
    else:
        assert status(mailboxes.put_ask, PLACE, 1, b"a", now=now) == 404


def test_use_keeps_a_session() -> None:
    mailboxes = boxes()
    mailboxes.put_ask(PLACE, 1, b"a", now=20)
    mailboxes.sweep(45)
    assert mailboxes.fetch("node-east", ())


def test_a_parcel_is_handed_out_again_until_it_is_answered() -> None:
    mailboxes = boxes()
    mailboxes.put_ask(PLACE, 1, b"a", now=0)
    assert [frame.body for frame in mailboxes.fetch("node-east", ())] == [b"a"]
    assert [frame.body for frame in mailboxes.fetch("node-east", ())] == [b"a"]
    mailboxes.put_reply(PLACE, 1, b"r", now=0)
    assert mailboxes.fetch("node-east", ()) == []
    assert mailboxes.reply_to(PLACE, 1, now=0) == b"r"


def test_one_session_in_work_holds_back_its_own_parcels_only() -> None:
    mailboxes = boxes()
    mailboxes.put_session("operator", "s-2", {"operator", "node-east"}, 30, may_create=True, now=0)
    second, other = dataclasses.replace(PLACE, channel="c2"), dataclasses.replace(PLACE, session="s-2")
    for place, body in ((PLACE, b"1"), (second, b"2"), (other, b"3")):
        mailboxes.put_ask(place, 1, body, now=0)
    assert [frame.body for frame in mailboxes.fetch("node-east", ())] == [b"1", b"3"]
    assert [frame.body for frame in mailboxes.fetch("node-east", [(PLACE, 1)])] == [b"3"]
    mailboxes.put_reply(PLACE, 1, b"r", now=0)
    assert [frame.body for frame in mailboxes.fetch("node-east", [(PLACE, 1)])] == [b"2", b"3"]


def test_nothing_is_held_once_a_session_has_ended() -> None:
    mailboxes = boxes()
    mailboxes.put_ask(PLACE, 1, bytes(90), now=0)
    mailboxes.put_reply(PLACE, 1, bytes(80), now=0)
    assert mailboxes.held_bytes == 80
    mailboxes.end_session("operator", "s-1", now=0)
    assert mailboxes.held_bytes == 0
