"""Nobody gets in: the broker example of deploy/ with TLS, users and rights, and everything outsiders write or say.

One broker made of deploy/mosquitto/, one daemon, and clients of every kind that try what they may not; rows, answers
of a camera and messages that try to leave their place or to forge lines. What came of it is read from what the daemon
did, said and wrote.
"""

import asyncio
import contextlib
import json
import os
import re
import stat
from pathlib import Path

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from anr_watch.camera.core import CameraSpec
from anr_watch.camera.film import FilmSpec
from tests.broker import Broker, Observer
from tests.certificates import Authority
from tests.leaks import CAMERA_PASSWORD, MQTT_PASSWORD, Seen, leaks, sampling
from tests.world import World, until

DEPLOY = Path(__file__).parents[2] / "deploy/mosquitto"
HERE = "127.0.0.1"
USERS = ("box", "presence", "dashboard", "operator")
FILM = FilmSpec(width=160, height=96)
# What no line for people may hold: C0 but the line's end, C1, separators, and what turns the direction of text.
UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
RECORD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) ")
FORGED = "2026-01-01T00:00:00.000Z INFO    forged"
ESCAPES = "\x1b]0;owned\x07\x1b[31m\x9b2J\u202egpj.\u2066\u2028"
HOSTILE = (
    "../../outside",
    "..",
    ".anr-watch",
    ".",
    "/etc/cron.d",
    "gate/../../outside",
    f"line\n{FORGED}",
    f"colour{ESCAPES}",
    "+",
    "#",
    "$SYS",
    "x" * 300,
    "nul\0byte",
)


class ExampleBroker(Broker):
    """The broker of deploy/mosquitto/ as it stands there, but for its port and the places of its files."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        acl = (DEPLOY / "acl").read_text()
        super().__init__(folder, users=dict.fromkeys(USERS, MQTT_PASSWORD), acl=acl)
        certificate, key = authority.issue(HERE)
        places = {
            "/etc/mosquitto/certs/ca.crt": authority.file,
            "/etc/mosquitto/certs/server.crt": certificate,
            "/etc/mosquitto/certs/server.key": key,
            "/etc/mosquitto/anr-watch.passwd": self.folder / "passwords",
            "/etc/mosquitto/anr-watch.acl": self.folder / "acl",
            "/var/lib/mosquitto/": f"{self.folder}/",
        }
        text = (DEPLOY / "mosquitto.conf").read_text()
        for place, ours in places.items():
            assert place in text
            text = text.replace(place, str(ours))
        assert "\nlistener 8883\n" in text
        lines = [line for line in text.splitlines() if line and not line.startswith(("#", "listener "))]
        self._lines = [*lines, "log_dest stderr", "log_type all", *(["user root"] if os.getuid() == 0 else [])]


def client(broker: Broker, authority: Authority, user: str, *filters: str) -> Observer:
    tls = aiomqtt.TLSParameters(ca_certs=str(authority.file))
    return Observer(broker.port, *filters, username=user, password=MQTT_PASSWORD, tls_params=tls, identifier=user)


def settings(broker: Broker, authority: Authority) -> str:
    return (
        '[log]\nlevel = "debug"\n[fills]\nstall_timeout_s = 1.0\nconnect_timeout_s = 1.0\nregister_gaps = false\n'
        f'[mqtt]\nhost = "{HERE}"\nport = {broker.port}\ntls = true\nca_file = "{authority.file}"\nnode = "box"\n'
        f'username = "box"\npassword = {json.dumps(MQTT_PASSWORD)}\n'
        '[[mqtt.presence]]\ntopic = "cameras/{camera}/status"\n'
    )


def answering(topic: str) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = topic
    return properties


async def ask(operator: Observer, verb: str, payload: object, *, answer_to: str | None = None, **options) -> dict:
    """Send a command and return what came back on the topic where the answer was asked for, or may go."""
    transaction = f"t{len(operator.messages)}"
    body = {**payload, "transaction": transaction} if isinstance(payload, dict) else payload
    properties = {"properties": answering(answer_to)} if answer_to else {}
    await operator.publish(f"anr-watch/box/cmd/{verb}", json.dumps(body), **properties, **options)

    def answers():
        return [m for m in operator.messages if transaction.encode() in m.payload and b'"status"' in m.payload]

    await operator.until(lambda _: answers())
    answer = json.loads(answers()[0].payload)
    return answer | {"topic": answers()[0].topic}


def outsiders_rows(world: World) -> None:
    """Write rows with hostile ids as whoever can write the recorder's database, or name a camera in it."""
    port = world.cameras["gate"].rtsp_port
    window = world.at(-30), world.at(-25)
    for name in HOSTILE:
        world.kernel.add_camera(name, name=f"{name} {ESCAPES}", rtsp_port=port)
        world.kernel.add_gap(name, *window)
    for number, gap_id in enumerate((HOSTILE[0], HOSTILE[1], HOSTILE[3], HOSTILE[6], HOSTILE[7])):
        start = world.at(-3600 + 20 * number)
        world.kernel.add_gap("gate", start, world.at(-3595 + 20 * number), id=gap_id)
    for name, template in {
        "reads_a_file": "file:///etc/passwd?{start}",
        "climbs": "rtsp://127.0.0.1:9/../../{start}/../" + ESCAPES,
        "concatenates": "concat:/etc/passwd|{start}",
        "broken_row": "rtsp://{strat}",
    }.items():
        world.kernel.add_camera(name, anr_replay_url_template=template, rtsp_port=port)
        world.kernel.add_gap(name, *window)
    world.kernel.execute("UPDATE recording_gaps SET gap_start = ? WHERE id = ?", [f"never{ESCAPES}", HOSTILE[3]])


def tree(folder: Path) -> dict[str, int]:
    """Return every path below a folder with its mode."""
    return {str(path.relative_to(folder)): path.lstat().st_mode for path in folder.rglob("*")}


def clean(text: str, where: str) -> None:
    assert not UNPRINTABLE.search(text), (where, UNPRINTABLE.search(text), text[:3000])
    assert not text.startswith(FORGED), where
    assert f"\n{FORGED}" not in text, where


async def what_others_may_not(world, operator, presence, dashboard) -> None:
    """Everybody tries everything; the camera's fill was over before."""
    for one in (presence, dashboard):
        await one.publish("anr-watch/box/cmd/pause", "{}")
        await one.publish("anr-watch/box/status", "offline", retain=True)
        await one.publish("anr-watch/box/camera/gate/state", "{}", retain=True)
        await one.publish("anr-watch/box/reply/pause", '{"status": "ok"}')
    await dashboard.publish("cameras/gate/status", "offline")
    # Would they have been heard, they would have been before this one.
    answer = await ask(operator, "resume", {"camera": "gate"})
    assert answer["data"] == {"paused": False, "cameras": []}
    assert {m.payload for m in dashboard.messages if m.topic == "anr-watch/box/status"} == {b"online"}
    assert all(m.payload != b"{}" for m in dashboard.messages)
    assert presence.messages == []  # may not hear anything, whatever it subscribed to
    assert not [m for m in dashboard.messages if "/cmd/" in m.topic or "/reply/" in m.topic]


async def answers_stay_where_they_may(operator) -> None:
    assert (await ask(operator, "recheck", {}, answer_to="anr-watch/reply/me"))["topic"] == "anr-watch/reply/me"
    for topic in (
        "cameras/gate/status",  # would be presence
        "anr-watch/box/cmd/pause",  # would be a command
        "anr-watch/box/status",
        "anr-watch/other/status",
        "anr-watch/replyx",
        "$SYS/broker/x",
        "x" * 5000,
    ):
        answer = await ask(operator, "recheck", {}, answer_to=topic)
        assert answer["topic"] == "anr-watch/box/reply/recheck", topic


async def hostile_payloads(operator, tally) -> None:
    for name in HOSTILE:
        for verb, payload in (
            ("fill", {"camera": name, "from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:10Z"}),
            ("retry", {"gap": name}),
            ("cancel", {"camera": name}),
        ):
            answer = await ask(operator, verb, payload)
            clean(answer["error"] or "", f"answer to {verb} {name!r}")
            tally.cases += 1
    await operator.publish("anr-watch/box/cmd/" + "x" * 200, b"\xff\x00\x1b[31m")
    await operator.publish("anr-watch/box/cmd/turned\u202e", f"{{\n{FORGED}")
    answer = await ask(operator, "recheck", {})  # all of them were handled before this one
    assert answer["status"] == "ok"


async def replayed(world, operator, window: dict) -> None:
    """The same command again does no work again."""
    first = await ask(operator, "fill", window)
    rows = "SELECT fill_state FROM recording_gaps WHERE id = ?"
    gap_id = first["data"]["gap"]
    await until(lambda: world.kernel.execute(rows, [gap_id])[0][0] == "filled", lambda: world.kernel.gaps("gate"))
    tries = len(world.attempts("gate"))
    for _ in range(3):
        again = await ask(operator, "fill", window)
        assert again["data"]["gap"] == gap_id
        assert again["data"]["state"] == "filled"
    assert len(world.attempts("gate")) == tries


async def said_by_commands(world: World, seen: Seen) -> None:
    for command in (["status"], ["gaps"], ["check", "--no-replay"], ["status", "--json"], ["gaps", "--json"]):
        status, out, err = await world.command(*command)
        assert status in (0, 1), (command, err)
        assert "Traceback" not in err
        for text in (out, err):
            clean(text, " ".join(command))
            seen.texts.append((" ".join(command), text.encode()))


async def wrong_doors(world: World, authority: Authority, stranger: Authority) -> None:
    """Say why there is no connection: another name, another authority, a wrong password, no TLS."""
    written = world.config.read_text()
    for old, new, says in (
        (
            f'host = "{HERE}"',
            'host = "localhost"',
            "TLS: the broker's certificate is not accepted: Hostname mismatch",
        ),
        (str(authority.file), str(stranger.file), "TLS: the broker's certificate is not accepted: "),
        (json.dumps(MQTT_PASSWORD), '"guessed"', "the broker refuses the user name or password"),
    ):
        world.config.write_text(written.replace(old, new))
        status, out, err = await world.command("check", "--no-replay")
        assert status == 1, out
        assert says in out, (out, err)
        assert "guessed" not in out + err
    world.config.write_text(written)


@pytest.mark.timeout(240)
def test_nobody_gets_in(tmp_path, tally, capfd):
    home, stranger = Authority(tmp_path / "tls", "home"), Authority(tmp_path / "tls", "stranger")
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    specs = [
        CameraSpec(name="gate", film=FILM, password=CAMERA_PASSWORD),
        CameraSpec(name="loud", film=FILM, password=CAMERA_PASSWORD),
        CameraSpec(name="louder", film=FILM, password=CAMERA_PASSWORD),
    ]

    async def main():
        with ExampleBroker(tmp_path, home) as broker, contextlib.ExitStack() as stack:
            async with World(tmp_path, *specs, settings=settings(broker, home)) as world:
                world.config.chmod(0o644)
                for name in world.cameras:
                    world.record(name, -40, -34.3)
                    world.record(name, -25.7, -20)
                    world.note_hole(name)
                world.cameras["loud"].faults.update({"describe_status": 461, "phrase": f"No{ESCAPES}"})
                world.cameras["louder"].faults.update({"setup_status": 461, "sdp_line": f"i=x{ESCAPES}"})
                outsiders_rows(world)
                async with client(broker, home, "operator", "anr-watch/+/reply/#", "anr-watch/reply/#") as operator:
                    await operator.publish("anr-watch/box/cmd/pause", "{}", retain=True)
                    dashboard = client(broker, home, "dashboard", "#")
                    presence = client(broker, home, "presence", "#")
                    stack.callback(os.umask, os.umask(0))  # the worst that a service can be started with
                    async with dashboard, presence, world.daemon(env={"TMPDIR": str(scratch)}) as daemon:
                        seen = Seen(world, dashboard, broker.folder, scratch)
                        sampler = asyncio.ensure_future(sampling(seen))
                        await visit(world, daemon, (operator, presence, dashboard), tally)
                        await wrong_doors(world, home, stranger)
                        await said_by_commands(world, seen)
                        sampler.cancel()
                    await asyncio.wait([sampler])
                log, printed = daemon.log, capfd.readouterr()
                texts = (("log", log), ("stdout", printed.out), ("stderr", printed.err))
                seen.texts += [(where, text.encode()) for where, text in texts]
                judge(world, log)
                found = leaks(seen)
                tally.secrets_leaked += len(found)
                assert seen.workers
                assert found == []
                for message in dashboard.messages:
                    clean(message.topic, "topic")
                    assert min(message.payload, default=32) >= 32, (
                        message
                    )  # JSON escapes what else it carries as data

    asyncio.run(main())


async def visit(world, daemon, clients, tally) -> None:
    operator, presence, dashboard = clients
    await dashboard.until(
        lambda seen: [m for m in seen if m.topic.endswith("gate/state") and b'"completed"' in m.payload]
    )
    await until(lambda: "retained message on anr-watch/box/cmd/pause is ignored" in daemon.log, lambda: daemon.log)
    reasons = {attempt["camera_id"]: attempt for attempt in world.attempts()}
    await until(lambda: {a["camera_id"] for a in world.attempts() if a["ended_at"]} >= set(world.cameras), "tried")
    reasons = {attempt["camera_id"]: attempt for attempt in world.attempts()}
    for name in ("loud", "louder"):
        assert "RTSP 461" in reasons[name]["detail"]
        clean(reasons[name]["detail"], name)
    await what_others_may_not(world, operator, presence, dashboard)
    await presence.publish("cameras/gate/status", "offline")
    await dashboard.until(lambda seen: [m for m in seen if b"camera.offline" in m.payload])
    await presence.publish("cameras/gate/status", "online")
    await dashboard.until(lambda seen: [m for m in seen if b"camera.online" in m.payload])
    for name in HOSTILE:
        if name.isprintable() and not set(name) & set("+#"):  # mosquitto hangs up on control characters in a topic
            await presence.publish(f"cameras/{name}/status", f"online{ESCAPES}")
    await answers_stay_where_they_may(operator)
    await hostile_payloads(operator, tally)
    window = {"camera": "gate", "from": world.at(-33).isoformat(), "to": world.at(-28).isoformat()}
    await replayed(world, operator, window)
    tally.faults += 20 + len(HOSTILE)


def judge(world: World, log: str) -> None:
    """Check what lies on the disk and what was said."""
    assert "Traceback" not in log
    clean(log, "log")
    assert [line for line in log.splitlines() if not RECORD.match(line)] == []
    modes = tree(world.folder)
    roots = {"recordings", "data", "config.toml", "tls", "tmp"}
    strays = [p for p in modes if p.partition("/")[0] not in roots and not p.startswith("broker-")]
    assert strays == []
    assert {p.name for p in world.recordings.iterdir()} == {".anr-watch", *world.cameras}
    assert stat.S_IMODE(modes["recordings/.anr-watch"]) == 0o700
    assert {p: oct(m) for p, m in modes.items() if p.startswith("recordings/.anr-watch/")} == {
        "recordings/.anr-watch/lock": oct(stat.S_IFREG | 0o600)
    }
    ours = [p for p in modes if p.startswith("recordings/")]
    assert not [p for p in ours if modes[p] & (stat.S_IWGRP | stat.S_IWOTH)]
    proof = world.prove("gate", -40, -20)
    assert proof.complete, proof
