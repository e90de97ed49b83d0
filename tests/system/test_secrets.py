"""No secret leaves the places where its owner put it: during fills that work and fills that fail, every output is searched."""

import asyncio
import base64
import contextlib
import json
from itertools import pairwise
from urllib.parse import quote

import pytest

from anr_watch.camera.core import CameraSpec
from tests.broker import Broker, Observer
from tests.leaks import (
    CAMERA_PASSWORD,
    KEY_TEXT,
    MQTT_CORE,
    MQTT_PASSWORD,
    SEALED_PASSWORD,
    SECRETS,
    TEMPLATE_PASSWORD,
    Seen,
    leaks,
    sampling,
    sealed,
)
from tests.world import PROGRAM, World, until


def hole(world: World, name: str) -> None:
    world.record(name, -40, -34.3)
    world.record(name, -25.7, -20)
    if world.kernel is not None:
        world.note_hole(name)


COMMANDS = (
    ["status"],
    ["gaps"],
    ["check", "--camera", "gate"],
    ["check"],
    ["fill", "gate", "-34s", "-30s"],
    ["fill", "unauthorized", "-34s", "-30s"],
    ["fill", "hostile", "-34s", "-30s"],
    ["retry", "--camera", "stalled"],
    ["retry", "--camera", "nobody"],
    ["gaps", "--state", "wrong"],
)
SLOW_BYTES_S = 100_000  # a fill takes about two seconds, so that the samples see its worker
# What ends each camera's first try; None: it is filled.
ENDS = {
    "gate": None,
    "templated": None,
    "sealed": None,
    "over_http": None,
    "unauthorized": "unauthorized",
    "stalled": "stalled",
    "missing": "no_footage",
    "redirected": "bad_media",
    "hostile": "bad_config",
    "broken": "bad_config",
    "key_of_another": "bad_config",
    "gone": "unreachable",
}
PASSWORDS = {"templated": TEMPLATE_PASSWORD, "sealed": SEALED_PASSWORD, "missing": TEMPLATE_PASSWORD}


def specs(*names: str) -> list[CameraSpec]:
    return [CameraSpec(name=name, password=PASSWORDS.get(name, CAMERA_PASSWORD)) for name in names]


def provoke(world: World) -> None:
    """Give each camera of a kernel's database what its name says."""
    query = "?starttime={start}&endtime={end}"
    literal = quote(TEMPLATE_PASSWORD, safe="")
    columns = {
        "templated": {
            "password": None,
            "anr_replay_url_template": "rtsp://admin:" + literal + "@{address}:{port}/Streaming/tracks/101" + query,
        },
        "sealed": {"password": sealed(SEALED_PASSWORD)},
        "over_http": {
            "anr_replay_url_template": "http://{user}:{password}@{address}:"
            + str(world.cameras["over_http"].http_port)
            + "/get?path=cam&start={start_rfc3339}&duration={duration_s}&format=fmp4"
        },
        "missing": {
            "anr_replay_url_template": "http://{address}:"
            + str(world.cameras["missing"].http_port)
            + "/get?path=cam&start={start_rfc3339}&duration={duration_s}&password="
            + literal
        },
        "redirected": {
            "anr_replay_url_template": "http://{user}:{password}@{address}:"
            + str(world.cameras["redirected"].http_port)
            + "/get?path=cam&start={start_rfc3339}&duration={duration_s}"
        },
        "hostile": {"anr_replay_url_template": "gopher://admin:" + literal + "@{address}/{start}"},
        "broken": {"anr_replay_url_template": "rtsp://admin:" + TEMPLATE_PASSWORD + "@{address}/{strat}"},
        "key_of_another": {"password": sealed(SEALED_PASSWORD)[:-8] + "AAAAAAA="},
    }
    for name, changes in columns.items():
        for column, value in changes.items():
            world.kernel.execute(f"UPDATE cameras SET {column} = ? WHERE id = ?", [value, name])
    faults = {
        "unauthorized": {"unauthorized": True},
        "stalled": {"hang": "play"},
        "gate": {"rate_bytes_s": SLOW_BYTES_S},
        "missing": {"http_status": 404},
        "redirected": {"http_redirect": f"gopher://admin:{literal}@127.0.0.1/x?password={literal}"},
    }
    for name, fault in faults.items():
        world.cameras[name].faults.update(fault)


def settings_of(broker: Broker, form: str, extra: str) -> str:
    return (
        f'[log]\nlevel = "debug"\nformat = "{form}"\n'
        "[fills]\nsettle_s = 1\nstall_timeout_s = 1.0\nconnect_timeout_s = 1.0\nregister_gaps = false\n"
        f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nnode = "test"\nusername = "anr"\n{extra}'
    )


async def tell(seen: Seen, name: str, process: tuple[int, str, str]) -> None:
    status, out, err = process
    assert status in (0, 1, 2), (name, process)
    assert "Traceback" not in err, (name, err)
    seen.texts.append((f"stdout of {name}", out.encode()))
    seen.texts.append((f"stderr of {name}", err.encode()))


async def all_commands(seen: Seen, env: dict[str, str], commands: tuple[list[str], ...] = COMMANDS) -> None:
    for number, command in enumerate(commands):
        as_json = ["--json"] if number % 2 else []
        name = " ".join([PROGRAM.name, *command, *as_json])
        await tell(seen, name, await seen.world.command(*command, *as_json, env=env))


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("form", "where"), [("plain", "environment"), ("json", "file")], ids=["plain-environment", "json-file"]
)
def test_beside_the_kernel_no_secret_leaves_its_place(tmp_path, capfd, form, where):
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    env = {"TMPDIR": str(scratch)}
    if where == "environment":
        env |= {"HELDAR_SECRET_KEY": KEY_TEXT, "ANR_WATCH_MQTT__PASSWORD": MQTT_PASSWORD}
        extra = ""
    else:
        extra = f"password = {json.dumps(MQTT_PASSWORD)}\n"

    async def run():
        with Broker(tmp_path, users={"anr": MQTT_PASSWORD, "all": "all"}) as broker:
            async with World(tmp_path, *specs(*ENDS), settings=settings_of(broker, form, extra)) as world:
                if where == "file":
                    world.config.write_text(f'secret_key = "{KEY_TEXT}"\n' + world.config.read_text())
                provoke(world)
                for name in ENDS:
                    hole(world, name)
                await world.cameras["gone"].go_offline()
                async with Observer(broker.port, "#", username="all", password="all") as observer:
                    seen = Seen(world, observer, broker.folder, scratch)
                    sampler = asyncio.ensure_future(sampling(seen))
                    try:
                        async with world.daemon(env=env) as daemon:
                            await until(lambda: firsts(world) == ENDS, lambda: (firsts(world), daemon.log[-3000:]))
                            world.cameras["gate"].faults.clear()
                            await observer.publish("anr-watch/test/cmd/retry", '{"camera": "redirected"}')
                            await observer.publish("anr-watch/test/cmd/retry", '{"camera": "unauthorized"}')
                            await all_commands(seen, env)
                        seen.texts.append(("stderr of the daemon", daemon.log.encode()))
                        assert "Traceback" not in daemon.log
                        await all_commands(seen, env, COMMANDS[:6])  # a fill of the command's own
                    finally:
                        sampler.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await sampler
                    captured = capfd.readouterr()
                    seen.texts += [("stdout of the daemon", captured.out.encode()), ("other", captured.err.encode())]
                    assert len(seen.workers) >= 3
                    assert leaks(seen) == []

    asyncio.run(run())


def firsts(world: World) -> dict[str, str | None]:
    """Return, per camera, how its first try ended, None once its gap is filled."""
    if not world.kernel.execute("SELECT 1 FROM sqlite_master WHERE name = 'anr_attempts'"):
        return {}
    found = {a["camera_id"]: a["reason"] for a in reversed(world.attempts()) if a["reason"]}
    return found | {name: None for name in found if world.states(name) == {"filled"}}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("form", ["plain", "json"])
def test_standalone_no_secret_leaves_the_configuration(tmp_path, capfd, form):
    """Here the database is ours as well, so not even its `cameras` may hold a password."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    env = {"TMPDIR": str(scratch)}

    async def run():
        with Broker(tmp_path, users={"anr": MQTT_PASSWORD, "all": "all"}) as broker:
            settings = settings_of(broker, form, f"password = {json.dumps(MQTT_PASSWORD)}\n")
            settings = settings.replace("register_gaps = false\n", "")
            async with World(tmp_path, *specs("gate", "unauthorized"), standalone=True, settings=settings) as world:
                written = world.config.read_text()
                plain = f'password = "{CAMERA_PASSWORD}"'
                assert plain in written
                world.config.write_text(written.replace(plain, f"password = {json.dumps(CAMERA_PASSWORD)}"))
                world.cameras["unauthorized"].faults.unauthorized = True
                for name in world.cameras:
                    hole(world, name)
                async with Observer(broker.port, "#", username="all", password="all") as observer:
                    seen = Seen(world, observer, broker.folder, scratch)
                    sampler = asyncio.ensure_future(sampling(seen))
                    try:
                        async with world.daemon(env=env) as daemon:
                            await until(lambda: "filled" in world.states("gate"), lambda: daemon.log[-3000:])
                            await until(lambda: "camera parked" in daemon.log, lambda: daemon.log[-3000:])
                            await all_commands(seen, env, COMMANDS[:6])
                        seen.texts.append(("stderr of the daemon", daemon.log.encode()))
                        assert "Traceback" not in daemon.log
                    finally:
                        sampler.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await sampler
                    captured = capfd.readouterr()
                    seen.texts += [("stdout of the daemon", captured.out.encode()), ("other", captured.err.encode())]
                    assert seen.workers
                    assert leaks(seen) == []

    asyncio.run(run())


@pytest.mark.parametrize(
    "line",
    [
        f'[mqtt]\nhost = "mqtt://anr:{MQTT_CORE}@127.0.0.1:wrong"',
        f'[mqtt]\nhost = "anr:{MQTT_CORE}@127.0.0.1"',
        f'[mqtt]\nhost = "anr:{MQTT_CORE}@"',
        f'[mqtt]\npassword = ["{MQTT_CORE}"]',
        f'[mqtt]\npasswort = "{MQTT_CORE}"',
        f'[mqtt]\npassword = "{MQTT_CORE}',
        f'secret_key = "{KEY_TEXT[:20]}{MQTT_CORE}"',
        f'[[camera]]\nid = "gate"\npassword = 1{MQTT_CORE}',
        f'[[camera]]\nid = "gate"\nreplay_url_template = "gopher://admin:{MQTT_CORE}@host/{{start}}"',
        f'[[camera]]\nid = "gate"\nreplay_url_template = "rtsp://host/{{start}}?pw={MQTT_CORE} blank"',
        f'[[camera]]\nid = "gate"\naddress = "admin:{MQTT_CORE}@127.0.0.1"',
        f'[[camera]]\nid = "gate"\naddress = "rtsp://admin:{MQTT_CORE}@127.0.0.1/live"',
    ],
)
def test_a_mistake_in_the_configuration_is_told_without_the_secret(tmp_path, line):
    async def run():
        async with World(tmp_path, standalone=True) as world:
            world.config.write_text(f'{line}\n[recordings]\npath = "{world.recordings}"\n')
            for command in (["check"], ["run"], ["status", "--json"]):
                status, out, err = await world.command(*command)
                assert status == 2, (out, err)
                assert "Traceback" not in err
                assert all(text not in (out + err).encode() for text in SECRETS["MQTT password"]), (out, err)

    asyncio.run(run())


def test_the_search_finds_each_form():
    """The search itself under test: it would be worthless if it could not see what it is for."""
    for text in (
        CAMERA_PASSWORD,
        quote(CAMERA_PASSWORD, safe=""),
        repr(CAMERA_PASSWORD),
        json.dumps(CAMERA_PASSWORD),
    ):
        assert any(form in text.encode() for form in SECRETS["camera password"])
    for before, after in pairwise([b"", b"a", b"ab", b"abc", b"a:", b""]):
        coded = base64.b64encode(before + CAMERA_PASSWORD.encode() + after)
        assert any(form in coded for form in SECRETS["camera password"]), coded
    assert any(form in CAMERA_PASSWORD.encode().hex().encode() for form in SECRETS["camera password"])
