"""The counts of the bad days are summed whole, and a loss in them is seen."""

import itertools

import pytest

from tests.torture import tally as tallies


def test_the_counts_of_all_tests_are_summed(tmp_path, monkeypatch):
    file = tmp_path / "tally"
    monkeypatch.setenv(tallies.TALLY_FILE, str(file))
    tallies.write(tallies.Tally(kills=2, cases=5))
    tallies.write(tallies.Tally())
    tallies.write(tallies.Tally(kills=1, frames_double=3))

    together = tallies.total(file)

    assert (together.kills, together.cases, together.frames_double) == (3, 5, 3)
    assert together.lost() == {"frames_double": 3}
    assert len(file.read_text().splitlines()) == 2


@pytest.mark.parametrize(("long_s", "expected"), [(None, 3), (100.0, 12), (10.0, 3)])
def test_rounds_end_by_number_or_by_time(long_s, expected):
    clock = itertools.count(0, 5)
    rounds = tallies.Rounds(long_s, 7, lambda: next(clock))

    seeds = list(rounds(short=3, share=0.5))

    assert seeds == list(range(7, 7 + expected)), "three at once, then 50 s at 5 s a look"
