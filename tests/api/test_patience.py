"""Many waits with one timer: each ends for itself, and nothing else does."""

import asyncio

import pytest

from penstock.api.patience import Patience


def test_what_waits_too_long_is_ended() -> None:
    """And only that: what ends in time gives its result, and the task goes on."""

    async def late(patience: Patience) -> str:
        with pytest.raises(TimeoutError):
            await patience.wait(asyncio.Event().wait())
        await asyncio.sleep(0)  # a cancellation that was left over would end it here
        return "went on"

    async def all_of_them() -> list[object]:
        patience = Patience(0.05)
        quick = [patience.wait(asyncio.sleep(0, number)) for number in range(3)]
        return await asyncio.gather(late(patience), *quick, late(patience))

    assert asyncio.run(all_of_them()) == ["went on", 0, 1, 2, "went on"]


def test_a_cancellation_from_elsewhere_stays_one() -> None:
    """Whoever cancels a task that waits sees it cancelled, in time or late."""

    async def cancelled() -> None:
        patience = Patience(60)
        task = asyncio.create_task(patience.wait(asyncio.Event().wait()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await patience.wait(asyncio.sleep(0, "still of use")) == "still of use"

    asyncio.run(cancelled())


def test_errors_pass() -> None:
    """What the work raises is raised."""

    async def failing() -> None:
        raise KeyError

    async def failed() -> None:
        with pytest.raises(KeyError):
            await Patience(60).wait(failing())

    asyncio.run(failed())
