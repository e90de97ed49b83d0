"""What the parts cost alone on this machine: inotify, an MQTT message, a process, a TCP connection."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
from collections.abc import Awaitable, Callable

import aiomqtt

from tests.bench.figures import Figure, Spec
from tests.bench.running import Bench
from tests.bench.stage.stage import Stage

ORDER = 1
SAMPLES = 200
FIGURES = (
    Spec("floor_inotify_ms", "ms", "a write in another process -> raw inotify in an event loop"),
    Spec("floor_mqtt_ms", "ms", "QoS 1 message published -> received over mosquitto on loopback"),
    Spec("floor_spawn_ms", "ms", "/bin/true started -> its end known"),
    Spec("floor_connect_ms", "ms", "TCP connect on loopback -> accepted by the simulated camera"),
)
_IN_MODIFY = 2


async def measure(bench: Bench, wanted: frozenset[str]) -> list[Figure]:
    """Measure all of them on one stage without the program."""
    ways = {
        "floor_inotify_ms": inotify,
        "floor_mqtt_ms": mqtt,
        "floor_spawn_ms": spawn,
        "floor_connect_ms": connect,
    }
    with bench.folder("floor") as folder:
        async with Stage.opened(folder, count=1) as stage:
            return [Figure(spec, await ways[spec.name](stage, bench)) for spec in FIGURES if spec.name in wanted]


async def _repeated(once: Callable[[], Awaitable[float]]) -> list[float]:
    """Return milliseconds of `once`, which returns seconds, with pauses of no fixed length between."""
    pauses = random.Random(1)
    samples = []
    for _ in range(SAMPLES):
        await asyncio.sleep(pauses.uniform(0.002, 0.01))
        samples.append(await once() * 1000)
    return samples


async def inotify(stage: Stage, bench: Bench) -> list[float]:
    """Watch one file with nothing in between."""
    path = stage.folder / "watched"
    path.touch()
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert handle >= 0
    assert libc.inotify_add_watch(handle, os.fsencode(path), _IN_MODIFY) >= 0
    foreigner = await stage.foreigner()
    loop = asyncio.get_running_loop()
    noticed: asyncio.Future[float] = loop.create_future()

    def readable() -> None:
        at_s = bench.now_s()
        os.read(handle, 4096)
        if not noticed.done():
            noticed.set_result(at_s)

    async def once() -> float:
        nonlocal noticed
        noticed = loop.create_future()
        written = await foreigner.ask(cmd="touch", path=str(path))
        return await asyncio.wait_for(noticed, 10) - written["at"]

    loop.add_reader(handle, readable)
    try:
        return await _repeated(once)
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def mqtt(stage: Stage, bench: Bench) -> list[float]:
    """One client publishes, another one waits."""
    port = stage.broker.port
    async with aiomqtt.Client("127.0.0.1", port) as here, aiomqtt.Client("127.0.0.1", port) as there:
        await there.subscribe("floor", qos=1)
        messages = aiter(there.messages)

        async def once() -> float:
            at_s = bench.now_s()
            publishing = asyncio.ensure_future(here.publish("floor", b"x", qos=1))
            await anext(messages)
            took_s = bench.now_s() - at_s
            await publishing
            return took_s

        return await _repeated(once)


async def spawn(_: Stage, bench: Bench) -> list[float]:
    """Start a process that does nothing and wait for its end."""

    async def once() -> float:
        at_s = bench.now_s()
        process = await asyncio.create_subprocess_exec("/bin/true", start_new_session=True)
        await process.wait()
        return bench.now_s() - at_s

    return await _repeated(once)


async def connect(stage: Stage, bench: Bench) -> list[float]:
    """Connect as the replay worker does; the moment is the camera's."""

    async def once() -> float:
        since = stage.connects(0)
        at_s = bench.now_s()
        _, writer = await asyncio.open_connection("127.0.0.1", stage.ports[0])
        accepted_s = await stage.connected(0, since=since)
        writer.close()
        return accepted_s - at_s

    return await _repeated(once)
