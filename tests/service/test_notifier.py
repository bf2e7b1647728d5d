"""How waiting tasks are woken: in batches, from any thread, and with none left behind."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from pullcord.service.notifier import _BATCH, Notifier


@pytest.fixture
async def notifier() -> Notifier:
    return Notifier(asyncio.get_running_loop(), heartbeat=60)


class Waiters:
    """Tasks that wait, and what wakes them."""

    def __init__(self, notifier: Notifier, count: int) -> None:
        self.wakes: list[Callable[[], None]] = []
        self.tasks = [asyncio.create_task(notifier.wait(self._arm)) for _ in range(count)]

    def _arm(self, wake: Callable[[], None]) -> bool:
        self.wakes.append(wake)
        return True

    def wake_all(self) -> None:
        for wake in self.wakes:
            wake()

    def done(self) -> int:
        return sum(task.done() for task in self.tasks)


async def most_in_one_turn(waiters: Waiters) -> int:
    """The most tasks that ended within one turn of the loop, until all have."""
    most = before = 0
    while before < len(waiters.tasks):
        await asyncio.sleep(0)
        done = waiters.done()
        most, before = max(most, done - before), done
    return most


@pytest.mark.parametrize("from_thread", [False, True])
async def test_a_thousand_watchers_are_woken_in_batches(
    notifier: Notifier, from_thread: bool
) -> None:
    """However many wait for one event, a turn of the loop wakes a batch of them."""
    waiters = Waiters(notifier, 1000)
    await asyncio.sleep(0)
    if from_thread:
        thread = threading.Thread(target=waiters.wake_all)
        thread.start()
        thread.join()
    else:
        waiters.wake_all()
    assert await most_in_one_turn(waiters) <= _BATCH
    assert all(task.result() for task in waiters.tasks)


async def test_tasks_that_leave_when_woken_hold_nobody_up(notifier: Notifier) -> None:
    """Woken tasks that are cancelled before they run give their place in the batch to others."""
    leaving, staying = Waiters(notifier, _BATCH), Waiters(notifier, 10)
    await asyncio.sleep(0)
    leaving.wake_all()
    staying.wake_all()
    for task in leaving.tasks:
        task.cancel()
    await asyncio.gather(*leaving.tasks, return_exceptions=True)
    assert await asyncio.gather(*staying.tasks) == [True] * 10


async def test_what_is_there_already_is_not_waited_for(notifier: Notifier) -> None:
    """A wake-up that comes while nothing needs to be waited for costs no place in a batch."""
    wakes: list[Callable[[], None]] = []

    def there(wake: Callable[[], None]) -> bool:
        wakes.append(wake)
        return False

    for _ in range(2 * _BATCH):
        assert await notifier.wait(there)
    for wake in wakes:
        wake()
    waiters = Waiters(notifier, 1)
    await asyncio.sleep(0)
    waiters.wake_all()
    assert await waiters.tasks[0]


async def test_a_thread_that_fails_to_call_silences_nobody(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wake-up at Python's recursion limit is lost at most until the next one."""

    class Deep:
        call_soon_threadsafe = staticmethod(lambda call: (_ for _ in ()).throw(RecursionError))

    waiters = Waiters(notifier, 2)
    await asyncio.sleep(0)
    first, second = waiters.wakes
    failed: list[BaseException] = []

    def wake(call: Callable[[], None]) -> None:
        try:
            call()
        except RecursionError as error:
            failed.append(error)

    with monkeypatch.context() as patch:
        patch.setattr(notifier, "_loop", Deep)
        thread = threading.Thread(target=wake, args=(first,))
        thread.start()
        thread.join()
    assert len(failed) == 1
    thread = threading.Thread(target=wake, args=(second,))
    thread.start()
    thread.join()
    assert await asyncio.gather(*waiters.tasks) == [True, True]
