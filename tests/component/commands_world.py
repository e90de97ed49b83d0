"""What tests of commands share: a Heldar-like installation in a folder, and the program called in this process."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fixtures_database import Kernel, create_kernel_database

from anr_watch import cli

PASSWORD = "s3cret/pass"


def ago(seconds: float) -> datetime:
    """Return the whole second that is about `seconds` ago."""
    return datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=seconds)


@dataclass
class Said:
    """What a command answered."""

    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON lines of stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


class World:
    """An installation: config file, database of the kernel, recordings folder."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._capsys = root, capsys
        self.database, self.recordings = root / "heldar.db", root / "recordings"
        self.config = root / "config.toml"
        self.recordings.mkdir()
        create_kernel_database(self.database)
        self.configure()

    def configure(self, more: str = "") -> None:
        """Write the configuration; `more` is TOML text at its end."""
        self.config.write_text(
            f'[database]\npath = "{self.database}"\nbusy_timeout_s = 1.0\n'
            f'[recordings]\npath = "{self.recordings}"\nmin_free_mb = 1\n{more}\n'
        )

    def standalone(self, port: int) -> None:
        """Make it an installation without Heldar: no database yet, one camera in the configuration."""
        for file in self.root.glob("heldar.db*"):
            file.unlink()
        self.configure(
            f'[[camera]]\nid = "cam"\naddress = "127.0.0.1"\nrtsp_port = {port}\nusername = "admin"\n'
            f'password = "{PASSWORD}"\nsegment_s = 10\n'
        )

    @contextmanager
    def kernel(self):
        """Write to the database as the kernel does."""
        with Kernel(self.database) as kernel:
            yield kernel

    def run(self, *argv: str) -> Said:
        """Call the program and return what it said."""
        self._capsys.readouterr()
        status = cli.main(["--config", str(self.config), *argv])
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        assert PASSWORD not in out + err
        return Said(status, out, err)


@contextmanager
def camera(*options: str):
    """Run a simulated camera as a process; gives its RTSP port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "anr_watch", "camera", "--json", "--control", "--size", "160x96", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"CAMERA_PASSWORD": PASSWORD},
        text=True,
    )
    try:
        yield json.loads(process.stdout.readline())["rtsp_port"]
    finally:
        process.communicate()


@contextmanager
def plain_user():
    """Act without root's rights for a while, so that permissions count; nothing to do if we have none."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
