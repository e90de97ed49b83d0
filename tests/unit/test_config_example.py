"""config.toml in the root is the documentation of every key: it may not say anything the code does not do."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from anr_watch.config import CameraSettings, PresenceRule, Settings, load
from anr_watch.config.loading import _SECTIONS
from anr_watch.model import ReplayOptions

FILE = Path(__file__).parents[2] / "config.toml"
TEXT = FILE.read_text()
CODE = re.compile(r"#(?=[\[a-z_])")
# What the examples need around them: a broker, and files where they name some.
AROUND = {"ANR_WATCH_MQTT__HOST": "broker.lan", "ANR_WATCH_MQTT__TLS": "true"}


def examples() -> list[str]:
    """The commented blocks, uncommented; a key of a table is put under that table's header."""
    found, block, header = [], [], ""
    for line in [*TEXT.splitlines(), ""]:
        if line.startswith("["):
            header = line
        if CODE.match(line):
            block.append(line[1:])
        elif block:
            found.append("\n".join(block if block[0].startswith("[") or not header else [header, *block]))
            block = []
    return found


def keys(kind) -> set[str]:
    """Every key a table can have, with the *_file twin of a secret."""
    names = {item.name for item in dataclasses.fields(kind)} - {"options", "presence", "number"}
    if kind is CameraSettings:
        names |= {"password_file", "replay_url_template_file"}
    return names


def test_loading_it_is_the_same_as_having_none(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    without = load(None, {})
    (tmp_path / "config.toml").write_text(TEXT)
    loaded = load(Path("config.toml"), {})
    assert dataclasses.replace(loaded, source=without.source) == without
    assert loaded.mqtt.node  # derived, the same on both sides
    assert dataclasses.replace(loaded, source="defaults", mqtt=Settings().mqtt) == Settings()


def test_every_key_stands_there_with_exactly_its_default():
    document = tomllib.loads(TEXT)
    assert set(document) == set(_SECTIONS)
    commented = set(re.findall(r"^#([a-z_]+) =", TEXT, re.MULTILINE))
    for section, kind in _SECTIONS.items():
        expected, optional = {}, set()
        for item in dataclasses.fields(kind):
            if item.default is None:
                optional.add(item.name)
            elif item.name != "presence":
                expected[item.name] = str(item.default) if isinstance(item.default, Path) else item.default
        assert document[section] == expected
        assert {key: type(value) for key, value in document[section].items()} == {
            key: type(value) for key, value in expected.items()
        }
        assert optional <= commented, section


def test_every_active_key_is_explained_on_its_line():
    for line in TEXT.splitlines():
        if re.match(r"[a-z_]+ = ", line):
            assert re.search(r"\s{2,}# \S", line), line
        assert len(line) <= 160


@pytest.mark.parametrize(
    "example", examples(), ids=lambda text: text.splitlines()[0] + " " + text.splitlines()[-1][:30]
)
def test_every_commented_example_loads(example, tmp_path):
    for name in re.findall(r'_file = "([^"]+)"', example):
        content = "rtsp://cam/{start}" if name.endswith("-url") else "A" * 43 + "="
        (tmp_path / name).write_text(content + "\n")
    (tmp_path / "config.toml").write_text(example)
    settings = load(tmp_path / "config.toml", AROUND)
    changed = dataclasses.replace(settings, source="", mqtt=dataclasses.replace(settings.mqtt, node=""))
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    plain = load(empty, AROUND)
    assert changed != dataclasses.replace(plain, source="", mqtt=dataclasses.replace(plain.mqtt, node=""))


def test_the_examples_of_repeated_tables_show_every_key():
    blocks = [tomllib.loads(text) for text in examples()]
    cameras = [camera for block in blocks for camera in block.get("camera", [])]
    rules = [rule for block in blocks for rule in block.get("mqtt", {}).get("presence", [])]
    options = {item.name for item in dataclasses.fields(ReplayOptions)}
    assert {key for camera in cameras for key in camera} - options == keys(CameraSettings)
    assert {key for rule in rules for key in rule} == keys(PresenceRule)
    overrides = [table for block in blocks for table in block.get("cameras", {}).values()]
    assert overrides
    assert {key for table in overrides for key in table} <= options


def test_the_example_of_every_key_names_the_defaults():
    """Commented keys of the full examples whose value is said to be the default are the default."""
    rules = [r for text in examples() for r in tomllib.loads(text).get("mqtt", {}).get("presence", [])]
    rule = rules[-1]
    defaults = {item.name: item.default for item in dataclasses.fields(PresenceRule)}
    assert set(rule) == keys(PresenceRule) - {"preset", "prefix"}, "the last example shows every key"
    assert tuple(rule["online"]) == defaults["online"]
    assert tuple(rule["offline"]) == defaults["offline"]
    assert rule["retained"] == defaults["retained"]
    camera = next(c for text in examples() for c in tomllib.loads(text).get("camera", []))
    defaults = {item.name: item.default for item in dataclasses.fields(CameraSettings)}
    for key in ("rtsp_port", "record_stream", "record_audio", "segment_s", "enabled"):
        assert camera[key] == defaults[key]
