"""A task whose TaskGroup failed can still wait with a time limit and can still be cancelled."""

import asyncio

import pytest

from anr_watch.tasks import BalancedGroup


async def fail_soon() -> None:
    await asyncio.sleep(0)
    raise ValueError("child")


async def failing_group() -> None:
    async with BalancedGroup() as group:
        group.create_task(fail_soon())


def test_a_failed_group_leaves_no_cancel_request_behind():
    async def main():
        with pytest.raises(ExceptionGroup):
            await failing_group()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(10)

    asyncio.run(main())


def test_a_cancel_from_outside_goes_through():
    async def body(started: asyncio.Event):
        async with BalancedGroup() as group:
            group.create_task(asyncio.sleep(10))
            started.set()

    async def main():
        started = asyncio.Event()
        task = asyncio.ensure_future(body(started))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_cancel_that_comes_while_the_group_fails_is_not_lost():
    async def main():
        me = {}

        async def fail_and_cancel():
            await asyncio.sleep(0)
            me["task"].cancel()
            raise ValueError("child")

        async def body():
            me["task"] = asyncio.current_task()
            try:
                async with BalancedGroup() as group:
                    group.create_task(fail_and_cancel())
            except* ValueError:
                pass
            await asyncio.sleep(10)

        with pytest.raises(asyncio.CancelledError):
            await asyncio.ensure_future(body())

    asyncio.run(main())
