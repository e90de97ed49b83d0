"""What the metrics endpoint says, and that the files of deploy/ speak of nothing else."""

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from anr_watch.clock import SystemClock
from anr_watch.config.checking import address_of
from anr_watch.errors import ConfigError, StoreUnavailable
from anr_watch.metrics.endpoint import Endpoint
from anr_watch.metrics.families import Engine, exposition
from anr_watch.metrics.figures import REACTION_BUCKETS_S, Figures
from anr_watch.metrics.library import lacking
from anr_watch.states import FillState, Presence, Reason
from anr_watch.store import Measures, Missing

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
ENGINE = Engine(
    presences={"gate": Presence.ONLINE, "yard": Presence.OFFLINE, "hall": Presence.ONLINE},
    parked={"hall": Reason.BAD_CONFIG},
    running=1,
    is_paused=False,
    is_held=True,
    is_connected=True,
)
MEASURES = Measures(
    gaps={FillState.PENDING: 2, FillState.FILLED: 7},
    missing={"gate": Missing(2, 61.5), 'a "b"\\c\nd': Missing(0, 0.0)},
    outbox=3,
    dropped=4,
)


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """Every sample by name and the values of its labels."""
    families = text_string_to_metric_families(text.decode())
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def everything() -> dict[tuple[str, ...], float]:
    figures = Figures()
    figures.begun(0.02)
    figures.begun(-1)  # a clock that was set
    figures.begun(3600)
    figures.ended(Reason.FILLED, got_s=30.5, size_bytes=1000, files=3)
    figures.ended(Reason.BUSY, got_s=0, size_bytes=0, files=0)
    return samples(exposition(figures, ENGINE, MEASURES, version="1.2.3", mode="heldar"))


def test_it_says_what_is_so():
    said = everything()
    assert said["anr_watch_build_info", "heldar", "1.2.3"] == 1
    assert {
        reason: said["anr_watch_fills_total", reason] for reason in Reason if said["anr_watch_fills_total", reason]
    } == {
        Reason.FILLED: 1,
        Reason.BUSY: 1,
    }
    assert said[("anr_watch_recovered_seconds_total",)] == 30.5
    assert said[("anr_watch_recovered_bytes_total",)] == 1000
    assert said[("anr_watch_recovered_files_total",)] == 3
    buckets = [said["anr_watch_reaction_seconds_bucket", f"{bound:g}"] for bound in REACTION_BUCKETS_S]
    assert buckets == [1] + [2] * 11
    assert said["anr_watch_reaction_seconds_bucket", "+Inf"] == said[("anr_watch_reaction_seconds_count",)] == 3
    assert said[("anr_watch_reaction_seconds_sum",)] == 3600.02
    assert [said["anr_watch_cameras", level] for level in ("online", "offline", "unknown")] == [2, 1, 0]
    assert said["anr_watch_parked_cameras", "bad_config"] == 1
    assert [said["anr_watch_gaps", state] for state in ("pending", "filled", "failed")] == [2, 7, 0]
    assert said["anr_watch_missing_seconds", "gate"] == 61.5
    assert said["anr_watch_pending_gaps", 'a "b"\\c\nd'] == 0, "any camera id comes through"
    assert said[("anr_watch_outbox_messages",)] == 3
    assert said[("anr_watch_outbox_dropped_total",)] == 4
    assert said[("anr_watch_held",)] == said[("anr_watch_ready",)] == said[("anr_watch_database_up",)] == 1
    assert said[("process_resident_memory_bytes",)] > 0


def test_what_is_not_known_is_not_said():
    waiting = samples(exposition(Figures(), None, None, version="1", mode=""))
    assert waiting[("anr_watch_ready",)] == waiting[("anr_watch_database_up",)] == 0
    assert not {name for name, *_ in waiting} & {"anr_watch_gaps", "anr_watch_cameras", "anr_watch_broker_connected"}
    assert ("anr_watch_fills_total", "filled") in waiting, "counters go on"


def test_names_follow_the_conventions():
    for name in {name for name, *_ in everything()}:
        assert re.fullmatch(r"(anr_watch|process)_[a-z_]+", name)
    text = exposition(Figures(), ENGINE, MEASURES, version="1", mode="").decode()
    assert len(re.findall(r"^# HELP anr_watch_\w+ \S+", text, re.MULTILINE)) == text.count("# TYPE anr_watch_")


def test_the_files_of_deploy_name_what_there_is():
    labels = {
        one.name: set(one.labels)
        for family in text_string_to_metric_families(
            exposition(Figures(), ENGINE, MEASURES, version="1", mode="heldar").decode()
        )
        for one in family.samples
    }
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    board = json.loads(DASHBOARD.read_text())
    queries = [variable["query"]["query"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) == 9
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) >= 12
    named = set()
    for text in [rule["expr"] for rule in rules] + asked + queries:
        names = set(re.findall(r"anr_watch_\w+", text))
        assert names <= labels.keys(), text
        known = {"job", "instance"}.union(*(labels[name] for name in names))
        inside = re.findall(r"(\w+)=~?\"", text) + [
            word for words in re.findall(r"by \(([^)]*)\)", text) for word in words.split(", ")
        ]
        assert set(inside) <= known, text
        named |= names
    for rule in rules:
        assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= {"instance", "camera", "reason"}
    assert {f"anr_watch_{name}" for name in ("gaps", "missing_seconds", "fills_total", "outbox_messages")} <= named
    if (promtool := shutil.which("promtool")) is not None:  # Debian's package prometheus
        subprocess.run([promtool, "check", "rules", ALERTS], check=True, capture_output=True)


def test_panels_do_not_lie_on_each_other():
    cells = [
        (x, y)
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9532", ("127.0.0.1", 9532)),
        ("[::1]:9532", ("::1", 9532)),
        ("nvr.lan:0", ("nvr.lan", 0)),
        *(
            (text, None)
            for text in ("9532", ":9532", "::1:9532", "127.0.0.1:", "127.0.0.1:65536", "a b:1", "a:\u0661", "[x:1")
        ),
    ],
)
def test_addresses(listen, address):
    assert address_of(listen) == address


def test_without_the_library_it_says_what_is_missing(monkeypatch):
    monkeypatch.delitem(sys.modules, "anr_watch.metrics.families")
    monkeypatch.delattr("anr_watch.metrics.families")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert lacking("") is None
    problem = lacking("127.0.0.1:0")
    assert str(problem).startswith("metrics.listen: needs the package prometheus_client,")
    assert "pip install '.[metrics]'" in problem.fix, "anr-watch is on no index"
    with pytest.raises(ConfigError) as caught:
        Endpoint(Figures(), SystemClock())
    assert str(caught.value) == f"config: {problem}"


def test_with_the_library_nothing_is_missing():
    assert lacking("127.0.0.1:0") is None


class HandClock:
    now_s = 100.0

    def monotonic(self):
        return self.now_s


class CountingStore:
    asked = 0

    async def measures(self):
        self.asked += 1
        await asyncio.sleep(0)
        if self.asked == 3:
            raise StoreUnavailable("locked")
        return MEASURES


def test_the_database_is_asked_once_a_second():
    async def main():
        clock, store = HandClock(), CountingStore()
        endpoint = Endpoint(Figures(), clock)
        assert await asyncio.gather(*(endpoint._measures(store) for _ in range(20))) == [MEASURES] * 20
        clock.now_s += 0.9
        await endpoint._measures(store)
        assert store.asked == 1
        clock.now_s += 0.1
        await endpoint._measures(store)
        assert store.asked == 2
        clock.now_s += 1
        assert await endpoint._measures(store) is None, "what cannot be asked is not said"
        other = CountingStore()
        assert await endpoint._measures(other) == MEASURES, "another database, another answer"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("host", "told"), [("192.0.2.1", True), ("fe80::1%eth0", True), ("127.0.0.2", False), ("::1", False)]
)
def test_an_address_that_others_reach_is_warned_of(monkeypatch, caplog, host, told):
    @contextlib.asynccontextmanager
    async def serving(*_):
        yield host, 9532

    async def main():
        async with Endpoint(Figures(), SystemClock()).listening(f"{host}:9532"):
            pass

    monkeypatch.setattr("anr_watch.metrics.endpoint.serving", serving)
    asyncio.run(main())
    assert ("not on loopback" in caplog.text) is told
