"""`check` against real things: a folder without rights, brokers that refuse, cameras that answer in every way."""

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from broker import Broker, free_port
from commands_world import PASSWORD, World, ago, camera, plain_user


@pytest.fixture
def world(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("ANR_WATCH_", "HELDAR_")):
            monkeypatch.delenv(name)
    return World(tmp_path, capsys)


def add(world, port, camera_id="cam", **columns):
    given = {"rtsp_port": port, "password": PASSWORD, "address": "127.0.0.1", **columns}
    with world.kernel() as kernel:
        kernel.add_camera(camera_id, **given)
        kernel.add_segment(camera_id, ago(180), ago(120))
    (world.recordings / camera_id).mkdir()


def of(said, about):
    return [line for line in said.objects[:-1] if line["about"] == about]


def test_all_is_well(world):
    with camera() as port:
        add(world, port)
        said = world.run("check")
    assert said.status == 0, said.out
    lines = said.out.splitlines()
    assert all(line.startswith("ok    ") for line in lines[:-2]), said.out
    assert lines[-1] == "fills can work"
    asked, answered = (line for line in lines if line.startswith("ok    camera cam"))
    assert f"asked with rtsp://***@127.0.0.1:{port}/Streaming/tracks/101?starttime=" in asked
    assert "a password" in asked
    assert "h264 160x96" in answered
    assert "by the camera's clock" in answered


def test_without_heldar_before_the_first_start(world):
    with camera() as port:
        world.standalone(port)
        said = world.run("check", "--json")
    assert said.status == 0, said.out
    assert "not there yet, `anr-watch run` creates it" in of(said, "database")[0]["text"]
    assert of(said, "camera")[-1]["codec"] == "h264"
    assert not world.database.exists()


def test_metrics_without_their_library_are_told_as_run_tells_them(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "anr_watch.metrics.families", raising=False)
    monkeypatch.delattr("anr_watch.metrics.families", raising=False)
    world.configure('[metrics]\nlisten = "127.0.0.1:0"')
    add(world, 554)
    said = world.run("check", "--no-replay", "--json")
    assert said.status == 1
    (failure,) = (line for line in of(said, "config") if line["level"] == "FAIL")
    refused = world.run("run")
    assert (refused.status, refused.err) == (2, f"anr-watch: config: {failure['text']}\n")


def test_as_json(world):
    with camera() as port:
        add(world, port)
        said = world.run("check", "--json")
    assert said.objects[-1] == {"ok": True, "failures": 0, "warnings": 0}
    answer = of(said, "camera")[1]
    assert answer["camera"] == "cam"
    assert answer["codec"] == "h264"
    assert answer["clock"] == "sender_report"
    assert abs(answer["offset_s"]) < 1.5
    assert answer["got_s"] > 50
    assert answer["first_byte_s"] < 5


def test_nothing_is_left_behind(world):
    with camera() as port:
        add(world, port)
        temporary = set(Path(tempfile.gettempdir()).glob("anr-watch-check-*"))
        world.run("check")
    assert [path.name for path in world.recordings.iterdir()] == ["cam"]
    assert list((world.recordings / "cam").iterdir()) == []
    assert set(Path(tempfile.gettempdir()).glob("anr-watch-check-*")) <= temporary
    with world.kernel() as kernel:
        assert kernel.execute("SELECT name FROM sqlite_master WHERE name LIKE 'anr!_%' ESCAPE '!'") == []


def test_no_replay_asks_no_camera(world):
    add(world, free_port())
    said = world.run("check", "--no-replay", "--json")
    assert said.status == 0
    assert len(of(said, "camera")) == 1


@pytest.mark.parametrize(
    ("options", "reason", "advice"),
    [
        (("--fault", "unauthorized=1"), "unauthorized", "lock out"),
        (("--fault", "describe_status=404"), "no_footage", "card"),
        (("--fault", "describe_status=453"), "busy", "close other playback"),
        (("--offline",), "unreachable", "power, network and firewall"),
    ],
)
def test_what_the_device_answers_in_words(world, options, reason, advice):
    world.configure("[fills]\nconnect_timeout_s = 2.0\nstall_timeout_s = 2.0\n[replay]\n")
    with camera(*options) as port:
        add(world, port)
        said = world.run("check", "--json")
    assert said.status == 1
    bad = next(line for line in of(said, "camera") if line["level"] == "FAIL")
    assert bad["reason"] == reason
    assert advice in bad["advice"]


@pytest.mark.parametrize(
    ("columns", "reason", "text"),
    [
        ({"address": None}, "no_replay_url", "neither a replay URL template nor an address"),
        ({"anr_replay_url_template": "file:///etc/{start}"}, "bad_config", "the scheme of the replay URL"),
        ({"anr_replay_url_template": "rtsp://h/{sart}"}, "bad_config", "did you mean {start}?"),
        ({"password": "enc:v1:AAAA"}, "bad_config", "HELDAR_SECRET_KEY"),
    ],
)
def test_a_camera_that_cannot_be_asked(world, columns, reason, text):
    add(world, 554, **columns)
    said = world.run("check", "--json")
    assert said.status == 1
    bad = of(said, "camera")[0]
    assert (bad["level"], bad["reason"]) == ("FAIL", reason)
    assert text in bad["text"]


def test_a_camera_in_another_zone_is_pointed_at_its_setting(world):
    """It reads the digits as its wall clock and plays another hour; nothing it says of the time is then believed."""
    with camera("--fault", "local_time=Europe/Berlin") as port:
        add(world, port)
        said = world.run("check", "--json")
    answer = of(said, "camera")[-1]
    assert answer["clock"] == "asked"
    assert "`timezone`" in answer["advice"]


def test_footage_that_begins_late_is_seen(world):
    with camera("--fault", "late_start_s=12") as port:
        add(world, port)
        said = world.run("check", "--json")
    odd = of(said, "camera")[-1]
    assert odd["level"] == "warn"
    assert 9 < odd["offset_s"] < 14


def test_a_camera_at_real_time_is_not_asked_for_longer_than_it_takes_to_know(world, monkeypatch):
    monkeypatch.setattr("anr_watch.commands.check_camera.LONGEST_S", 2.0)
    with camera("--speed", "2") as port:
        add(world, port)
        said = world.run("check", "--json")
    assert said.status == 0, said.out
    assert 0 < of(said, "camera")[-1]["got_s"] < 30


def test_cameras_with_fills_off_are_asked_only_by_name(world):
    add(world, free_port(), anr_enabled=0)
    said = world.run("check", "--json")
    assert said.status == 0
    assert "fills are off (anr_enabled = 0)" in of(said, "camera")[0]["text"]
    said = world.run("check", "--json", "--camera", "cam")
    assert said.status == 1
    assert of(said, "camera")[-1]["reason"] == "unreachable"


def test_an_unknown_camera(world):
    add(world, free_port())
    said = world.run("check", "--camera", "cma")
    assert (said.status, said.err) == (2, "anr-watch: no camera 'cma': did you mean cam?\n")


def test_ids_in_the_configuration_that_no_camera_has(world):
    add(world, free_port())
    rule = 'name = "nvr"\ntopic = "x/{camera}"\nnames = { a = "kam" }'
    broker = f'[mqtt]\nhost = "127.0.0.1"\nport = {free_port()}\n[[mqtt.presence]]\n{rule}'
    world.configure(f"[cameras.cam1]\nlead_s = 1.0\n{broker}")
    said = world.run("check", "--no-replay", "--json")
    texts = [line["text"] for line in of(said, "config")]
    assert texts, said.err
    assert "[cameras.cam1]: no camera 'cam1': did you mean cam?" in texts
    assert "[[mqtt.presence]] nvr: names: no camera 'kam': did you mean cam?" in texts


def test_names_of_recordings(world):
    add(world, free_port())
    for seconds in (120, 60, 10):
        (world.recordings / "cam" / f"{ago(seconds):%Y%m%d_%H%M%S}.mp4").write_bytes(b"x")
    said = world.run("check", "--no-replay", "--json")
    line = of(said, "recordings")[1]
    assert (line["level"], line["camera"], line["files"], line["fitting"]) == ("ok", "cam", 3, 3), said.out
    assert line["text"].startswith("3 of 3 files fit the name pattern, newest 20")
    (world.recordings / "cam" / "front-1.mp4").write_bytes(b"x")
    (world.recordings / "cma").mkdir()
    (world.recordings / "cma" / f"{ago(30):%Y%m%d_%H%M%S}.mp4").write_bytes(b"x")
    said = world.run("check", "--no-replay", "--json")
    assert said.status == 0
    odd, folders = of(said, "recordings")[1:]
    assert "3 of 4 files fit the name pattern '%Y%m%d_%H%M%S', 'front-1.mp4' does not" in odd["text"]
    assert folders["text"].endswith("belong to no camera: 'cma'")  # the only camera has its folder
    for file in (world.recordings / "cam").iterdir():
        file.unlink()
    (world.recordings / "cam" / f"{ago(30 - 7200):%Y%m%d_%H%M%S}.mp4").write_bytes(b"x")
    said = world.run("check", "--no-replay")
    assert "warn  recordings cam: " in said.out
    assert "names seem to be local time, not UTC" in said.out
    assert "Environment=TZ=UTC" in said.out


def test_a_recordings_folder_that_is_not_there(world):
    world.recordings.rmdir()
    said = world.run("check", "--no-replay", "--json")
    assert said.status == 1
    assert of(said, "recordings")[0]["text"] == f"the recordings folder {world.recordings} is missing"


def test_too_little_room(world):
    world.config.write_text(world.config.read_text().replace("min_free_mb = 1\n", "min_free_mb = 1000000000\n"))
    said = world.run("check", "--no-replay", "--json")
    assert said.status == 1
    assert "fills stop below 1000.0 TB" in of(said, "recordings")[0]["text"]


def test_a_recordings_folder_that_is_read_only(capsys):
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root.chmod(0o755)
        world = World(root, capsys)
        add(world, free_port())
        world.run("check", "--no-replay")  # everything is imported while we may still read it
        world.recordings.chmod(0o555)
        with plain_user():
            said = world.run("check", "--no-replay", "--json")
    assert said.status == 1
    assert "Permission denied" in of(said, "recordings")[0]["text"]
    assert "write access" in of(said, "recordings")[0]["advice"]


def test_a_database_that_is_unusable_does_not_hide_the_rest(world):
    world.database.write_text("no database at all, for longer than a header is, so that it is read as one\n" * 9)
    said = world.run("check", "--json")
    assert said.status == 1
    assert of(said, "database")[0]["level"] == "FAIL"
    assert of(said, "recordings")[0]["level"] == "ok"


def test_no_cameras_at_all(world):
    said = world.run("check", "--json")
    assert said.status == 1
    assert of(said, "cameras")[0]["text"] == "there are none"


def mqtt(port, more=""):
    rule = '[[mqtt.presence]]\ntopic = "cams/{camera}/online"\n'
    return f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\nnode = "n1"\n{more}\n{rule}'


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_broker_that_works(world, version):
    with Broker(world.root) as broker:
        world.configure(mqtt(broker.port, f'version = "{version}"'))
        add(world, free_port())
        said = world.run("check", "--no-replay", "--json")
        log = broker.log.read_text()
    assert of(said, "broker")[0]["level"] == "ok", said.out
    assert "1 presence rule subscribed" in of(said, "broker")[0]["text"]
    if version == "3.1.1":  # a session that is not clean would go on collecting messages for nobody
        ours = next(line for line in log.splitlines() if "as anr-watch-n1-check" in line)
        assert " c1," in ours


def test_a_broker_that_is_not_there(world):
    world.configure(mqtt(free_port()))
    said = world.run("check", "--no-replay", "--json")
    assert said.status == 1
    assert "Connection refused" in of(said, "broker")[0]["text"]


def test_a_broker_that_refuses_the_password(world):
    with Broker(world.root, users={"anr": "right"}) as broker:
        world.configure(mqtt(broker.port, f'username = "anr"\npassword = "{PASSWORD}"'))
        said = world.run("check", "--no-replay", "--json")
    assert "refuses the user name or password" in of(said, "broker")[0]["text"]


def test_a_broker_that_does_not_let_us_write(world):
    acl = "user anr\ntopic read #"
    with Broker(world.root, users={"anr": "right"}, acl=acl) as broker:
        world.configure(mqtt(broker.port, 'username = "anr"\npassword = "right"'))
        said = world.run("check", "--no-replay", "--json")
    assert said.status == 1
    assert "does not take messages below anr-watch/n1/" in of(said, "broker")[0]["text"]


def test_the_output_of_a_check_never_holds_the_password(world):
    """`World.run` looks for it in everything a command prints; here also in a template and in the camera's words."""
    with camera("--fault", "describe_status=500") as port:
        template = f"rtsp://admin:{PASSWORD.replace('/', '%2F')}@127.0.0.1:{port}/x?start={{start}}&pwd=hunter2"
        add(world, port, anr_replay_url_template=template)
        said = world.run("check")
    assert "hunter2" not in said.out
    assert PASSWORD.replace("/", "%2F") not in said.out


def test_files_with_secrets_that_everybody_can_read(world):
    secret, key = world.root / "mqtt-password", world.root / "client.key"
    for file in (secret, key):
        file.write_text("hush")
        file.chmod(0o644)
    literal = '[[camera]]\nid = "a"\naddress = "h"\n'
    for more, warned in (
        ("", set()),
        ('[mqtt]\nhost = "127.0.0.1"\nport = 9\npassword_file = "mqtt-password"\n', {secret}),
        ('[mqtt]\nhost = "127.0.0.1"\nport = 9\npassword = "hush"\n', {world.config}),
        ('[mqtt]\nhost = "mqtt://anr:hush@127.0.0.1:9"\n', {world.config}),
        (f'{literal}password = "hush"\n', {world.config}),
        (f'{literal}replay_url_template = "rtsp://{{user}}:{{password}}@h/{{start}}"\n', set()),
        (f'{literal}replay_url_template = "rtsp://admin:hush@h/{{start}}"\n', {world.config}),
        (f'{literal}replay_url_template = "http://h/{{start}}?password=hush"\n', {world.config}),
    ):
        world.configure(more)
        world.config.chmod(0o644)
        said = world.run("check", "--json", "--no-replay")
        found = {
            line["text"].split(" holds a secret")[0] for line in of(said, "config") if "every user" in line["text"]
        }
        assert found == {str(path) for path in warned}, (more, said.out)
        assert "hush" not in said.out
        world.config.chmod(0o640)
        secret.chmod(0o600)
        again = world.run("check", "--json", "--no-replay")
        assert "every user" not in again.out
        secret.chmod(0o644)
