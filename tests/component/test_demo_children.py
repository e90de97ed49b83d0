"""The demo's processes: they answer, they are missed when they fail, and they end, whatever they do against it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time

import pytest

from anr_watch.demo.children import ChildFailedError, Children

ECHO = """
import json, os, sys
print(json.dumps({"pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0)}), flush=True)
for line in sys.stdin:
    command = json.loads(line)
    print(json.dumps({"error": "no"} if command["cmd"] == "bad" else {"echo": command["cmd"]}), flush=True)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("{}", flush=True)
while True:
    time.sleep(1)
"""
FAILING = "import sys; print('{}', flush=True); sys.exit('it is all wrong')"


def run(tmp_path, text, story):
    """Start a child with a program text and tell a story with it once it has said its first line."""

    async def play():
        first = asyncio.get_running_loop().create_future()

        def heard(child, line):
            if first.done():
                child.answered(json.loads(line))
            else:
                first.set_result(json.loads(line))

        async with Children(tmp_path, grace_s=0.5) as children:
            child = await children.start("child", [sys.executable, "-c", text], on_line=heard)
            await asyncio.wait([first], timeout=10)
            return await story(children, child, first.result())

    return asyncio.run(play())


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_child_answers_in_a_session_of_its_own_and_ends_with_the_block(tmp_path):
    async def story(_, child, said):
        assert said["session"] == said["pid"] == child.process.pid
        assert said["parent"] == os.getpid()
        answers = await asyncio.gather(child.ask(cmd="a"), child.ask(cmd="b"))
        with pytest.raises(ChildFailedError, match="refused 'bad': no"):
            await child.ask(cmd="bad")
        return said["pid"], answers

    pid, answers = run(tmp_path, ECHO, story)
    assert answers == [{"echo": "a"}, {"echo": "b"}]
    assert gone(pid)


def test_one_that_does_not_want_to_end_is_killed(tmp_path):
    async def story(children, child, _):
        with pytest.raises(ChildFailedError, match="does not answer"):
            await child.ask(timeout_s=0.1, cmd="x")
        assert await children.stop(child) == -signal.SIGKILL
        return child.process.pid

    assert gone(run(tmp_path, STUBBORN, story))


def test_one_that_fails_ends_the_story_and_its_log_is_shown(tmp_path):
    async def story(*_):
        await asyncio.sleep(30)

    with pytest.raises(ExceptionGroup) as caught:
        run(tmp_path, FAILING, story)
    [failed] = caught.value.exceptions
    assert isinstance(failed, ChildFailedError)
    assert "child ended with status 1" in str(failed)
    assert failed.tail == ("it is all wrong",)


def test_a_program_that_is_not_there_is_said(tmp_path):
    async def play():
        async with Children(tmp_path) as children:
            await children.start("child", ["/no/such/program"])
            await asyncio.sleep(30)

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(play())
    assert "status 127" in str(caught.value.exceptions[0])
    assert "No such file" in caught.value.exceptions[0].tail[0]


def test_an_error_of_the_story_ends_the_children(tmp_path):
    pids = []

    async def story(_, __, said):
        pids.append(said["pid"])
        raise LookupError("the story went wrong")

    with pytest.raises(ExceptionGroup) as caught:
        run(tmp_path, ECHO, story)
    assert isinstance(caught.value.exceptions[0], LookupError)
    assert gone(pids[0])


def test_the_leash_pulls_when_the_parent_is_killed(tmp_path):
    parent = f"""
import asyncio, sys, pathlib
from anr_watch.demo.children import Children
async def main():
    async with Children(pathlib.Path({str(tmp_path)!r})) as children:
        said = lambda child, line: print(child.process.pid, flush=True)
        await children.start("child", [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], on_line=said)
        await asyncio.sleep(60)
asyncio.run(main())
"""

    async def play():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent, stdout=asyncio.subprocess.PIPE)
        pid = int(await asyncio.wait_for(process.stdout.readline(), 10))
        assert not gone(pid)
        process.kill()
        await process.wait()
        end = time.monotonic() + 5
        while not gone(pid):
            assert time.monotonic() < end
            await asyncio.sleep(0.02)

    asyncio.run(play())
