"""Presence: only a change of one source's level is news, and only a live one to online is an edge."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from anr_watch.presence import Change, Evidence, PresenceBook
from anr_watch.states import Presence

NOW = datetime(2026, 6, 13, 12, tzinfo=UTC)
ON, OFF, UNKNOWN = Presence.ONLINE, Presence.OFFLINE, Presence.UNKNOWN
MQTT, DATABASE = "mqtt:frigate", "database"


def said(
    level: Presence, source: str = MQTT, *, camera: str = "cam", retained: bool = False, at_s: float = 0
) -> Evidence:
    return Evidence(camera, source, level, retained, NOW + timedelta(seconds=at_s))


def heard(*words: Evidence, book: PresenceBook | None = None) -> list[Change]:
    book = book or PresenceBook(["cam", "other"])
    return [change for word in words if (change := book.hear(word)) is not None]


def test_a_heartbeat_of_online_makes_one_edge_and_then_none():
    book = PresenceBook(["cam"])
    first = book.hear(said(ON))
    assert first == Change("cam", UNKNOWN, ON, edge=True, source=MQTT, at=NOW)
    assert heard(*(said(ON, at_s=second) for second in range(1, 3600)), book=book) == []


def test_offline_and_back_is_one_edge():
    changes = heard(said(ON), said(OFF, at_s=1), said(OFF, at_s=2), said(ON, at_s=3), said(ON, at_s=4))
    assert [(c.after, c.edge) for c in changes] == [(ON, True), (OFF, False), (ON, True)]


def test_a_retained_word_sets_the_level_but_is_no_edge_and_hides_none_after_it():
    book = PresenceBook(["cam"])
    assert [c.edge for c in heard(said(ON, retained=True), book=book)] == [False]
    assert heard(said(ON), book=book) == []  # the same level: no news
    assert [c.edge for c in heard(said(OFF), said(ON), book=book)] == [False, True]


def test_the_latest_change_wins_and_repetition_of_another_source_does_not():
    book = PresenceBook(["cam"])
    heard(said(ON, DATABASE), said(ON), said(OFF), book=book)
    assert book.presence("cam") is OFF
    assert heard(said(ON, DATABASE), book=book) == []  # the status row is written every ten seconds
    assert book.presence("cam") is OFF


def test_two_sources_that_see_the_same_return_make_one_edge():
    book = PresenceBook(["cam"])
    heard(said(OFF), said(OFF, DATABASE), book=book)
    assert [(c.source, c.edge) for c in heard(said(ON), said(ON, DATABASE), book=book)] == [(MQTT, True)]


def test_a_lost_source_leaves_the_word_to_the_others_without_an_edge():
    book = PresenceBook(["cam", "other"])
    heard(said(ON, DATABASE), said(OFF), said(ON, camera="other"), book=book)
    lost = (said(UNKNOWN), said(UNKNOWN, camera="other"))
    changes = heard(*lost, book=book)
    assert [(c.camera_id, c.after, c.edge) for c in changes] == [("cam", ON, False), ("other", UNKNOWN, False)]
    assert heard(*lost, book=book) == []
    assert book.hear(said(ON, camera="other")) == Change("other", UNKNOWN, ON, edge=True, source=MQTT, at=NOW)


def test_a_camera_the_book_does_not_hold_is_unheard():
    book = PresenceBook(["cam"])
    assert book.hear(said(ON, camera="stranger")) is None
    assert book.presence("stranger") is UNKNOWN
    book.set_cameras(["stranger"])
    assert book.hear(said(ON, camera="stranger")) is not None
    assert book.presence("cam") is UNKNOWN


def test_set_cameras_keeps_what_is_known_of_the_others():
    book = PresenceBook(["cam"])
    heard(said(ON), book=book)
    book.set_cameras(["cam", "new"])
    assert (book.presence("cam"), book.since("cam"), book.presence("new")) == (ON, NOW, UNKNOWN)


def test_a_wall_clock_that_steps_back_makes_no_evidence_stale():
    changes = heard(said(OFF, at_s=0), said(ON, at_s=-86400))
    assert [(c.after, c.edge) for c in changes] == [(OFF, False), (ON, True)]


WORDS = st.builds(
    Evidence,
    camera_id=st.sampled_from(["cam", "other", "stranger"]),
    source=st.sampled_from([MQTT, DATABASE, "recordings"]),
    level=st.sampled_from(list(Presence)),
    retained=st.booleans(),
    at=st.datetimes(timezones=st.just(UTC)),
)


@given(st.lists(WORDS, max_size=40))
def test_properties_of_any_history(words):
    book = PresenceBook(["cam", "other"])
    before = dict.fromkeys(("cam", "other"), UNKNOWN)
    for word in words:
        level = book.level(word.camera_id, word.source)
        change = book.hear(word)
        if change is None:
            assert book.presence(word.camera_id) is before.get(word.camera_id, UNKNOWN)
            continue
        # A change comes only from a changed level, is a change, chains, and is an edge only by a live word to online.
        assert word.level is not level
        assert change.before is before[word.camera_id]
        assert change.after is not change.before
        assert change.after is book.presence(word.camera_id)
        assert change.edge == (not word.retained and word.level is ON)
        assert not change.edge or change.after is ON
        before[word.camera_id] = change.after
        assert book.since(word.camera_id) == word.at


@given(st.lists(WORDS, max_size=20))
def test_saying_everything_twice_changes_nothing(words):
    once, twice = PresenceBook(["cam", "other"]), PresenceBook(["cam", "other"])
    said_twice = [word for word in words for _ in range(2)]
    assert heard(*words, book=once) == heard(*said_twice, book=twice)


@given(st.lists(WORDS, max_size=20), st.permutations(list(range(20))))
def test_the_times_in_evidence_decide_nothing(words, order):
    moved = [
        Evidence(w.camera_id, w.source, w.level, w.retained, NOW + timedelta(seconds=order[i]))
        for i, w in enumerate(words)
    ]
    assert [(c.camera_id, c.before, c.after, c.edge) for c in heard(*words)] == [
        (c.camera_id, c.before, c.after, c.edge) for c in heard(*moved)
    ]
