"""The service's sandbox: how tight systemd finds it, what it forbids, and that the daemon does its work inside."""

import asyncio
import ctypes.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anr_watch.camera.core import CameraSpec
from anr_watch.camera.film import FilmSpec
from tests import sandbox, world
from tests.world import World

UNIT = Path(__file__).parents[2] / "deploy/anr-watch.service"
SCRIPT = Path(sandbox.__file__)
MOST = 1.6  # systemd's exposure level, 0 to 10; below 2 it says "OK", most services of a distribution have 9

needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
needs_seccomp = pytest.mark.skipif(not ctypes.util.find_library("seccomp"), reason="there is no libseccomp")
INSIDE = """
import ctypes, json, mmap, os, socket
def tried(what):
    try:
        what()
    except OSError as error:
        return error.strerror
    return "done"
print(json.dumps({
    "raw packets": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "netlink": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    "tcp": tried(lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()),
    "code of its own": tried(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
    "another root": tried(lambda: os.chroot("/")),
    "another owner": tried(lambda: os.chown(".", 1, 1)),
    "another user": tried(lambda: os.setuid(1)),
    "trace": ctypes.CDLL(None, use_errno=True).ptrace(0, 0, 0, 0),
    "mount": ctypes.CDLL(None, use_errno=True).mount(b"none", b"/tmp", b"tmpfs", 0, None),
    "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapBnd")],
    "no new privileges": [line.split()[1] for line in open("/proc/self/status") if line.startswith("NoNewPrivs")],
}))
"""


@needs_analyze
def test_systemd_finds_it_tight():
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(UNIT)]
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    if "offline" in said.stderr:  # before systemd 250
        pytest.skip(f"systemd-analyze cannot look at a file: {said.stderr.strip()}")
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", said.stdout)
    assert score, said
    print(f"systemd-analyze security: {score[1]} (0 is best, at most {MOST})")
    assert float(score[1]) <= MOST, said.stdout


def test_what_has_to_stand_in_it():
    settings = {key: values[-1] for key, values in sandbox.unit(UNIT).items()}
    for key, value in {
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
        "StateDirectory": "anr-watch",  # the database of the standalone guide
        "KillMode": "mixed",  # workers get SIGKILL with the daemon, never a signal of their own
    }.items():
        assert settings[key] == value, key
    assert settings["User"] != "root"
    assert all(path.startswith("/var/lib/") for path in settings["ReadWritePaths"].split())


@needs_analyze
@needs_seccomp
def test_inside_it_is_forbidden(tmp_path):
    said = subprocess.run(
        [sys.executable, str(SCRIPT), str(UNIT), sys.executable, "-c", INSIDE],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    found = json.loads(said.stdout)
    assert found.pop("tcp") == "done"
    assert found.pop("raw packets") == found.pop("netlink") == "Address family not supported by protocol"
    assert found.pop("trace") == found.pop("mount") == -1
    assert found.pop("no new privileges") == ["1"]
    if os.geteuid() == 0:
        assert found.pop("capabilities") == ["0000000000000000"]
    found.pop("capabilities", None)
    assert set(found.values()) == {"Operation not permitted"}, found


@needs_analyze
@needs_seccomp
@pytest.mark.timeout(120)
def test_a_fill_works_inside(tmp_path, monkeypatch, tally):
    program = tmp_path / "anr-watch"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {SCRIPT} {UNIT} {world.PROGRAM} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(world, "PROGRAM", program)

    async def main():
        spec = CameraSpec(name="gate", film=FilmSpec(width=160, height=96), audio="pcma")  # sound is coded anew
        async with World(tmp_path / "world", spec, standalone=True, record_audio=True) as site:
            site.record("gate", -60, -54.3)
            site.record("gate", -45.7, -30)
            async with site.daemon(program=program) as daemon:
                await site.settled()
                status, out, err = await site.command("check")
                assert status == 0, (out, err)
                seccomp = Path(f"/proc/{daemon.process.pid}/status").read_text()
                assert re.search(r"^Seccomp:\s+2$", seccomp, re.MULTILINE)
            assert "Traceback" not in daemon.log
            proof = site.prove("gate")
            tally.frames_missing += proof.missing_frames
            assert proof.complete, proof
            assert daemon.process.returncode == 0

    asyncio.run(main())


def test_a_running_systemd_keeps_it_in(tmp_path):
    asked = ["systemctl", "is-system-running"]
    state = "none"
    if shutil.which("systemctl"):
        state = subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()
    if os.geteuid() != 0 or state not in ("running", "degraded"):
        pytest.skip(f"needs root and a running systemd (this one: {state})")
    settings = sandbox.unit(UNIT)
    own = {"Type", "ExecStart", "User", "Group", "Restart", "RestartSec", "WatchdogSec", "ReadWritePaths", "KillMode"}
    options = [f"--property={key}={value}" for key, values in settings.items() if key not in own for value in values]
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    probe = "for place in /etc /usr /root $1; do touch $place/probe 2>/dev/null && echo $place; done"
    command = ["systemd-run", "--pipe", "--wait", "--quiet", *options]
    command += [f"--property=ReadWritePaths={allowed}", f"--property=BindPaths={allowed}"]
    command += ["sh", "-c", probe, "sh", str(allowed)]
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    assert said.stdout.split() == [str(allowed)], said
