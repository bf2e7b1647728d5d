"""The cancel token: set once, hastened at most once, and heard by everything beneath it."""

import gc
import logging
import threading
import weakref

import pytest
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, CancelToken
from pullcord.run.errors import RunCancelledError, RunInterrupted

USER = Cancellation(CancelCause.USER, actor="ada", reason="enough")
NOW = Cancellation(CancelCause.SHUTDOWN, actor="ops", reason="stop", mode=CancelMode.IMMEDIATE)


def test_a_fresh_token_stops_nothing() -> None:
    """Before a cancel the token says nothing, and its check lets code pass."""
    token = CancelToken()
    token.raise_if_cancelled()
    assert (token.cancelled, token.cause, token.actor, token.reason, token.mode) == (
        False,
        None,
        None,
        None,
        None,
    )
    assert not token.wait(0)
    assert token.time_remaining() is None


def test_a_cancelled_token_says_why() -> None:
    """A cancelled token tells cause, actor, reason and mode, and its check raises the reason."""
    token = CancelToken()
    assert token.cancel(USER)
    assert token.wait(0)
    assert (token.cause, token.actor, token.reason, token.mode) == (
        CancelCause.USER,
        "ada",
        "enough",
        CancelMode.GRACEFUL,
    )
    with pytest.raises(RunCancelledError, match="enough"):
        token.raise_if_cancelled()


def test_without_words_the_cause_is_said() -> None:
    """The check of a token that was cancelled without a reason says the cause."""
    token = CancelToken()
    token.cancel(Cancellation(CancelCause.DEADLINE))
    with pytest.raises(RunCancelledError, match="deadline"):
        token.raise_if_cancelled()


def test_except_exception_does_not_swallow_a_cancel() -> None:
    """Neither a cancel nor an interrupt is an Exception."""
    assert not issubclass(RunCancelledError, Exception)
    assert issubclass(RunInterrupted, RunCancelledError)


def test_promise_07_the_first_cause_stands() -> None:
    """A second cancel changes neither cause nor actor nor reason; an IMMEDIATE one only hastens."""
    token = CancelToken()
    assert token.cancel(USER)
    assert not token.cancel(Cancellation(CancelCause.DEADLINE, actor="else"))
    assert token.cancellation == USER
    assert token.cancel(NOW)
    assert token.cancellation == USER.hastened()
    assert not token.cancel(NOW)
    assert not token.cancel(USER)
    assert token.cancellation == USER.hastened()


def test_callbacks_are_called_once_and_once_more_when_hastened() -> None:
    """A callback hears of the cancel, then of its hastening, and of nothing else."""
    token, heard = CancelToken(), []
    token.on_cancel(heard.append)
    for cancellation in (USER, USER, NOW, NOW, USER):
        token.cancel(cancellation)
    assert heard == [USER, USER.hastened()]


def test_a_callback_on_a_set_token_is_called_at_once() -> None:
    """Who asks to be called after the cancel is called right away, and again when hastened."""
    token, heard = CancelToken(), []
    token.cancel(USER)
    token.on_cancel(heard.append)
    assert heard == [USER]
    token.cancel(NOW)
    assert heard == [USER, USER.hastened()]


def test_a_callback_can_be_taken_back() -> None:
    """A callback that was taken back, even twice, is not called."""
    token, heard = CancelToken(), []
    forget = token.on_cancel(heard.append)
    forget()
    forget()
    token.cancel(USER)
    assert heard == []


def test_a_raising_callback_keeps_no_other_from_being_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a callback raises is logged; the others are called, and the canceller never knows."""
    token, heard = CancelToken(), []

    def broken(_: Cancellation) -> None:
        raise ValueError("broken callback")

    token.on_cancel(broken)
    token.on_cancel(heard.append)
    with caplog.at_level(logging.ERROR, "pullcord.cancel"):
        assert token.cancel(USER)
        token.on_cancel(broken)
    assert heard == [USER]
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2


def test_promise_08_a_cancel_goes_down_the_tree_with_cause_parent() -> None:
    """Children and grandchildren are cancelled with cause PARENT and the asker's own words."""
    root = CancelToken()
    child = root.child()
    grandchild = child.child()
    root.cancel(USER)
    for token in (child, grandchild):
        assert (token.cause, token.actor, token.reason) == (CancelCause.PARENT, "ada", "enough")
    root.cancel(NOW)
    assert grandchild.mode is CancelMode.IMMEDIATE


def test_promise_08_never_up() -> None:
    """A child's own cancel touches neither its parent nor its siblings, and keeps its own cause."""
    root = CancelToken()
    child, sibling = root.child(), root.child()
    child.cancel(USER)
    assert not root.cancelled
    assert not sibling.cancelled
    root.cancel(NOW)
    assert child.cancellation == USER.hastened()
    assert sibling.cause is CancelCause.PARENT


def test_promise_08_a_child_of_a_cancelled_parent_is_born_cancelled() -> None:
    """What is only now being started under a cancelled token is cancelled before it begins."""
    root = CancelToken(deadline=5.0)
    root.cancel(NOW)
    child = root.child()
    assert child.cancelled
    assert (child.cause, child.mode, child.deadline) == (
        CancelCause.PARENT,
        CancelMode.IMMEDIATE,
        5.0,
    )


def test_promise_08_a_child_made_while_its_parent_is_cancelled_is_cancelled() -> None:
    """In 2000 races between a cancel and a birth, no child escapes, whichever comes first."""
    barrier = threading.Barrier(2)
    parents = [CancelToken() for _ in range(2000)]

    def cancel_all() -> None:
        barrier.wait()
        for parent in parents:
            parent.cancel(USER)

    canceller = threading.Thread(target=cancel_all)
    canceller.start()
    barrier.wait()
    children = [parent.child() for parent in parents]
    canceller.join()
    assert all(child.cause is CancelCause.PARENT for child in children)


def test_many_cancellers_one_winner() -> None:
    """When eight threads cancel at once, one of them changes the token, and its words stand."""
    for _ in range(200):
        token, barrier, won = CancelToken(), threading.Barrier(8), []

        def cancel(name: str, token=token, barrier=barrier, won=won) -> None:
            barrier.wait()
            if token.cancel(Cancellation(actor=name)):
                won.append(name)

        threads = [threading.Thread(target=cancel, args=(f"t{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [token.actor]


def test_threads_that_wait_are_woken() -> None:
    """`wait` blocks a thread until the cancel, and then says so to every one that waits."""
    token, results = CancelToken(), []
    threads = [threading.Thread(target=lambda: results.append(token.wait(30))) for _ in range(4)]
    for thread in threads:
        thread.start()
    token.cancel(USER)
    for thread in threads:
        thread.join(30)
    assert results == [True] * 4


def test_promise_12_a_detached_child_is_forgotten() -> None:
    """A token that left the tree is not told, not kept alive, and leaves nothing in its parent."""
    root = CancelToken()
    child = root.child()
    child.detach()
    child.detach()
    root.cancel(USER)
    assert not child.cancelled
    assert not root._children

    class Seen:
        pass

    witness = Seen()
    gone = weakref.ref(witness)
    other = CancelToken()
    beneath = other.child()
    beneath.on_cancel(lambda _, kept=witness: None)
    beneath.detach()
    del witness, beneath
    gc.collect()
    assert gone() is None


def test_time_remaining_never_goes_below_zero() -> None:
    """A deadline that has passed leaves no time, not a negative one."""
    assert CancelToken(deadline=0.0).time_remaining() == 0.0
    assert (CancelToken(deadline=1e12).time_remaining() or 0) > 3000
