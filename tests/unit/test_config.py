"""Reading the configuration: every problem at once, secrets never shown, later sources over earlier ones."""

import base64
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anr_watch.config import Settings, checking, load
from anr_watch.config.checking import id_fix, slug
from anr_watch.config.loading import _Builder
from anr_watch.errors import ConfigError
from anr_watch.model import ReplayOptions, Secret

KEY = base64.b64encode(bytes(32)).decode()
CAMERA = '[[camera]]\nid = "a"\naddress = "192.0.2.1"\n'


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Load a text as config.toml, with an environment."""
    monkeypatch.chdir(tmp_path)

    def go(text: str | bytes = "", **environ: str) -> Settings:
        path = tmp_path / "config.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(path, environ)

    return go


@pytest.fixture
def refused(read):
    """Load a text that must fail; return {key: line for people}."""

    def go(text: str | bytes = "", **environ: str) -> dict[str, str]:
        with pytest.raises(ConfigError) as caught:
            read(text, **environ)
        lines = {problem.key: str(problem) for problem in caught.value.problems}
        assert all("\n" not in line and len(line) < 400 for line in lines.values())
        assert all(problem.fix for problem in caught.value.problems)
        return lines

    return go


def test_no_file_gives_the_defaults(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    loaded = load(None, {})
    assert loaded.database.path == Path("data/heldar.db")
    assert loaded.source == "defaults"
    assert loaded.mqtt.node == slug(os.uname().nodename)


def test_an_unknown_key_of_a_camera_is_told_all_keys_that_are_known_there(refused):
    camera = "[[camera]]\nid = 'a'\naddress = 'b'\n"
    text = refused(f"{camera}qqqq = 1")["camera[1].qqqq"]
    _, _, listed = text.partition("known here: ")
    options = {item.name for item in dataclasses.fields(ReplayOptions)}
    assert options | {"id", "segment_s", "password", "password_file"} <= set(listed.split(", "))
    assert "did you mean timezone?" in refused(f"{camera}time_zone = 'utc'")["camera[1].time_zone"]


def test_a_named_file_must_be_there(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "nope.toml", {})
    assert str(caught.value) == f"{tmp_path}/nope.toml: cannot be read: No such file or directory"


def test_the_file_is_found_by_variable_then_in_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text("[fills]\nparallel = 2\n")
    (tmp_path / "other.toml").write_text("[fills]\nparallel = 3\n")
    assert load(None, {}).fills.parallel == 2
    assert load(None, {"ANR_WATCH_CONFIG": "other.toml"}).fills.parallel == 3


def test_relative_paths_start_at_the_files_folder_also_those_of_defaults(read, tmp_path):
    loaded = read('[database]\npath = "x/h.db"\n')
    assert loaded.database.path == tmp_path / "x/h.db"
    assert loaded.recordings.path == tmp_path / "data/recordings"


def test_a_relative_config_path_keeps_relative_paths_as_they_are_written(monkeypatch, tmp_path):
    # The kernel's rows may hold relative paths; making ours absolute would make the same folder look like another.
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text("")
    assert load(Path("config.toml"), {}).recordings.path == Path("data/recordings")


def test_the_environment_overrides_and_parses_by_type(read):
    loaded = read(
        "[fills]\nparallel = 2\n[mqtt]\nhost = 'b'\n",
        ANR_WATCH_FILLS__PARALLEL=" 4 ",
        ANR_WATCH_FILLS__SETTLE_S="1.5",
        ANR_WATCH_FILLS__REGISTER_GAPS="off",
        ANR_WATCH_MQTT__PASSWORD="s3cret",
        ANR_WATCH_MQTT__USERNAME="u",
        ANR_WATCH_RECORDINGS__PATH="rel/here",
        ANR_WATCH_MQTT__PRESENCE='[{"topic": "a/{camera}", "online": ["1"]}]',
        ANR_WATCH_CAMERAS='{"cam": {"timezone": "local"}}',
        ANR_WATCH_PORT_80_TCP="tcp://10.0.0.1:80",
    )
    assert (loaded.fills.parallel, loaded.fills.settle_s, loaded.fills.register_gaps) == (4, 1.5, False)
    assert loaded.mqtt.password == Secret("s3cret")
    assert loaded.recordings.path == Path("rel/here")
    assert loaded.mqtt.presence[0].online == ("1",)
    assert loaded.overrides["cam"].timezone == "local"


def test_a_file_with_a_password_gives_way_to_a_variable_with_one(read, tmp_path):
    (tmp_path / "pw").write_text("from file")
    assert read("[mqtt]\npassword_file = 'pw'\nusername='u'", ANR_WATCH_MQTT__PASSWORD="v").mqtt.password == Secret(
        "v"
    )
    loaded = read("[mqtt]\npassword = 'x'\nusername='u'", ANR_WATCH_MQTT__PASSWORD_FILE=str(tmp_path / "pw"))
    assert loaded.mqtt.password == Secret("from file")


def test_a_key_that_is_set_by_environment_to_what_it_cannot_be_is_named_by_its_variable(refused):
    found = refused(ANR_WATCH_FILLS__PARALLEL="many", ANR_WATCH_FILS__PARALLEL="2", ANR_WATCH_FILLS__PARALEL="2")
    assert "whole number from 1 to 64" in found["ANR_WATCH_FILLS__PARALLEL"]
    assert "unknown" in found["ANR_WATCH_FILS__PARALLEL"]
    assert "did you mean parallel?" in found["ANR_WATCH_FILLS__PARALEL"]


def test_the_kernels_variables_are_defaults_below_everything_else(read):
    kernel = {
        "HELDAR_DATABASE_URL": "sqlite:///srv/heldar/h.db?mode=rwc",
        "HELDAR_DATA_DIR": "/srv/heldar",
        "HELDAR_SECRET_KEY": KEY,
        "HELDAR_ANR_MAX_ATTEMPTS": "5",
    }
    loaded = read("", **kernel)
    assert loaded.database.path == Path("/srv/heldar/h.db")
    assert loaded.recordings.path == Path("/srv/heldar/recordings")
    assert loaded.secret_key == Secret(KEY)
    assert loaded.fills.max_attempts == 5
    assert read("", **kernel, HELDAR_RECORDINGS_DIR="./rec").recordings.path == Path("rec")
    assert read("[fills]\nmax_attempts = 2", **kernel).fills.max_attempts == 2
    assert read("", HELDAR_DATABASE_URL="sqlite://./data/k.db").database.path == Path("data/k.db")


def test_all_problems_at_once_with_key_value_and_fix(refused):
    found = refused(
        """
        [fill]
        [fills]
        parallel = 0
        settle_s = "20"
        max_attemps = 2
        max_gap_hours = nan
        sweep_s = inf
        register_gaps = 1
        [mqtt]
        node = "Küche 1"
        version = 5
        cert_file = "x.pem"
        keepalive_s = 1.5
        [recordings]
        name_pattern = "%H%M"
        [replay]
        timezone = "Mars/Base"
        transport = "carrier pigeon"
        [log]
        level = "loud"
        """
    )
    assert "did you mean fills?" in found["fill"]
    assert found["fills.parallel"] == "fills.parallel = 0: must be from 1 to 64"
    assert "number" in found["fills.settle_s"]
    assert "did you mean max_attempts?" in found["fills.max_attemps"]
    assert "0.01 to 87600" in found["fills.max_gap_hours"]
    assert "fills.sweep_s" in found
    assert "true or false" in found["fills.register_gaps"]
    assert "kuche-1" in found["mqtt.node"]
    assert '"5", "3.1.1"' in found["mqtt.version"]
    assert "mqtt.cert_file" in found
    assert "whole number" in found["mqtt.keepalive_s"]
    assert "%Y" in found["recordings.name_pattern"]
    assert "Europe/Berlin" in found["replay.timezone"]
    assert "tcp" in found["replay.transport"]
    assert '"debug"' in found["log.level"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[fills\nparallel = 1\n", "line 1, column 7"),
        ("[fills]\nparallel = = 2\n", "line 2, column 12"),
        ("[fills]\nparallel =", "line 2, column 11"),
        ("a = 1\na = 2\n", "line 2, column 6"),
        (b"[fills]\n# caf\xe9\nparallel = 2\n", "line 2, column 6"),
    ],
)
def test_broken_files_are_told_by_line_and_column(refused, text, where):
    assert list(refused(text)) == [where]


def test_hostile_files_are_refused_not_crashed_on(refused):
    assert refused("a = " + "[" * 20_000)
    assert refused("a = " + "9" * 6000)
    assert refused(b"\x00")
    assert refused(b"#" * (4 * 1024 * 1024 + 1))


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["database", "fills", "mqtt", "camera", "cameras", "replay", "log", "secret_key", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["id", "host", "presence", "topic", "names", "password", "path", "a", "address", "online"]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=8,
        ),
        max_size=4,
    )
)
def test_nothing_but_a_config_error_whatever_a_document_holds(document):
    builder = _Builder({}, Path("/nowhere"))
    built = builder.build(document, "x")
    checking.check(built, builder.wrong)


def test_secrets_are_never_shown(refused, read, tmp_path):
    secret = "hunter2-S3CR3T"
    found = refused(
        f"""
        secret_key = "{secret}"
        [mqtt]
        pasword = "{secret}"
        password = ["{secret}"]
        host = "mqtt://bob:{secret}@bro ker"
        [[camera]]
        id = "a"
        replay_url_template = "file://u:{secret}@host/{{start}}"
        password = 7
        [[camera]]
        id = "rtsp://u:{secret}@x"
        """
    )
    assert secret not in "".join(found.values())
    assert {"secret_key", "mqtt.pasword", "mqtt.password", "mqtt.host", "camera[1].replay_url_template"} <= set(found)
    (tmp_path / "binary").write_bytes(b"\xff" + secret.encode())
    (tmp_path / "lines").write_text(f"{secret}\nmore\n")
    for name in ("binary", "lines"):
        assert secret not in str(refused(f"[mqtt]\npassword_file = '{name}'"))
    loaded = read(
        f"secret_key='{KEY}'\n[mqtt]\nhost='mqtts://bob:{secret}@h'\n{CAMERA}password='{secret}'\n"
        f"replay_url_template='rtsp://u:{secret}@h/{{start}}'"
    )
    assert secret not in repr(loaded)
    assert KEY not in repr(loaded)


def test_secrets_from_files(read, refused, tmp_path):
    (tmp_path / "pw").write_text("geheim\r\n")
    (tmp_path / "url").write_text("rtsp://h/{start}\n")
    (tmp_path / "empty").write_text("\n")
    loaded = read(f"{CAMERA}password_file = 'pw'\nreplay_url_template_file = 'url'")
    assert loaded.cameras[0].password == Secret("geheim")
    assert loaded.cameras[0].replay_url_template == Secret("rtsp://h/{start}")
    assert "cannot be read" in refused("secret_key_file = 'nope'")["secret_key_file"]
    assert "one line" in refused("[mqtt]\npassword_file = 'empty'")["mqtt.password_file"]
    both = refused("[mqtt]\npassword = 'x'\npassword_file = 'pw'")
    assert "together with mqtt.password" in both["mqtt.password_file"]


def test_secrets_from_systemd_credentials(read, refused, tmp_path):
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "mqtt").write_text("pw")
    text = "[mqtt]\nusername='u'\npassword_file = 'credential:mqtt'"
    assert read(text, CREDENTIALS_DIRECTORY=str(folder)).mqtt.password == Secret("pw")
    assert "systemd" in refused(text)["mqtt.password_file"]
    assert (
        "systemd"
        in refused("[mqtt]\npassword_file = 'credential:../mqtt'", CREDENTIALS_DIRECTORY=str(folder))[
            "mqtt.password_file"
        ]
    )


@pytest.mark.parametrize(
    ("host", "rest", "expected"),
    [
        ("broker", "", ("broker", 1883, "", None, False)),
        ("mqtt://broker", "", ("broker", 1883, "", None, False)),
        ("mqtt://bob:p%40ss@broker:1999", "", ("broker", 1999, "bob", "p@ss", False)),
        ("mqtt://bob:p@ss/x@broker/", "", ("broker", 1883, "bob", "p@ss/x", False)),
        ("MQTTS://broker", "", ("broker", 8883, "", None, True)),
        ("mqtts://[2001:db8::1]:8884", "", ("2001:db8::1", 8884, "", None, True)),
        ("broker", "tls = true", ("broker", 8883, "", None, True)),
        ("broker", "tls = true\nport = 1883", ("broker", 1883, "", None, True)),
    ],
)
def test_the_broker_as_a_url(read, host, rest, expected):
    mqtt = read(f"[mqtt]\nhost = '{host}'\n{rest}").mqtt
    password = mqtt.password.reveal() if mqtt.password else None
    assert (mqtt.host, mqtt.port, mqtt.username, password, mqtt.tls) == expected


def test_a_broker_url_that_contradicts_other_keys(refused):
    found = refused("[mqtt]\nhost = 'mqtts://bob@h:8883'\nport = 1883\ntls = false\nusername = 'eve'")
    assert set(found) == {"mqtt.port", "mqtt.tls", "mqtt.username"}
    assert "mqtt.host" in refused("[mqtt]\nhost = 'http://h'")
    assert "65535" in refused("[mqtt]\nhost = 'mqtt://h:99999'")["mqtt.host"]


def test_impossible_combinations(refused):
    tls = refused("[mqtt]\nhost='h'\ntls=true\nport=1\ncert_file='c.pem'\nca_file='ca.pem'")
    assert "there is no such file" in tls["mqtt.ca_file"]
    assert "mqtt.cert_file" in tls
    assert "needs mqtt.tls" in refused("[mqtt]\nhost='h'\ntls_insecure=true")["mqtt.tls_insecure"]
    assert "3.1.1" in refused("[mqtt]\nhost='h'\nversion='3.1.1'\npassword='x'")["mqtt.password"]
    assert "database.mode" in refused(f"[database]\nmode='heldar'\n{CAMERA}")
    assert "database.mode" in refused("[database]\nmode='standalone'")
    assert "mqtt.host" in refused("[[mqtt.presence]]\ntopic='a/{camera}'")
    assert "fills.sweep_s" in refused("[fills]\nsweep_s=0\n[watch]\ndatabase=false\nrecordings=false")


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ("topic='a/b'", "topic"),
        ("topic='{camera}/{camera}'", "topic"),
        ("topic='a/#/{camera}'", "topic"),
        ("topic='a+/{camera}'", "topic"),
        ("topic='{camera}/{role}'", "topic"),
        ("topic='$share/g/{camera}'", "topic"),
        ("name='x'", "topic"),
        ("topic='{camera}'\nonline=[]", "online"),
        ("topic='{camera}'\nonline='on'", "online"),
        ("topic='{camera}'\nonline=[true]", "online"),
        ("topic='{camera}'\noffline=['online']", "offline"),
        ("topic='{camera}'\njson='a..b'", "json"),
        ("topic='{camera}'\nretained='edge'", "retained"),
        ("topic='{camera}'\nnames={a=1}", "names"),
        ("topic='{camera}'\nnames={a='../b'}", "names"),
        ("topic='{camera}'\ntopics='x'", "topics"),
    ],
)
def test_presence_rules_that_cannot_work(refused, rule, key):
    assert list(refused(f"[mqtt]\nhost='h'\n[[mqtt.presence]]\n{rule}")) == [f"mqtt.presence[1].{key}"]


def test_presence_rules_that_work(read):
    rules = read(
        "[mqtt]\nhost='h'\n[[mqtt.presence]]\ntopic='+/{camera}/x/#'\n[[mqtt.presence]]\ntopic='b/{camera}_up/s'\n"
        "names={ 'Plug yard' = 'cam' }\n"
    ).mqtt.presence
    assert rules[1].names == {"Plug yard": "cam"}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (CAMERA + CAMERA, "camera[2].id"),
        ("[[camera]]\naddress='h'", "camera[1].id"),
        ("[[camera]]\nid='a'", "camera[1].address"),
        ("[[camera]]\nid='a'\naddress='h:554'", "camera[1].address"),
        ("[[camera]]\nid='a'\naddress='rtsp://h'", "camera[1].address"),
        ("[[camera]]\nid='a/b'\naddress='h'", "camera[1].id"),
        ("[[camera]]\nid='a'\nreplay_url_template='rtsp://h/{strat}'", "camera[1].replay_url_template"),
        (CAMERA + "rtsp_port = 70000", "camera[1].rtsp_port"),
        (CAMERA + "lead_s = -1", "camera[1].lead_s"),
        (CAMERA + "timezone = 'Europe'", "camera[1].timezone"),
        (CAMERA + "channel = '1/2'", "camera[1].channel"),
        (CAMERA + "leed_s = 1", "camera[1].leed_s"),
        (CAMERA + "[cameras.b]\nlead_s = 1", "cameras.b"),
        ("[cameras.'a/b']\nlead_s = 1", "cameras.a/b"),
        ("[cameras.a]\nlead = 1", "cameras.a.lead"),
        ("cameras = 3", "cameras"),
        ("camera = {id = 'a'}", "camera"),
    ],
)
def test_cameras_that_cannot_work(refused, text, key):
    assert list(refused(text)) == [key]


def test_options_are_merged_from_the_general_to_the_particular(read):
    loaded = read(
        "[replay]\nlead_s = 1\ntrail_s = 1\ntimezone = 'local'\n[cameras.a]\ntrail_s = 3\n[cameras.b]\nlead_s = 9\n"
        + CAMERA
        + "trail_s = 2\nchannel = '7'\n[[camera]]\nid='b'\naddress='h'"
    )
    first = loaded.cameras[0].options
    assert (first.lead_s, first.trail_s, first.timezone, first.channel) == (1, 3, "local", "7")
    assert loaded.overrides["a"] == first
    assert loaded.cameras[1].options.lead_s == loaded.overrides["b"].lead_s == 9


@given(st.text(max_size=80))
def test_slugs_are_node_ids(text):
    assert 1 <= len(slug(text)) <= 64
    assert set(slug(text)) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")


@given(st.text(max_size=300))
def test_camera_ids_that_pass_are_one_folder_and_one_topic_level(camera_id):
    if not id_fix(camera_id):
        assert Path("/r", camera_id).parent == Path("/r")
        assert Path("/r", camera_id).resolve().parent == Path("/r")
        assert not set(camera_id) & set("/+#\0")
        assert len(camera_id.encode()) <= 255


def test_importing_it_is_cheap():
    """Only the standard library and our own pure modules: every import is resident memory of the daemon."""
    code = "import sys; import anr_watch.config; print(*sorted(m for m in sys.modules if '.' not in m))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"av", "rich", "cryptography", "pydantic", "orjson", "aiosqlite", "asyncio", "watchfiles"} & set(found)
