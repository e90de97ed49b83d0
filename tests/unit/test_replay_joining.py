"""What a joined replay releases: exactly the missing pictures, never one too early, and an honest word otherwise."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from anr_watch.model import Secret, Window
from anr_watch.replay.cutter import Cutter, Op
from anr_watch.replay.job import Joint, ReplayJob, Side, Unproved
from anr_watch.replay.joining import Joining
from anr_watch.replay.muxer import Written
from anr_watch.replay.stamps import Unit
from anr_watch.replay.timeline import TICKS, Break, Placed, ticks_of

START = datetime(2026, 6, 13, 12, 0, tzinfo=UTC)
ZERO = ticks_of(START)
FRAME = 6000
EVER = datetime(1970, 1, 1, tzinfo=UTC)


def at(number):
    return START + timedelta(seconds=number / 15)


def fingerprint(number):
    return number.to_bytes(12, "big", signed=True)


class Film:
    """Pictures -1000 to 2000, 15 a second; some missing, some decoded before their turn, content maybe repeated."""

    def __init__(self, *, gop=15, drop_every=0, reorder=False, still=0):
        self.gop, self.reorder, self.still = gop, reorder, still
        self.numbers = [n for n in range(-1000, 2000) if n % gop == 0 or not drop_every or n % drop_every]

    def content(self, number):
        return fingerprint(number % self.still if self.still else number)

    def between(self, first, end):
        return [number for number in self.numbers if first <= number < end]

    def prints(self, first, end):
        return tuple(map(self.content, self.between(first, end)))

    def played(self, first, end, offset_s):
        """The placed pictures from the key frame before `first`, by a camera whose clock is ahead."""
        numbers = self.between(first - first % self.gop, end)
        order = list(numbers)
        if self.reorder:
            for place in range(1, len(order) - 1, 2):  # a picture and the one it leans on change places
                if order[place] % self.gop and order[place + 1] % self.gop:
                    order[place : place + 2] = order[place + 1], order[place]
        base = ZERO + round(offset_s * TICKS)
        out, before = [], None
        for turn, number in zip(numbers, order, strict=True):
            duration = FRAME if before is None else (turn - before) * FRAME  # what the worker can know: the last step
            before = turn
            unit = Unit(True, None, None, duration, number % self.gop == 0, 1000, payload=number)
            dts = turn - 1 if self.reorder else turn
            out.append(Placed(base + number * FRAME, base + dts * FRAME, unit))
        return out


def job(film, first, end, *, margin_s=10.0, head=45, tail=45, **options):
    keep = Window(at(first), at(max(end, first + 1)))
    values = {
        "url": Secret(""),
        "asked": keep.widened(margin_s, margin_s),
        "keep": keep,
        "staging": Path("/staging"),
        "head": film.prints(first - head, first),
        "tail": film.prints(end, end + tail),
        "head_at": keep.start,
        "tail_at": at(end),
    }
    return ReplayJob(**(values | options))


class Run:
    """The worker's loop without media: what is released, and when."""

    def __init__(self, job, items, film, *, segment_s=4.0, in_order=True):
        self.joining = Joining(job, lambda unit: film.content(unit.payload))
        self.cutter = Cutter(Window(EVER, job.keep.end), segment_s)
        self.open, self.files, self.joined, self.shown, self.windows = [], {}, [], [], []
        self.closed = self.most_held = self.released_early = 0
        for item in items:
            self.joined += self.joining.see(item)
            self.cutter.reach(self.joining.reach)
            self._do(self.cutter.push(item))
            self._release(final=False)
            self.most_held = max(self.most_held, len(self.joining.holds))
            if self.cutter.done or self.joining.complete or self.joining.suspect:
                break
        self.released_early = len(self.windows)
        self._do(self.cutter.finish())
        self.joined += self.joining.finish(in_order=in_order)
        self._release(final=True)
        assert not self.joining.holds

    def _do(self, steps):
        for step in steps:
            if step.op is Op.CLOSE:
                name = f"{self.closed:04}.mp4"
                self.closed += 1
                self.files[name] = self.open
                times = [item.pts for item in self.open]
                end = max(item.end for item in self.open)
                first = self.open[0]
                self.joining.hold(Written(name, first.pts, end, 0, len(times), None, last=max(times), zero=first.dts))
                self.open = []
            else:
                self.open.append(step.item)

    def _release(self, *, final):
        for release in self.joining.releases(final=final):
            pictures = self.files.pop(release.written.file)
            low = release.written.start if release.start is None else release.start
            if not release.hide and release.start is not None:
                shown = min(item.pts for item in pictures if item.end > low)
                low = max(item.pts for item in pictures if item.unit.key and item.pts <= shown)
            kept = [item for item in pictures if item.pts >= low and (release.end is None or item.pts < release.end)]
            self.shown += sorted(item.unit.payload for item in kept)
            self.windows.append(low + self.joining.anchor)

    def kinds(self):
        assert sorted(it.side for it in self.joined) == [Side.HEAD, Side.TAIL]
        return {it.side: it.kind for it in self.joined}


films = st.builds(
    Film, gop=st.sampled_from([10, 15, 40]), drop_every=st.sampled_from([0, 3, 4]), reorder=st.booleans()
)
exact = {Side.HEAD: Joint.EXACT, Side.TAIL: Joint.EXACT}


@settings(max_examples=150, deadline=None)
@given(
    films, st.integers(0, 60), st.integers(0, 400), st.floats(-8, 8), st.integers(15, 60), st.integers(15, 60),
    st.floats(0.5, 20.0), st.floats(-1.5, 1.5),
)  # fmt: skip
def test_every_missing_picture_once(film, first, missing, offset_s, head, tail, segment_s, late_s):
    """The clock is off by less than the margin, and the name of the file after the gap by more than a second."""
    end = first + missing
    asked = job(film, first, end, head=head, tail=tail)
    at_tail = max(asked.tail_at + timedelta(seconds=late_s), asked.keep.start + timedelta(seconds=0.1))
    keep = Window(asked.keep.start, at_tail)
    asked = replace(asked, tail_at=at_tail, keep=keep, asked=keep.widened(10, 10))
    run = Run(asked, film.played(first - 290, end + 290, offset_s), film, segment_s=segment_s)
    assert run.kinds() == exact
    assert run.shown == film.between(first, end)
    assert not run.joining.suspect
    if run.windows:
        assert abs(run.windows[0] - ticks_of(at(first))) <= 1
    for joined in run.joined:
        # What a dropped picture leaves open is when the one before it ended.
        late = (at_tail - at(end)).total_seconds() if joined.side is Side.TAIL else 0
        assert abs(joined.offset_s + late - offset_s) < 0.15


@settings(max_examples=60, deadline=None)
@given(films, st.integers(0, 60), st.integers(30, 400), st.integers(1, 5))
def test_broken_off_anywhere_nothing_is_double(film, first, missing, cut):
    end = first + missing
    items = film.played(first - 150, first + missing * cut // 5, 1.0)
    run = Run(job(film, first, end), items, film, in_order=False)
    assert run.kinds() == {Side.HEAD: Joint.EXACT, Side.TAIL: Joint.TIME}
    assert run.shown == film.between(first, end)[: len(run.shown)]


@given(st.sampled_from(Unproved), st.integers(0, 60), st.integers(0, 400))
def test_other_footage_of_the_same_time(unproved, first, missing):
    film, other = Film(), Film()
    other.content = lambda number: fingerprint(number + 100_000)
    end = first + max(1, missing)
    items = other.played(first - 150, end + 150, 0.0)
    run = Run(job(film, first, end, unproved=unproved), items, other)
    assert run.kinds() == dict.fromkeys(Side, Joint.TIME)
    if unproved is not Unproved.KEEP:
        assert run.joining.suspect
        assert run.shown == []
    else:
        assert not run.joining.suspect
        assert run.shown == film.between(first, end)


@given(st.integers(0, 60), st.integers(1, 300), st.booleans())
def test_a_still_scene_is_never_suspect_and_never_lost(first, missing, known):
    film = Film(still=15)
    end = first + missing
    items = film.played(first - 150, end + 150, 0.0)
    run = Run(job(film, first, end, unproved=Unproved.STOP, shift_known=known), items, film)
    assert not run.joining.suspect
    if known:
        assert run.kinds() == exact
        assert run.shown == film.between(first, end)
    else:
        assert run.kinds() == dict.fromkeys(Side, Joint.TIME)
        assert {it.detail for it in run.joined} == {"ambiguous"}
        assert run.shown == film.between(first, end)


def test_nothing_is_released_before_the_head_is_decided():
    film = Film()
    other = Film()
    other.content = lambda number: fingerprint(number + 100_000)
    run = Run(job(film, 0, 1200, tail=0), other.played(-150, 120, 0.0), other, segment_s=1.0)
    assert run.released_early == 0
    assert run.most_held > 10
    run = Run(job(film, 0, 1200, tail=0), film.played(-150, 120, 0.0), film, segment_s=1.0)
    assert run.released_early >= 6


def test_a_long_gap_is_released_as_it_comes():
    film = Film()
    run = Run(job(film, 0, 1500), film.played(-150, 1650, 0.0), film, segment_s=2.0)
    assert run.shown == film.between(0, 1500)
    assert run.most_held <= 12, "only what is before the head, or what the tail may still begin in"


def test_a_hole_at_the_very_edge():
    film = Film()
    items = film.played(-150, 0, 0.0)
    items.append(Break(ZERO, 60 * FRAME, proven=True))
    items += film.played(60, 400, 0.0)
    run = Run(job(film, 0, 200), items, film)
    assert run.kinds() == exact
    assert run.shown == film.between(60, 200)
    assert run.windows[0] == ticks_of(at(60))


def test_too_few_pictures_to_prove_anything():
    film = Film()
    run = Run(job(film, 10, 100, head=2, tail=2), film.played(-150, 300, 0.0), film)
    assert run.kinds() == dict.fromkeys(Side, Joint.TIME)
    assert {it.detail for it in run.joined} == {"too few pictures"}
    assert run.shown == film.between(10, 100)
