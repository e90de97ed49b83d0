"""The processes: what dies with what, what is inherited, and that nonsense from a worker does no harm."""

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import sys
import textwrap
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from replaying import FIRST, FPS, KEY, START, asked, camera, check, job_for, numbers, run, until

from anr_watch.model import Secret
from anr_watch.replay.job import End, Ended, Progress, ReplayJob
from anr_watch.replay.process import Workers
from anr_watch.replay.running import Running
from anr_watch.replay.wire import MAX_LINE_BYTES, event_line
from anr_watch.states import Reason


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


@asynccontextmanager
async def mute_server():
    """A server that takes connections and says nothing."""
    connections = []

    async def serve(reader, writer):
        connections.append(writer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], connections
    finally:
        server.close()
        for writer in connections:
            writer.close()
        await server.wait_closed()


def mute_job(port, staging, **options):
    values = {"url": Secret(f"rtsp://u:pass%20word@127.0.0.1:{port}/x"), "asked": asked(9), "keep": asked(9)}
    return ReplayJob(staging=staging, stall_timeout_s=60, **values, **options)


def test_one_parent_serves_all_and_goes_with_us(tmp_path):
    async def main():
        async with mute_server() as (port, connections), Workers() as workers:
            assert workers.pid is None
            await workers.start()
            parent = workers.pid
            async with (
                workers.replay(mute_job(port, tmp_path)) as one,
                workers.replay(mute_job(port, tmp_path)) as two,
            ):
                await until(lambda: len(connections) == 2)
                pids = [one.pid, two.pid]
                assert all(map(alive, [parent, *pids]))
                assert workers.pid == parent
            assert not any(map(alive, pids))
        await until(lambda: not alive(parent))

    asyncio.run(main())


def test_neither_arguments_nor_environment_hold_a_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("HELDAR_SECRET_KEY", "c2VjcmV0LWtleQ==")

    async def main():
        async with (
            mute_server() as (port, connections),
            Workers() as workers,
            workers.replay(mute_job(port, tmp_path)) as running,
        ):
            await until(lambda: connections)
            for pid in (workers.pid, running.pid):
                shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
                assert b"word" not in shown
                assert b"c2VjcmV0" not in shown
            limits = Path(f"/proc/{running.pid}/limits").read_text()
            assert "Max core file size        0 " in limits
            assert f"Max address space         {1 << 30} " in limits
            open_files = {str(entry.readlink()) for entry in Path(f"/proc/{running.pid}/fd").iterdir()}
            assert len([name for name in open_files if name.startswith("socket:")]) == 1  # the camera
            assert os.getsid(running.pid) == running.pid

    asyncio.run(main())


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_is_told_and_costs_the_open_group_at_most(tmp_path, sent):
    async def main():
        async with camera(replay_speed=8.0) as device, Workers() as workers:
            async with workers.replay(job_for(device, tmp_path, 60, segment_s=60.0)) as running:
                async for event in running:
                    if isinstance(event, Progress) and event.until and event.until > START + timedelta(seconds=6):
                        os.kill(running.pid, sent)
                    last = event
            return last

    ended = asyncio.run(main())
    assert ended.cause is (Reason.INTERRUPTED if sent == signal.SIGKILL else Reason.BAD_MEDIA)
    assert ended.detail == f"worker died: signal {int(sent)}"
    assert ended.until > START + timedelta(seconds=6)
    (part,) = tmp_path.iterdir()
    assert part.name == "0000.part"
    shown = numbers(part)
    assert shown == list(range(KEY, KEY + len(shown)))
    assert KEY + len(shown) >= FIRST + 6 * FPS - 30


def test_a_worker_killed_as_soon_as_it_starts(tmp_path):
    async def main():
        async with (
            mute_server() as (port, _),
            Workers() as workers,
            workers.replay(mute_job(port, tmp_path)) as running,
        ):
            await until(lambda: running.pid)
            os.kill(running.pid, signal.SIGKILL)
            return [event async for event in running]

    events = asyncio.run(main())
    assert [event.cause for event in events] == [Reason.INTERRUPTED]


def test_a_dead_parent_takes_no_running_replay_with_it_and_is_replaced(tmp_path):
    async def main():
        async with camera(replay_speed=8.0) as device, Workers() as workers:
            for folder in ("a", "b"):
                (tmp_path / folder).mkdir()
            async with workers.replay(job_for(device, tmp_path / "a", 16)) as running:
                first_parent = workers.pid
                events = [await anext(running)]
                os.kill(first_parent, signal.SIGKILL)
                events += [event async for event in running]
            assert events[-1].cause is End.WINDOW
            await until(lambda: device.active_replays == 0)
            got = await run(workers, job_for(device, tmp_path / "b"))
            assert got.ended.cause is End.WINDOW
            assert workers.pid != first_parent
            return got

    got = asyncio.run(main())
    assert check(tmp_path / "b", got) == list(range(KEY, FIRST + 9 * FPS))
    shown = [number for path in sorted((tmp_path / "a").iterdir()) for number in numbers(path)]
    assert shown == list(range(KEY, FIRST + 16 * FPS))


DAEMON = textwrap.dedent("""
    import asyncio, sys
    from datetime import UTC, datetime, timedelta
    from pathlib import Path
    from anr_watch.model import Secret, Window
    from anr_watch.replay.job import ReplayJob
    from anr_watch.replay.process import Workers

    async def main():
        start = datetime(2025, 1, 1, tzinfo=UTC)
        window = Window(start, start + timedelta(seconds=60))
        url = Secret(f"rtsp://127.0.0.1:{sys.argv[1]}/x")
        job = ReplayJob(url=url, asked=window, keep=window, staging=Path(sys.argv[2]), stall_timeout_s=60)
        async with Workers() as workers, workers.replay(job) as running:
            while running.pid is None:
                await asyncio.sleep(0.005)
            assert "av" not in sys.modules
            print(workers.pid, running.pid, flush=True)
            async for event in running:
                pass

    asyncio.run(main())
""")


def test_a_parent_that_is_killed_while_it_loads_is_started_again(tmp_path):
    """For want of memory the system kills a process that just began; the daemon must not end for that."""

    async def main():
        async with Workers() as workers:
            starting = asyncio.ensure_future(workers.start())
            await until(lambda: workers.pid)
            killed = workers.pid
            os.kill(killed, signal.SIGKILL)
            await asyncio.wait_for(starting, 15)
            assert workers.pid not in (None, killed)
            assert alive(workers.pid)

    asyncio.run(main())


def test_everything_dies_with_a_killed_daemon(tmp_path):
    async def main():
        async with mute_server() as (port, connections):
            daemon = await asyncio.create_subprocess_exec(
                sys.executable, "-c", DAEMON, str(port), str(tmp_path), stdout=asyncio.subprocess.PIPE
            )
            try:
                pids = [int(word) for word in (await daemon.stdout.readline()).split()]
                assert len(pids) == 2
                await until(lambda: connections)
                assert all(map(alive, pids))
            finally:
                daemon.kill()
                await daemon.wait()
            await until(lambda: not any(map(alive, pids)))

    asyncio.run(main())


def test_a_cancelled_replay_leaves_no_worker(tmp_path):
    async def main():
        async with mute_server() as (port, connections), Workers() as workers:
            pids = []

            async def fill():
                async with workers.replay(mute_job(port, tmp_path)) as running:
                    await until(lambda: running.pid)
                    pids.append(running.pid)
                    async for _ in running:
                        pass

            async with asyncio.TaskGroup() as group:
                task = group.create_task(fill(), name="fill")
                await until(lambda: connections and pids)
                task.cancel()
            assert not alive(pids[0])

    asyncio.run(main())


def test_a_replay_cancelled_while_the_parent_starts_waits_for_nothing(tmp_path, caplog):
    async def main():
        async with Workers(grace_s=60) as workers:  # what it must not wait for
            asked = asyncio.ensure_future(run(workers, mute_job(1, tmp_path)))
            await until(lambda: workers.pid is not None)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                async with asyncio.timeout(20):
                    await asked
            del asked
            gc.collect()
            await workers.start()
            assert (await run(workers, mute_job(1, tmp_path))).ended.cause is Reason.UNREACHABLE

    asyncio.run(main())
    assert "never retrieved" not in caplog.text


def test_a_worker_that_does_not_listen_is_killed_after_the_grace(tmp_path):
    async def main():
        async with mute_server() as (port, connections), Workers(grace_s=0.2) as workers:
            async with workers.replay(mute_job(port, tmp_path)) as running:
                await until(lambda: connections and running.pid)
                os.kill(running.pid, signal.SIGSTOP)
                pid = running.pid
            assert not alive(pid)

    asyncio.run(main())


def test_a_parent_that_cannot_start_ends_the_replay(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")

    async def main():
        async with Workers() as workers:
            return await run(workers, mute_job(1, tmp_path))

    ended = asyncio.run(main()).ended
    assert ended.cause is Reason.INTERRUPTED
    assert "cannot be started" in ended.detail


@pytest.mark.parametrize(
    "said",
    [
        b"hello\n",
        b"\xff\xfe\n",
        b"{}\n",
        b'{"event":"progress"}\n',
        b"x" * (MAX_LINE_BYTES + 10) + b"\n",
        b"x" * (3 * MAX_LINE_BYTES),
        event_line(Progress(1, None))[:-1].replace(b"1", b"-1") + b"\n",
    ],
)
def test_nonsense_from_a_worker_ends_its_replay(tmp_path, said):
    async def main():
        running = Running(mute_job(1, tmp_path))
        (stdin_r, stdin_w), (stdout_r, stdout_w), (stderr_r, stderr_w) = (os.pipe() for _ in range(3))
        await running.attach(stdin_w, stdout_r, stderr_r)
        os.write(stdout_w, event_line(Progress(7, None)) + said)
        os.close(stdout_w)
        os.write(stderr_w, b"rtsp://u:pass%20word@127.0.0.1:1/x broke\n")
        os.close(stderr_w)
        events = [event async for event in running]
        running.exited(70)
        await running.close(1)
        job = os.read(stdin_r, 10_000)
        os.close(stdin_r)
        return events, job

    events, job = asyncio.run(main())
    assert json.loads(job.splitlines()[0])["url"].startswith("rtsp://u:pass")
    assert [type(event) for event in events] == [Progress, Ended]
    assert events[-1].cause is Reason.BAD_MEDIA
    assert events[-1].bytes == 7
    assert "word" not in events[-1].detail


def test_a_crash_is_told_with_the_end_of_its_stderr_and_without_the_url(tmp_path):
    async def main():
        running = Running(mute_job(1, tmp_path))
        (stdin_r, stdin_w), (stdout_r, stdout_w), (stderr_r, stderr_w) = (os.pipe() for _ in range(3))
        await running.attach(stdin_w, stdout_r, stderr_r)
        os.write(stderr_w, b"noise\n" * 2000 + b"cannot open rtsp://u:pass%20word@127.0.0.1:1/x\n")
        os.close(stderr_w)
        await asyncio.sleep(0)
        running.exited(70)
        os.close(stdout_w)
        events = [event async for event in running]
        await running.close(1)
        os.close(stdin_r)
        return events

    (ended,) = asyncio.run(main())
    assert ended.cause is Reason.BAD_MEDIA
    assert "exit status 70" in ended.detail
    assert "word" not in ended.detail


def standing_by(workers: Workers) -> int | None:
    """The process that waits for the next job."""
    return workers._standing_by[0].pid if workers._standing_by else None


def test_a_worker_is_forked_for_each_fill_that_looks_up_what_to_ask_for(tmp_path):
    async def main():
        async with mute_server() as (port, _), Workers() as workers:
            await workers.start()
            with contextlib.ExitStack() as fills:
                for _ in range(3):
                    fills.enter_context(workers.expected())
                await until(lambda: len([w for w in workers._standing_by if w.pid]) == 3)
                waiting = {w.pid for w in workers._standing_by}
                async with workers.replay(mute_job(port, tmp_path)) as one:
                    assert one.pid in waiting
                    await one.stop()
                    assert [event.cause async for event in one] == [End.STOPPED]
            await until(lambda: len(workers._standing_by) == 1)
            await until(lambda: sum(map(alive, waiting)) == 1)

    asyncio.run(main())


def test_a_worker_stands_by_takes_the_next_job_and_is_followed_by_another(tmp_path):
    async def main():
        async with mute_server() as (port, _), Workers() as workers:
            await workers.start()
            await until(lambda: standing_by(workers))
            first = standing_by(workers)
            async with (
                workers.replay(mute_job(port, tmp_path)) as one,
                workers.replay(mute_job(port, tmp_path)) as two,
            ):
                assert one.pid == first
                await until(lambda: two.pid not in (None, first))
                await until(lambda: standing_by(workers))
                second = standing_by(workers)
                await one.stop()
                await two.stop()
                for running in (one, two):
                    assert [event.cause async for event in running] == [End.STOPPED]
            os.kill(second, signal.SIGKILL)  # by the system, for want of memory
            await until(lambda: standing_by(workers) != second)
            async with workers.replay(mute_job(port, tmp_path)) as three:
                await until(lambda: three.pid)
                await three.stop()
                assert [event.cause async for event in three] == [End.STOPPED]
            await until(lambda: standing_by(workers))
            third = standing_by(workers)
            os.kill(workers.pid, signal.SIGKILL)
            await until(lambda: not alive(third))  # its parent could not tell of its end any more
            assert not workers._standing_by
            await workers.start()
            await until(lambda: standing_by(workers))
            last = standing_by(workers)
        await until(lambda: not alive(last))

    asyncio.run(main())


def test_without_file_descriptors_nothing_is_left_open_and_the_parent_stays(tmp_path):
    """For each number of free descriptors: none leaks, the parent of the workers is not taken for dead."""

    async def main():
        async with mute_server() as (port, _), Workers() as workers:
            await workers.start()
            workers._dismiss()  # the worker that stands by has its pipes already
            parent, (soft, hard) = workers.pid, resource.getrlimit(resource.RLIMIT_NOFILE)
            before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names, no paths
            for free in range(6):  # a replay needs six at once
                resource.setrlimit(resource.RLIMIT_NOFILE, (before + 20, hard))
                taken = []
                with suppress(OSError):
                    while True:
                        taken.append(os.open("/dev/null", os.O_RDONLY))
                for _ in range(free):
                    os.close(taken.pop())
                try:
                    async with workers.replay(mute_job(port, tmp_path)) as running:
                        events = [event async for event in running]
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                    for fd in taken:
                        os.close(fd)
                assert [(event.cause, "Too many open files" in event.detail) for event in events] == [
                    (Reason.INTERRUPTED, True)
                ], free
                assert workers.pid == parent
            assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - same

    asyncio.run(main())
