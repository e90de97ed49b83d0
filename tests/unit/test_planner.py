"""The order of fills: newest first, fair, one per device, and a timer only where something waits."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from anr_watch.model import Camera, Device, Gap, Window
from anr_watch.planner import Limits, Plan, Standing, choose_target, fillable, plan

NOW = datetime(2026, 6, 13, 12, tzinfo=UTC)
NOW_S = 1000.0


def gap(name: str, camera: str = "cam", *, start_s: float = -600, length_s: float = 60, attempts: int = 0) -> Gap:
    start = NOW + timedelta(seconds=start_s)
    return Gap(name, camera, Window(start, start + timedelta(seconds=length_s)), "", "", attempts=attempts)


def camera(name: str, **kwargs) -> Camera:
    return Camera(name, name, anr_enabled=kwargs.pop("anr_enabled", True), **kwargs)


def run(gaps, *, cameras=None, devices=None, standing=None, limits=None) -> Plan:
    ids = {g.camera_id for g in gaps}
    return plan(
        gaps,
        cameras or {name: camera(name) for name in ids},
        devices or {name: Device(name, 554) for name in ids},
        standing or Standing(),
        limits or Limits(),
        now=NOW,
        now_s=NOW_S,
    )


def names(result: Plan) -> list[str]:
    return [g.id for g in result.starts]


def test_the_newest_gap_goes_first_and_a_device_takes_one():
    assert names(run([gap("old", start_s=-900), gap("new", start_s=-100)])) == ["new"]


def test_every_cameras_newest_before_any_cameras_second():
    gaps = [gap("a1", "a", start_s=-100), gap("a2", "a", start_s=-200), gap("b1", "b", start_s=-5000)]
    devices = {"a": Device("one", 554), "b": Device("two", 554)}
    assert names(run(gaps, devices=devices)) == ["a1", "b1"]


def test_channels_of_one_recorder_take_turns():
    gaps = [gap("a", "a", start_s=-100), gap("b", "b", start_s=-200)]
    devices = {"a": Device("nvr", 554), "b": Device("nvr", 554)}
    assert names(run(gaps, devices=devices)) == ["a"]
    assert names(run(gaps, devices=devices, standing=Standing(last_started_s={"a": 999.0}))) == ["b"]


def test_the_global_limit_counts_what_runs():
    gaps = [gap(f"g{i}", f"c{i}") for i in range(10)]
    standing = Standing(running_gaps=frozenset({"x", "y"}), busy_devices=frozenset({Device("z", 1)}))
    assert len(run(gaps, standing=standing, limits=Limits(parallel=5)).starts) == 3


def test_what_is_running_is_not_started_twice():
    standing = Standing(running_gaps=frozenset({"g"}), busy_devices=frozenset({Device("cam", 554)}))
    assert run([gap("g")], standing=standing) == Plan((), None)


def test_nothing_for_cameras_that_are_gone_disabled_or_held():
    gaps = [gap("g")]
    assert run(gaps, cameras={"other": camera("other")}) == Plan((), None)
    assert run(gaps, cameras={"cam": camera("cam", anr_enabled=False)}) == Plan((), None)
    assert run(gaps, cameras={"cam": camera("cam", enabled=False)}) == Plan((), None)
    assert run(gaps, standing=Standing(held_cameras=frozenset({"cam"}))) == Plan((), None)
    assert run(gaps, standing=Standing(paused=True)) == Plan((), None)


def test_a_parked_camera_is_not_asked_even_for_a_gap_that_a_person_wants():
    """With the wrong password it was asked seven times in half a second; cameras lock out after a few."""
    wanted = gap("g")
    standing = Standing(parked_cameras=frozenset({"cam"}), forced=frozenset({wanted.id}))
    assert run([wanted], standing=standing) == Plan((), None)


def test_attempts_and_age_end_a_gap_unless_a_person_asks():
    worn, aged = gap("worn", attempts=3), gap("aged", start_s=-90_000)
    assert run([worn]) == Plan((), None)
    assert run([aged]) == Plan((), None)
    assert names(run([worn], standing=Standing(forced=frozenset({"worn"})))) == ["worn"]
    assert names(run([aged], standing=Standing(forced=frozenset({"aged"})))) == ["aged"]


def test_waits_become_the_only_timer():
    standing = Standing(gap_waits={"g": NOW_S + 20}, device_waits={Device("cam", 554): NOW_S + 50})
    assert run([gap("g")], standing=standing) == Plan((), NOW_S + 50)
    assert run([gap("g")], standing=replace(standing, all_wait_s=NOW_S + 99)) == Plan((), NOW_S + 99)
    assert run([gap("g")], standing=Standing(gap_waits={"g": NOW_S})).next_due_s is None


def test_a_gap_of_the_future_is_due_when_it_begins():
    result = run([gap("g", start_s=30)])
    assert result.starts == ()
    assert result.next_due_s == NOW_S + 31


def test_a_gap_that_began_before_the_horizon_is_clipped_to_it():
    long = gap("g", start_s=-30 * 86400, length_s=30 * 86400 - 60)
    window = fillable(long, NOW, 24)
    assert window is not None
    assert window.start == NOW - timedelta(hours=24)
    assert names(run([long])) == ["g"]


def test_the_last_name_step_after_a_gap_belongs_to_it_but_not_the_future():
    assert fillable(gap("g", start_s=-60, length_s=30), NOW, 24).end == NOW - timedelta(seconds=29)
    assert fillable(gap("g", start_s=-60, length_s=60), NOW, 24).end == NOW


def test_a_long_piece_is_asked_for_in_parts_from_its_beginning():
    piece = Window(NOW, NOW + timedelta(hours=3))
    assert choose_target((piece,), 3600) == Window(NOW, NOW + timedelta(hours=1))
    assert choose_target((piece,), 86400) == piece


gaps_ = st.lists(
    st.builds(
        lambda n, c, s, length, a: gap(f"g{n}", f"c{c}", start_s=-s, length_s=length, attempts=a),
        st.integers(0, 10**9),
        st.integers(0, 5),
        st.integers(-500, 100_000),
        st.integers(1, 5000),
        st.integers(0, 4),
    ),
    max_size=20,
    unique_by=lambda g: g.id,
)


@given(gaps_, st.integers(1, 4), st.integers(1, 6))
def test_no_device_twice_never_over_the_limit_and_driving_it_ends(gaps, hosts, parallel):
    cameras = {f"c{i}": camera(f"c{i}") for i in range(6)}
    devices = {name: Device(f"h{i % hosts}", 554) for i, name in enumerate(cameras)}
    left, rounds = list(gaps), 0
    while True:
        result = run(left, cameras=cameras, devices=devices, limits=Limits(parallel=parallel))
        if not result.starts:
            break
        used = [devices[g.camera_id] for g in result.starts]
        assert len(used) == len(set(used)) <= parallel
        left = [g for g in left if g not in result.starts]
        rounds += 1
    assert rounds <= len(gaps)
    oldest = NOW - timedelta(hours=24)
    for g in left:
        assert g.attempts >= 3 or g.window.start >= NOW or (g.window.end - oldest).total_seconds() <= 1
