"""A real Home Assistant on 127.0.0.1 for one test, connected to a broker, and its REST API.

async with House(tmp_path, broker.port) as house:
    states = await house.states()                    # by entity id
    await house.call("button", "press", "button.gate_footage_fill_now")
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.broker import free_port

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OLD, NEW = "homeassistant-venv", "homeassistant-new-venv"  # folders below build/
DEADLINE_S = 60.0
_CONNECTED = re.compile(rb"Connected to MQTT server|MQTT client initialized")  # 2024.3; 2025.4
_OF_OLD = (
    r"Integration device is not supported",  # until 2024.11: that a device message is taken back, too
    r"running Python version",  # which is deprecated, not what we say
    r"sensor\] Invalid state message '.*\"last\":null",  # a timestamp of None is no news to later ones
)
_SECRET = "b" * 64
_CONFIGURATION = """\
homeassistant: {{name: test, time_zone: UTC, unit_system: metric, latitude: 0, longitude: 0, elevation: 0, currency: EUR, country: DE}}
http: {{server_host: 127.0.0.1, server_port: {port}}}
api:
logger: {{default: info}}
"""


def python(which: str = OLD) -> Path:
    """Return the Python of a Home Assistant's environment."""
    return ROOT / "build" / which / "bin" / "python"


def is_installed(which: str) -> bool:
    """Say whether that Home Assistant was installed to the end (the Makefile notes it)."""
    return (ROOT / "build" / which / ".installed").exists()


def _part(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _token() -> str:
    """Return a long-lived access token, signed as Home Assistant signs its own."""
    body = {"iss": "token", "iat": int(time.time()) - 60, "exp": int(time.time()) + 3600}
    text = _part(b'{"alg":"HS256","typ":"JWT"}') + b"." + _part(json.dumps(body).encode())
    return (text + b"." + _part(hmac.new(_SECRET.encode(), text, hashlib.sha256).digest())).decode()


class House:
    """See the module."""

    def __init__(self, folder: Path, broker_port: int, which: str = OLD) -> None:
        self.folder, self.broker_port, self.port = folder / "house", broker_port, free_port()
        self._which = which
        self._log = folder / "house.log"

    async def __aenter__(self) -> Self:
        (self.folder / ".storage").mkdir(parents=True)
        (self.folder / "configuration.yaml").write_text(_CONFIGURATION.format(port=self.port))
        self._prepare()
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                python(self._which),
                str(HERE / "start.py"),
                *("--config", str(self.folder), "--skip-pip"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
            )
        try:
            await self.until(lambda: _CONNECTED.search(self._log.read_bytes()), self._log.read_text)
            await self.until(self._is_running, self._log.read_text)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 30)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    @property
    def complaints(self) -> list[str]:
        """What its log holds against us, also what will be wrong one day; without what only the old version says."""
        lines = self._log.read_text().splitlines()
        found = [line for line in lines if re.search(r" (WARNING|ERROR) .*(mqtt|template)|deprecated", line)]
        known = _OF_OLD if self._which == OLD else ()
        return [line for line in found if not any(re.search(text, line) for text in known)]

    async def until(self, done: Callable[[], object], what: object) -> None:
        """Wait until `done`, which may be a coroutine function, is true."""
        end = time.monotonic() + DEADLINE_S
        while True:
            value = done()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return
            assert time.monotonic() < end, what() if callable(what) else what
            await asyncio.sleep(0.2)

    async def _is_running(self) -> bool:
        try:
            return (await self._ask("config"))["state"] == "RUNNING"
        except OSError:
            assert self._process.returncode is None, self._log.read_text()
            return False

    async def states(self) -> dict[str, dict]:
        """Return all entities' states by id."""
        return {state["entity_id"]: state for state in await self._ask("states")}

    async def shows(self, entity: str, state: str) -> None:
        """Wait until an entity has a state."""
        seen: dict[str, dict] = {}

        async def is_so() -> bool:
            seen.clear()
            seen.update(await self.states())
            return seen.get(entity, {}).get("state") == state

        await self.until(is_so, lambda: f"{entity} is not {state}: {seen.get(entity, sorted(seen))}")

    async def call(self, domain: str, service: str, entity: str) -> None:
        """Do what a person does with a button or a switch."""
        await self._ask(f"services/{domain}/{service}", {"entity_id": entity})

    async def _ask(self, path: str, body: object = None) -> object:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{path}",
            headers={"Authorization": f"Bearer {_token()}", "Content-Type": "application/json"},
            data=None if body is None else json.dumps(body).encode(),
        )

        def asked() -> object:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)

        return await asyncio.to_thread(asked)

    def _prepare(self) -> None:
        """Put a person, her token and the broker where Home Assistant keeps them."""
        user = {"id": "user", "group_ids": ["system-admin"], "is_owner": True, "is_active": True, "name": "test"}
        token = {
            "id": "token",
            "user_id": "user",
            "client_id": None,
            "client_name": "test",
            "client_icon": None,
            "token_type": "long_lived_access_token",
            "created_at": "2024-03-01T00:00:00.000000+00:00",
            "access_token_expiration": 315_360_000.0,
            "token": "a" * 64,
            "jwt_key": _SECRET,
            "last_used_at": None,
            "last_used_ip": None,
            "credential_id": None,
            "version": "2024.3.3",
        }
        groups = [{"id": f"system-{name}", "name": name} for name in ("admin", "users", "read-only")]
        self._store(
            "auth",
            {
                "users": [{**user, "system_generated": False, "local_only": False}],
                "groups": groups,
                "credentials": [],
                "refresh_tokens": [token],
            },
        )
        entry = {
            "entry_id": "e" * 32,
            "version": 1,
            "minor_version": 1,
            "domain": "mqtt",
            "title": "broker",
            "data": {
                "broker": "127.0.0.1",
                "port": self.broker_port,
                "discovery": True,
                "discovery_prefix": "homeassistant",
            },
            "options": {},
            "pref_disable_new_entities": False,
            "pref_disable_polling": False,
            "source": "user",
            "unique_id": None,
            "disabled_by": None,
        }
        self._store("core.config_entries", {"entries": [entry]})

    def _store(self, key: str, data: object) -> None:
        whole = {"version": 1, "minor_version": 1, "key": key, "data": data}
        (self.folder / ".storage" / key).write_text(json.dumps(whole))
