"""What is read on every event: right in the presence of nonsense, and cheap by the plan SQLite makes."""

import asyncio
import contextlib
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from fixtures_database import T0, FixedClock, Kernel, at, create_kernel_database, text

from anr_watch.config import DatabaseSettings
from anr_watch.model import ReplayOptions, Secret, Window
from anr_watch.store import Origin, open_store, reading, rows, segment_rows

NOW = at(3600)


@pytest.fixture
def database(tmp_path):
    return create_kernel_database(tmp_path / "heldar.db")


@pytest.fixture
def kernel(database):
    with Kernel(database) as other:
        other.add_camera("gate")
        yield other


def ask(database, question, **options):
    """Open the store, ask it one question, return the answer."""

    async def run():
        settings = DatabaseSettings(path=database, busy_timeout_s=0.3)
        async with open_store(settings, FixedClock(NOW), **options) as store:
            return await question(store)

    return asyncio.run(run())


def look(database, now=NOW, hours=24.0, **options):
    return ask(database, lambda store: store.look(now=now, max_gap_hours=hours), **options)


# ---- cameras


def test_a_camera_is_read_with_its_status_secrets_and_options(database, kernel):
    kernel.execute(
        "UPDATE cameras SET password = 'enc:v1:abc', anr_replay_url_template = 'rtsp://u:p@{host}/', record_audio = 1,"
        " segment_seconds = 30, record_stream = 'sub', record_mode = 'event', rtsp_port = 8554"
    )
    kernel.set_status("gate", "offline")
    special = ReplayOptions(timezone="local")
    camera = look(database, overrides={"gate": special}).cameras["gate"]
    assert camera.password == Secret("enc:v1:abc")
    assert camera.replay_url_template == Secret("rtsp://u:p@{host}/")
    assert "enc:v1" not in repr(camera)
    assert "u:p" not in repr(camera)
    assert (camera.record_audio, camera.segment_s, camera.record_stream) == (True, 30, "sub")
    assert (camera.record_mode, camera.rtsp_port, camera.status) == ("event", 8554, "offline")
    assert camera.wants_fills
    assert not camera.records_always
    assert camera.options is special


def test_options_default_to_those_for_all(database, kernel):
    for_all = ReplayOptions(lead_s=9.0)
    assert look(database, replay=for_all).cameras["gate"].options is for_all


def test_a_camera_without_status_row_or_optional_values_is_whole(database, kernel):
    kernel.execute("DELETE FROM camera_status")
    kernel.execute("UPDATE cameras SET username = NULL, password = NULL, address = NULL, site_id = NULL")
    camera = look(database).cameras["gate"]
    assert (camera.status, camera.username, camera.password, camera.address) == ("unknown", None, None, None)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("rtsp_port = 70000", "rtsp_port is 70000"),
        ("rtsp_port = 'many'", "rtsp_port is many"),
        ("segment_seconds = 0", "segment_seconds is 0"),
        ("enabled = 2", "enabled is 2, not 0 or 1"),
        ("anr_enabled = 'yes'", "anr_enabled is yes"),
        ("password = x'00ff'", "password is not a text"),
        ("vendor = CAST(x'ff41' AS TEXT)", "vendor is not UTF-8"),
    ],
)
def test_a_camera_with_nonsense_is_reported_once_and_hurts_no_other(database, kernel, change, why):
    kernel.add_camera("yard")
    kernel.add_gap("yard", at(0), at(60))
    kernel.add_gap("gate", at(0), at(60))
    kernel.execute(f"UPDATE cameras SET {change} WHERE id = 'gate'")

    async def twice(store):
        return await store.look(now=NOW), await store.look(now=NOW)

    first, second = ask(database, twice)
    assert set(first.cameras) == {"yard"}
    assert [gap.camera_id for gap in first.gaps] == ["yard"]
    assert len(first.malformed) == 1
    assert first.malformed[0][0] == "gate"
    assert why in first.malformed[0][1]
    assert second.malformed == ()
    assert second.gaps == first.gaps


def test_a_name_that_is_no_utf8_is_shown_escaped(database, kernel):
    kernel.execute("UPDATE cameras SET name = CAST(x'4761ff' AS TEXT)")
    assert look(database).cameras["gate"].name == "Ga\\udcff"


# ---- gaps


def test_texts_are_kept_and_instants_compared(database, kernel):
    forms = {
        "2026-06-13T12:00:00+00:00": at(0),
        "2026-06-13T12:00:01.5+00:00": at(1.5),
        "2026-06-13T12:00:02.250+00:00": at(2.25),
        "2026-06-13T12:00:03.123456+00:00": at(3.123456),
        "2026-06-13T12:00:04.123456789+00:00": at(4.123456),
        "2026-06-13T12:00:05Z": at(5),
        "2026-06-13T14:00:06+02:00": at(6),
    }
    for form in forms:
        kernel.add_gap("gate", form, "2026-06-13T12:30:00.000000000+00:00")
    gaps = {gap.start_text: gap for gap in look(database).gaps}
    assert {form: gap.window.start for form, gap in gaps.items()} == forms
    assert {gap.end_text for gap in gaps.values()} == {"2026-06-13T12:30:00.000000000+00:00"}


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (text(at(10)), text(at(10))),
        (text(at(10)), text(at(5))),
        (text(at(10)), text(at(-400_000))),
        (text(at(10)), "tomorrow"),
        (text(at(10)), ""),
        ("yesterday", text(at(10))),
        ("2026-06-31T00:00:00+00:00", text(at(10))),
        ("2026-06-13 12:00", text(at(10))),
        ("2026-06-13T12:00:00", text(at(10))),
    ],
)
def test_a_row_with_nonsense_is_reported_once_and_never_changed(database, kernel, start, end):
    good = kernel.add_gap("gate", at(100), at(200))
    bad = kernel.add_gap("gate", start, end)
    before = kernel.gaps()

    async def twice(store):
        return await store.look(now=NOW), await store.look(now=NOW), await store.gap(bad)

    first, second, row = ask(database, twice)
    assert [gap.id for gap in first.gaps] == [good]
    assert [row_id for row_id, _ in first.malformed] == [bad]
    assert second.malformed == ()
    assert row is None
    assert kernel.gaps() == before


def test_only_pending_gaps_that_reach_into_the_wanted_hours_are_offered(database, kernel):
    hour = timedelta(hours=1)
    wanted = [
        kernel.add_gap("gate", NOW - 2 * hour, NOW - hour, id="recent"),
        kernel.add_gap("gate", NOW - 30 * hour, NOW - 23 * hour, id="reaches in"),
        kernel.add_gap("gate", NOW - 24 * 32 * hour, NOW - 23.5 * hour, id="a month"),
        kernel.add_gap("gate", NOW - hour / 2, NOW + hour, id="not over"),
    ]
    kernel.add_gap("gate", NOW - 26 * hour, NOW - 24 * hour, id="just too old")
    kernel.add_gap("gate", NOW - 26.5 * hour, NOW - 24.5 * hour, id="too old")
    kernel.add_gap("gate", NOW - 3 * hour, NOW - hour, id="filled", fill_state="filled")
    kernel.add_gap("gate", NOW - 4 * hour, NOW - hour, id="failed", fill_state="failed")
    assert sorted(gap.id for gap in look(database).gaps) == sorted(wanted)
    assert "too old" in {gap.id for gap in look(database, hours=25).gaps}


def test_a_gap_a_person_asked_for_is_offered_whatever_its_age(database, kernel):
    long_ago = Window(T0 - timedelta(days=80), T0 - timedelta(days=80) + timedelta(minutes=5))
    kernel.add_gap("gate", T0 - timedelta(days=70), T0 - timedelta(days=70) + timedelta(minutes=5), id="aged")

    async def asking(store):
        mine = (await store.register_gap("gate", long_ago, origin=Origin.COMMAND)).gap
        await store.retry(gap_id="aged")
        return mine, await store.look(now=NOW), await store.facts("gate"), await store.status_rows()

    mine, seen, facts, (status,) = ask(database, asking)
    assert {gap.id for gap in seen.gaps} == seen.asked == {mine.id, "aged"}
    assert (facts.pending_gaps, facts.missing_s) == (2, 600.0)
    assert (status.pending_gaps, status.missing_s) == (2, 600.0)


def test_missing_time_counts_overlaps_once_and_nothing_too_old(database, kernel):
    kernel.add_gap("gate", NOW - timedelta(hours=25), NOW - timedelta(hours=23))
    kernel.add_gap("gate", NOW - timedelta(hours=23.5), NOW - timedelta(hours=22))
    facts = ask(database, lambda store: store.facts("gate"))
    assert (facts.pending_gaps, facts.missing_s) == (2, 2 * 3600.0)


def test_gaps_in_a_window_are_of_any_state(database, kernel):
    kernel.add_gap("gate", at(0), at(10), id="before")
    kernel.add_gap("gate", at(5), at(20), id="into", fill_state="filled")
    kernel.add_gap("gate", at(12), at(13), id="inside", fill_state="failed")
    kernel.add_gap("gate", at(20), at(30), id="behind")
    found = ask(database, lambda store: store.gaps_in("gate", Window(at(10), at(20))))
    assert [gap.id for gap in found] == ["into", "inside"]


# ---- footage


def test_segments_that_share_time_are_found_also_very_long_ones(database, kernel):
    kernel.add_segment("gate", at(-9 * 3600), at(5), path="long.mp4")
    kernel.add_segment("gate", at(5), at(10), path="first.mp4")
    kernel.add_segment("gate", at(10), at(70), path="second.mp4")
    kernel.add_segment("gate", at(70), at(130), path="behind.mp4")
    kernel.add_segment("gate", "nonsense", "2026", path="bad.mp4")
    kernel.add_segment("gate", at(20), at(20), path="empty.mp4")
    window = Window(at(0), at(70))
    found = ask(database, lambda store: store.segments("gate", window))
    # Only the last one before the two hours can be longer than they are.
    assert [segment.path for segment in found] == ["long.mp4", "first.mp4", "second.mp4"]
    assert ask(database, lambda store: store.segments("yard", window)) == []


def test_the_newest_segment_is_the_one_that_ends_last(database, kernel):
    kernel.add_segment("gate", at(0), "2026-06-13T12:02:00.500000000+00:00", path="./data/recordings/gate/a.mp4")
    kernel.add_segment("gate", at(60), at(90))
    kernel.add_segment("gate", at(95), "garbage")

    async def newest(store):
        return await store.newest_segment("gate"), await store.newest_segment("x")

    segment, none = ask(database, newest)
    assert segment.path.endswith("a.mp4")
    assert segment.window.end == at(120.5)
    assert none is None


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("gate", "./data/recordings/gate/a.mp4")], "./data/recordings/gate/x.mp4"),
        ([("gate", "/var/lib/rec/gate/a.mp4")], "/var/lib/rec/gate/x.mp4"),
        ([("gate", "gate/a.mp4")], "gate/x.mp4"),
        ([("gate", "rec/gate/gate/a.mp4")], "rec/gate/gate/x.mp4"),
        ([("yard", "./data/recordings/yard/a.mp4")], "./data/recordings/gate/x.mp4"),
        ([("gate", "somewhere-else.mp4")], "recordings/gate/x.mp4"),
        ([], "recordings/gate/x.mp4"),
    ],
)
def test_a_path_is_written_as_the_kernel_would(database, kernel, rows, expected):
    kernel.add_camera("yard")
    for number, (camera_id, path) in enumerate(rows):
        kernel.add_segment(camera_id, at(number), at(number + 1), path=path)
    root = Path("recordings")
    file = root / "gate" / "x.mp4"
    assert ask(database, lambda store: store.segment_path_text("gate", file, root)) == expected


def test_a_path_in_sub_folders_keeps_them(database, kernel):
    kernel.add_segment("gate", at(0), at(1), path="/rec/gate/2026-06-13/11/59.mp4")
    root = Path("/mnt/rec")
    file = root / "gate/2026-06-13/12/00.mp4"
    found = ask(database, lambda store: store.segment_path_text("gate", file, root))
    assert found == "/rec/gate/2026-06-13/12/00.mp4"


def test_a_file_outside_the_cameras_folder_has_no_path(database, kernel):
    with pytest.raises(ValueError, match="yard"):
        ask(database, lambda store: store.segment_path_text("gate", Path("/rec/yard/x.mp4"), Path("/rec")))


# ---- for people


def test_gaps_for_people_are_newest_first_and_limited(database, kernel):
    kernel.add_camera("yard")
    for number in range(5):
        kernel.add_gap("gate", at(number * 100), at(number * 100 + 10), id=f"g{number}")
        kernel.add_gap("yard", at(number * 100 + 50), at(number * 100 + 60), id=f"y{number}", fill_state="failed")

    async def several(store):
        return (
            await store.gaps(limit=3),
            await store.gaps("gate"),
            await store.gaps(state="failed", limit=2),
            await store.gaps("nobody"),
        )

    newest, gate, failed, none = ask(database, several)
    assert [row.gap.id for row in newest] == ["y4", "g4", "y3"]
    assert [row.gap.id for row in gate] == ["g4", "g3", "g2", "g1", "g0"]
    assert [row.gap.id for row in failed] == ["y4", "y3"]
    assert none == []
    assert {row.origin for row in newest} == {Origin.KERNEL}


# ---- cost


def plan_of(database, sql, parameters):
    with contextlib.closing(sqlite3.connect(database)) as db:
        return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]


BY_KEY = "USING INDEX sqlite_autoindex_recording_gaps_2 (camera_id=? AND gap_start>?)"
BY_KEY_DOWN = "USING COVERING INDEX sqlite_autoindex_recording_gaps_2 (camera_id=? AND gap_start<?)"
BY_STATE = "USING INDEX idx_gaps_state_camera (fill_state=?"


def test_the_plans_never_walk_a_large_table(database, kernel):
    """Also with statistics that speak for another plan: nearly all rows pending, or nearly none."""
    ask(database, lambda store: store.version())  # our tables
    low, gone, limit = reading.bounds(NOW, 24)
    for common, rare in (("filled", "pending"), ("pending", "filled")):
        kernel.execute("BEGIN")
        kernel.execute("DELETE FROM recording_gaps")
        kernel.execute("DELETE FROM segments")
        for number in range(2000):
            state = common if number % 100 else rare
            kernel.add_gap("gate", at(-number * 60), at(-number * 60 + 10), fill_state=state)
            kernel.add_segment("gate", at(-number * 60), at(-number * 60 + 50), path=f"{number}.mp4")
        kernel.execute("COMMIT")
        for analysed in (False, True):
            if analysed:
                kernel.execute("ANALYZE")
            many = plan_of(database, reading.SQL_PENDING_MANY, (low, gone, limit))
            assert sum(BY_KEY in step for step in many) == 1
            assert sum(BY_KEY_DOWN in step for step in many) == 1
            one = plan_of(database, reading.SQL_PENDING_MANY_OF_CAMERA, (low, gone, limit, "gate"))
            assert sum(BY_KEY in step for step in one) == 1
            assert sum(BY_KEY_DOWN in step for step in one) == 1
            few = plan_of(database, reading.SQL_PENDING_FEW_OF_CAMERA, (low, gone, limit, "gate"))
            plans = [many, one, few]
            if rare == "pending":  # the only time when it is used
                plans.append(plan_of(database, reading.SQL_PENDING_FEW, (low, gone)))
                assert BY_STATE in plans[-1][0]
            plans.append(plan_of(database, reading.SQL_ASKED, ()))
            assert plans[-1][0] == "SCAN o USING INDEX anr_gaps_asked"
            plans.append(plan_of(database, reading.SQL_WAITS, ("[]",)))
            plans.append(plan_of(database, segment_rows.SQL_SEGMENTS, ("gate", low, gone, "gate", low)))
            plans.append(plan_of(database, segment_rows.SQL_NEWEST, ("gate", 16)))
            for step in (step for plan in plans for step in plan):
                assert not step.startswith(("SCAN g", "SCAN a", "SCAN recording_gaps", "SCAN segments")), plans
                assert "TEMP B-TREE" not in step, plans


def test_both_ways_to_the_pending_rows_find_the_same(database, kernel, monkeypatch):
    kernel.add_camera("yard")
    for number in range(300):
        state = ("pending", "pending", "filled", "failed")[number % 4]
        start = NOW - timedelta(minutes=20 * number)
        kernel.add_gap(("gate", "yard")[number % 2], start, start + timedelta(minutes=19), fill_state=state)
    kernel.add_gap("yard", NOW - timedelta(days=60), NOW - timedelta(hours=1), id="ages")

    async def found(store):
        look = await store.look(now=NOW)
        return look.gaps, await store.facts("gate"), await store.facts("yard")

    few = ask(database, found)
    monkeypatch.setattr(reading, "FEW", 0)
    monkeypatch.setattr(reading, "ROWS_BEFORE", 300)
    many = ask(database, found)
    assert sorted(many[0], key=lambda gap: gap.id) == sorted(few[0], key=lambda gap: gap.id)
    assert many[1:] == few[1:]
    assert len(few[0]) > 30
    assert "ages" in {gap.id for gap in few[0]}


def test_among_many_rows_a_long_gap_that_ends_lately_is_found(database, kernel, monkeypatch):
    monkeypatch.setattr(reading, "FEW", 0)
    day = timedelta(days=1)
    for number in range(100):
        start = NOW - 90 * day + number * day / 2
        kernel.add_gap("gate", start, start + day / 4)
    kernel.add_gap("gate", NOW - 40 * day, NOW - timedelta(hours=20), id="long")
    kernel.add_gap("gate", NOW - timedelta(hours=3), NOW - timedelta(hours=2), id="recent")
    assert {gap.id for gap in look(database).gaps} == {"long", "recent"}


def test_what_is_remembered_of_gaps_does_not_grow_with_their_number(database, kernel):
    """A year of outages is not kept in memory: 2 KB for each would be tens of megabytes."""
    rows.gap_of.cache_clear()
    kernel.execute("UPDATE cameras SET anr_enabled = 1")

    async def live(store):
        for number in range(700):
            kernel.add_gap("gate", at(60 * number), at(60 * number + 30), id=f"g{number}")
            look = await store.look(now=at(60 * number + 60))
            assert [gap.id for gap in look.gaps] == [f"g{number}"]
            kernel.execute("UPDATE recording_gaps SET fill_state = 'filled'")
        return rows.gap_of.cache_info().currsize

    assert ask(database, live) < 300


def test_a_new_gap_row_of_anybody_shows_in_one_number(database, kernel):
    async def act(store):
        seen = [await store.newest_gap()]
        kernel.add_gap("gate", at(0), at(60), id="g")
        seen.append(await store.newest_gap())
        kernel.execute("UPDATE recording_gaps SET gap_end = ?", (text(at(70)),))
        seen.append(await store.newest_gap())
        await store.register_gap("gate", Window(at(100), at(110)))
        return [*seen, await store.newest_gap()]

    none, one, same, two = ask(database, act)
    assert none != one == same != two
