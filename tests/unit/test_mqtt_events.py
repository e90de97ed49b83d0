"""Events and states: valid CloudEvents, the same id for the same fact, another for another, and no secrets."""

import dataclasses
import inspect
import re
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.instants import parse_instant
from anr_watch.live_first import Pace
from anr_watch.model import Attempt, CameraFacts, DeviceClock, Gap, Message, Window
from anr_watch.mqtt.events import Announcer, Silent
from anr_watch.states import Presence, Reason

NOW = datetime(2026, 6, 13, 12, tzinfo=UTC)
WINDOW = Window(NOW - timedelta(minutes=10), NOW - timedelta(minutes=5))
GAP = Gap("gap_1", "cam_1", WINDOW, "", "")
RUNNING = Attempt("att_1", "gap_1", "cam_1", 1, WINDOW, NOW, wanted_s=300.0)
ENDED = dataclasses.replace(
    RUNNING,
    ended_at=NOW,
    reason=Reason.CUT_SHORT,
    detail="EOF after 60 s",
    got_s=60.0,
    bytes=1_000,
    files=1,
    first_byte_s=0.1234567,
    speed=7.891,
    next_at=NOW + timedelta(seconds=20),
    join_head="exact",
    join_tail="time",
    offset_ms=-1234.567,
    tolerance_s=2.0,
    suspect=True,
)
CLOCK = DeviceClock("10.0.0.1:554", 7200.25, 0.5, NOW, 3, "join")
PACE = Pace("10.0.0.1:554", 250_000.4, 2_000_000.0, 1, NOW, NOW + timedelta(seconds=60))
FILLED = Window(WINDOW.start, WINDOW.start + timedelta(seconds=60))
MISSING = Window(FILLED.end, WINDOW.end)
TELL = Announcer("nvr1")
FACTS = CameraFacts("cam_1", 2, 240.5, ENDED)


def body(messages: tuple[Message, ...]) -> dict:
    (message,) = messages
    return orjson.loads(message.payload)


def all_events(tell: Announcer = TELL) -> list[tuple[Message, ...]]:
    return [
        tell.gap_detected(GAP, at=NOW, origin="online"),
        tell.fill_started(GAP, RUNNING, at=NOW, reaction_ms=12.34),
        tell.fill_progress(GAP, RUNNING, at=NOW, step=1),
        tell.fill_progress(GAP, RUNNING, at=NOW, step=2),
        tell.fill_completed(GAP, ENDED, at=NOW, filled=[WINDOW]),
        tell.fill_partial(GAP, ENDED, at=NOW, filled=[FILLED], missing=[MISSING]),
        tell.fill_failed(GAP, ENDED, at=NOW, missing=[WINDOW]),
        tell.camera_online("cam_1", at=NOW, source="mqtt:frigate"),
        tell.camera_offline("cam_1", at=NOW, source="database"),
        tell.camera_parked("cam_1", at=NOW, reason=Reason.UNAUTHORIZED, detail="401"),
        tell.camera_unparked("cam_1", at=NOW),
        tell.clock_corrected("cam_1", at=NOW, clock=CLOCK, before_s=0.0),
        tell.camera_slowed("cam_1", at=NOW, pace=PACE, why="live recording stood still for 6.1 s"),
    ]


def states(tell: Announcer = TELL) -> list[tuple[Message, ...]]:
    return [
        tell.camera_state("cam_1", at=NOW, presence=Presence.ONLINE, since=NOW, facts=FACTS),
        tell.info(version="1", boot_id="b", started_at=NOW, cameras=[("cam_1", "Front")], capabilities=["fill"]),
    ]


def test_every_event_is_a_cloud_event():
    for messages in all_events():
        (message,) = messages
        event = body(messages)
        assert all(re.fullmatch("[a-z0-9]+", name) for name in event)
        assert set(event) == {"specversion", "id", "type", "source", "subject", "time", "datacontenttype", "data"}
        assert event["specversion"] == "1.0"
        assert re.fullmatch(r"io\.anr-watch\.(gap|fill|camera)\.[a-z_]+\.v1", event["type"])
        assert (event["source"], event["subject"]) == ("anr-watch/nvr1", "cam_1")
        assert event["time"] == "2026-06-13T12:00:00Z"
        assert event["data"]["camera"] == "cam_1"
        assert message.id == event["id"]
        assert (message.topic, message.retain) == ("anr-watch/nvr1/camera/cam_1/event", False)


def test_every_fact_has_an_id_of_its_own_and_keeps_it():
    ids = [message.id for messages in all_events() for message in messages]
    assert len(set(ids)) == len(ids)
    assert ids == [message.id for messages in all_events(Announcer("nvr1")) for message in messages]
    assert not set(ids) & {message.id for messages in all_events(Announcer("nvr2")) for message in messages}


def test_an_id_does_not_depend_on_when_the_event_was_built():
    later = NOW + timedelta(hours=1)
    assert TELL.fill_started(GAP, RUNNING, at=NOW)[0].id == TELL.fill_started(GAP, RUNNING, at=later)[0].id
    assert (
        TELL.gap_detected(GAP, at=NOW, origin="online")[0].id
        == TELL.gap_detected(GAP, at=later, origin="online")[0].id
    )


@pytest.mark.parametrize(
    ("field", "value"), [("number", 2), ("id", "att_2"), ("camera_id", "cam_2"), ("window", FILLED), ("end", None)]
)
def test_another_attempt_camera_or_gap_is_another_fact(field, value):
    gap, attempt = GAP, RUNNING
    if field in {"number", "id"}:
        attempt = dataclasses.replace(RUNNING, **{field: value})
    elif field == "end":
        gap = dataclasses.replace(GAP, window=Window(WINDOW.start, WINDOW.end + timedelta(seconds=1)))
    else:
        gap = dataclasses.replace(GAP, **{field: value})
    assert TELL.fill_started(gap, attempt, at=NOW)[0].id != TELL.fill_started(GAP, RUNNING, at=NOW)[0].id


def test_the_data_of_a_partial_fill():
    data = body(TELL.fill_partial(GAP, ENDED, at=NOW, filled=[FILLED], missing=[MISSING]))["data"]
    assert data == {
        "camera": "cam_1",
        "gap": {"id": "gap_1", "start": "2026-06-13T11:50:00Z", "end": "2026-06-13T11:55:00Z", "seconds": 300.0},
        "attempt": 1,
        "attempt_id": "att_1",
        "window": {"start": "2026-06-13T11:50:00Z", "end": "2026-06-13T11:55:00Z", "seconds": 300.0},
        "wanted_s": 300.0,
        "got_s": 60.0,
        "bytes": 1000,
        "files": 1,
        "speed": 7.89,
        "first_byte_s": 0.123,
        "reason": "cut_short",
        "detail": "EOF after 60 s",
        "next_at": "2026-06-13T12:00:20Z",
        "join_head": "exact",
        "join_tail": "time",
        "offset_ms": -1234.6,
        "tolerance_s": 2.0,
        "suspect": True,
        "filled": [{"start": "2026-06-13T11:50:00Z", "end": "2026-06-13T11:51:00Z", "seconds": 60.0}],
        "missing": [{"start": "2026-06-13T11:51:00Z", "end": "2026-06-13T11:55:00Z", "seconds": 240.0}],
    }


@pytest.mark.parametrize(
    ("filled", "missing", "kind"),
    [([WINDOW], [], "completed"), ([FILLED], [MISSING], "partial"), ([], [WINDOW], "failed")],
)
def test_the_windows_say_how_a_fill_ended(filled, missing, kind):
    event = body(TELL.fill_ended(GAP, ENDED, at=NOW, filled=filled, missing=missing))
    assert event["type"] == f"io.anr-watch.fill.{kind}.v1"


def test_times_of_other_zones_are_told_in_utc():
    zone = timezone(timedelta(hours=2))
    assert body(TELL.camera_unparked("cam_1", at=NOW.astimezone(zone)))["time"] == "2026-06-13T12:00:00Z"


def test_a_detail_is_one_line_without_credentials():
    detail = "401 from rtsp://admin:hunter2@10.0.0.1/x\nsecond line \x1b[31m" + "y" * 1000
    for messages in (
        TELL.camera_parked("cam_1", at=NOW, reason=Reason.UNAUTHORIZED, detail=detail),
        TELL.fill_failed(GAP, dataclasses.replace(ENDED, detail=detail), at=NOW, missing=[WINDOW]),
    ):
        told = body(messages)["data"]["detail"]
        assert "hunter2" not in told
        assert told.startswith("401 from rtsp://***@10.0.0.1/x")
        assert told.isprintable()
        assert len(told) <= 300


def test_the_state_of_a_camera():
    running = dataclasses.replace(RUNNING, got_s=12.0, bytes=5)
    messages = TELL.camera_state(
        "cam_1",
        at=NOW,
        presence=Presence.ONLINE,
        since=None,
        facts=FACTS,
        current=running,
        parked=Reason.BAD_CONFIG,
        held="disk_full: 3 MB free",
        paused=True,
        clock=CLOCK,
        pace=PACE,
    )
    assert messages[0].retain
    assert messages[0].topic == "anr-watch/nvr1/camera/cam_1/state"
    assert body(messages) == {
        "camera": "cam_1",
        "presence": "online",
        "since": None,
        "pending_gaps": 2,
        "missing_s": 240.5,
        "current": {"gap": "gap_1", "attempt": 1, "wanted_s": 300.0, "got_s": 12.0, "bytes": 5},
        "last": {
            "result": "partial",
            "reason": "cut_short",
            "ended_at": "2026-06-13T12:00:00Z",
            "got_s": 60.0,
            "wanted_s": 300.0,
            "join_head": "exact",
            "join_tail": "time",
            "offset_ms": -1234.6,
            "tolerance_s": 2.0,
            "suspect": True,
        },
        "parked": "bad_config",
        "held": "disk_full: 3 MB free",
        "paused": True,
        "slowed": {
            "max_bytes_s": 250_000,
            "falters": 1,
            "faltered_at": "2026-06-13T12:00:00Z",
            "next_at": "2026-06-13T12:01:00Z",
        },
        "clock": {"offset_s": 7200.25, "spread_s": 0.5, "samples": 3, "measured_at": "2026-06-13T12:00:00Z"},
        "updated_at": "2026-06-13T12:00:00Z",
    }


@pytest.mark.parametrize(
    ("reason", "got_s", "result"),
    [(Reason.FILLED, 300.0, "completed"), (Reason.COVERED, 0.0, "completed"), (Reason.BUSY, 0.0, "failed")],
)
def test_the_result_of_the_last_fill(reason, got_s, result):
    facts = CameraFacts("cam_1", 0, 0.0, dataclasses.replace(ENDED, reason=reason, got_s=got_s))
    state = body(TELL.camera_state("cam_1", at=NOW, presence=Presence.ONLINE, since=NOW, facts=facts))
    assert state["last"]["result"] == result


def test_an_attempt_that_runs_is_not_the_last_result():
    facts = CameraFacts("cam_1", 1, 1.0, RUNNING)
    state = body(TELL.camera_state("cam_1", at=NOW, presence=Presence.UNKNOWN, since=None, facts=facts))
    assert state["last"] is None


def test_the_info_names_cameras_and_where_they_are_told_of():
    info = body(
        TELL.info(
            version="1.2", boot_id="b", started_at=NOW, cameras=[("a/b", "Front")], capabilities=["retry", "fill"]
        )
    )
    assert info["cameras"][0]["id"] == "a/b"
    assert info["cameras"][0]["topic"].startswith("anr-watch/nvr1/camera/a-b~")
    assert info["capabilities"] == ["fill", "retry"]


@given(st.text(), st.text(), st.floats(), st.integers(0, 2**62))
def test_whatever_stands_in_ids_and_texts_gives_valid_json(camera_id, detail, number, size):
    gap = dataclasses.replace(GAP, camera_id=camera_id, id=detail)
    attempt = dataclasses.replace(ENDED, detail=detail, got_s=number, bytes=size)
    event = body(TELL.fill_started(gap, attempt, at=NOW))
    assert event["type"] == "io.anr-watch.fill.started.v1"


def test_a_name_that_utf_8_cannot_carry_is_escaped():
    assert body(TELL.camera_unparked("\ud800", at=NOW))["subject"] == "\\ud800"


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_can_be_read_back(instant):
    assert parse_instant(body(TELL.camera_unparked("c", at=instant))["time"]) == instant


def test_silence_says_nothing_and_takes_the_same_calls():
    asked = set()

    class Listening(Silent):
        def __getattribute__(self, name):
            asked.add(name)
            return super().__getattribute__(name)

    assert not any(all_events(Listening()) + states(Listening()))
    public = {name for name, _ in inspect.getmembers(Announcer, inspect.isfunction) if not name.startswith("_")}
    assert public - asked == {"fill_ended", "no_camera"}  # the first goes through the three it chooses from
    assert Silent().no_camera("cam") == ()
    assert not Silent().fill_ended(GAP, ENDED, at=NOW, filled=[], missing=[])
