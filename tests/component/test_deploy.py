"""What stands in deploy/ works as far as a machine without Docker and without systemd as its first process allows."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from broker import free_port

from anr_watch.config import load
from anr_watch.mqtt.homeassistant import HomeAssistant
from anr_watch.mqtt.topics import Topics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
HADOLINT = Path(sys.executable).with_name("hadolint")


def run(*argv: object, **environment: str) -> subprocess.CompletedProcess:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return subprocess.run(
        [str(word) for word in argv],
        env={"PATH": path, **environment},
        text=True,
        capture_output=True,
        timeout=50,
        check=False,
    )


def test_installing_and_taking_away(tmp_path):
    """A pip that only makes the program stands for the real one: packages are installed by everything else here."""
    folders = {"PREFIX": tmp_path / "opt", "CONFIG": tmp_path / "etc", "UNITS": tmp_path / "units"}
    where = {name: str(path) for name, path in folders.items()} | {"RUN_AS": "nobody-here"}
    (tmp_path / "opt" / "bin").mkdir(parents=True)
    (tmp_path / "opt" / "bin" / "python").symlink_to(sys.executable)
    for name, body in (("pip", "exit 0"), ("anr-watch", "echo anr-watch 0")):
        (tmp_path / "opt" / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "opt" / "bin" / name).chmod(0o755)

    done = run("sh", DEPLOY / "install.sh", **where)

    assert done.returncode == 0, done.stderr
    assert "there is no user nobody-here" in done.stdout
    assert load(tmp_path / "etc" / "config.toml", {}) is not None
    assert (tmp_path / "etc" / "config.toml").stat().st_mode & 0o007 == 0, "passwords may stand in it"
    unit = (tmp_path / "units" / "anr-watch.service").read_text()
    assert f"ExecStart={tmp_path}/opt/bin/anr-watch --config {tmp_path}/etc/config.toml run" in unit
    assert "User=nobody-here" in unit

    (tmp_path / "etc" / "config.toml").write_text("# mine\n")
    assert run("sh", DEPLOY / "install.sh", **where).returncode == 0
    assert (tmp_path / "etc" / "config.toml").read_text() == "# mine\n", "an upgrade leaves it alone"

    assert run("sh", DEPLOY / "install.sh", "uninstall", **where).returncode == 0
    assert not (tmp_path / "opt").exists()
    assert not list((tmp_path / "units").iterdir())
    assert (tmp_path / "etc" / "config.toml").exists()
    assert run("sh", DEPLOY / "install.sh", "uninstall", "purge", **where).returncode == 0
    assert not (tmp_path / "etc").exists()
    assert run("sh", DEPLOY / "install.sh", "instal", **where).returncode == 1


def test_the_container_is_built_as_written():
    """Without Docker: what is copied is there, nobody is root, the health check is a command that we have."""
    lines = (DEPLOY / "docker" / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    for word in words:
        if word[0] == "COPY" and not word[1].startswith("--from"):
            assert all((ROOT / name).exists() for name in word[1:-1])
    assert ["USER", "10001"] in words
    assert {word[0] for word in words} <= {
        *("FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD"),
    }
    assert json.loads(" ".join(next(w for w in words if w[0] == "ENTRYPOINT")[1:]))[0] == "anr-watch"
    assert "COPY --from=build /opt/anr-watch /opt/anr-watch" in lines


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint has programs for x86-64 and arm64 only")
def test_the_linter_of_dockerfiles_has_nothing_to_say():
    done = run(HADOLINT, "--no-color", DEPLOY / "docker" / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_compose_reads_the_try_out():
    check = Path(sys.executable).with_name("check-jsonschema")
    argv = ("--builtin-schema", "vendor.compose-spec")
    done = run(check, *argv, DEPLOY / "docker" / "compose.yaml")
    assert done.returncode == 0, done.stdout


def test_the_try_out_is_configured():
    settings = load(DEPLOY / "docker" / "try-out.toml", {})
    compose = (DEPLOY / "docker" / "compose.yaml").read_text()
    services = re.findall(r"^  ([\w-]+):$", compose, re.MULTILINE)
    assert settings.mqtt.host in services
    assert settings.cameras[0].address in services
    assert f'"--rtsp-port", "{settings.cameras[0].rtsp_port}"' in compose


def test_the_bridge_is_understood_by_a_real_mosquitto(tmp_path):
    port = free_port()
    text = (DEPLOY / "mosquitto" / "bridge.conf").read_text()
    text = re.sub(r"^(address) .*", rf"\1 127.0.0.1:{port}", text, flags=re.MULTILINE)
    text = re.sub(r"^bridge_cafile .*\n", "", text, flags=re.MULTILINE)
    (tmp_path / "site.conf").write_text(f"listener {free_port()} 127.0.0.1\nallow_anonymous true\n{text}")
    program = shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin") or "mosquitto"
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen([program, "-v", "-c", tmp_path / "site.conf"], stderr=file)
        try:
            deadline = time.monotonic() + 20
            while "Connecting bridge" not in log.read_text() and process.poll() is None:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        finally:
            process.terminate()
            process.wait()
    assert "Connecting bridge" in log.read_text(), log.read_text()


@pytest.mark.parametrize("mode", ["entities", "device"])
def test_the_access_list_lets_discovery_through_and_the_dashboard_names_its_entities(mode):
    rules = re.findall(
        r"^topic write (\S+)$", (DEPLOY / "mosquitto" / "acl").read_text().split("user presence")[0], re.MULTILINE
    )
    allowed = [re.compile(rule.replace("+", "[^/]+").replace("#", ".*")) for rule in rules]
    home = HomeAssistant(Topics("anr-watch", "box"), "1", mode)
    assert all(any(rule.fullmatch(message.topic) for rule in allowed) for message in home.node())
    names = {json.loads(m.payload)["name"] for m in HomeAssistant(Topics("anr-watch", "box"), "1", "entities").node()}
    dashboard = (DEPLOY / "homeassistant" / "dashboard.yaml").read_text()
    for name in names:
        assert f"anr_watch_box_{name.lower().replace(' ', '_')}" in dashboard
