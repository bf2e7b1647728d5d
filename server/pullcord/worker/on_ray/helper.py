"""`python -m pullcord.worker.on_ray.helper FD`: the process that speaks with Ray.

Orders come in and news go out as lines of JSON on a socket. Runs, their events and their stops
never pass through here. It ends with the socket, and Ray then ends its actors.
"""

import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from pullcord.worker.on_ray import actor as actors

_MOST = 600
"""Characters of Ray's words that are passed on."""


class Helper:
    """The actors that this process has asked for, by the server's number of each."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._actors: dict[int, Any] = {}
        self._news: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def _hear(self) -> None:
        """In a thread of its own: Ray brings news in one that none of its calls may keep."""
        while True:
            self._news.get()()

    def serve(self) -> None:
        """Does what it is told, until the socket ends."""
        orders = self._sock.makefile("r", encoding="utf-8")
        given = json.loads(orders.readline())
        try:
            import ray

            ray.init(
                address=given["address"],
                runtime_env=given["runtime_env"],
                namespace="pullcord",
                logging_level="warning",
            )
            # By value: see there.
            ray.cloudpickle.register_pickle_by_value(actors)
        except BaseException as error:
            self._say(refused=f"cannot be placed: Ray at {given['address']}: {_words(error)}")
            return
        self._ray = ray
        threading.Thread(target=self._hear, name="pullcord-news", daemon=True).start()
        for line in orders:
            order = json.loads(line)
            if "kill" in order:
                self._kill(order["kill"])
            else:
                self._start(given, order)

    def _start(self, given: dict[str, Any], order: dict[str, Any]) -> None:
        number = order["start"]
        try:
            made = self._ray.remote(actors.WorkerActor).options(
                num_cpus=order["cpu"],
                num_gpus=order["gpu"],
                memory=order["memory"],
                max_restarts=0,
                max_task_retries=0,
            )
            actor = self._actors[number] = made.remote()
            actor.where.remote().future().add_done_callback(
                lambda found: self._news.put(partial(self._placed, number, found))
            )
            # An argument of a call goes to the actor's process directly, and into no object store.
            work = actor.work.remote(
                given["target"], tuple(order["address"]), order["ticket"], order["expected"]
            )
            work.future().add_done_callback(
                lambda ended: self._news.put(partial(self._gone, number, ended))
            )
        except Exception as error:
            self._say(gone=number, words=f"cannot be placed by Ray: {_words(error)}")

    def _placed(self, number: int, found: Any) -> None:
        if not found.cancelled() and found.exception() is None:
            self._say(placed=number, **found.result())

    def _gone(self, number: int, ended: Any) -> None:
        error = ended.exception()
        if error is not None:
            self._say(gone=number, words=f"lost its Ray actor: {_words(error)}")
        elif isinstance(result := ended.result(), str):
            self._say(gone=number, words=f"could not begin: {result}")
        else:
            self._say(gone=number, code=result)
        self._kill(number)

    def _kill(self, number: int) -> None:
        actor = self._actors.pop(number, None)
        if actor is not None:
            self._ray.kill(actor)

    def _say(self, **news: Any) -> None:
        with self._lock:
            try:
                self._sock.sendall(f"{json.dumps(news)}\n".encode())
            except OSError:
                os._exit(1)  # the server has ended, or does not listen


def _words(error: BaseException) -> str:
    """What Ray says, without its own lines of where and which."""
    told = [line for line in str(error).splitlines() if line and not line.startswith("\t")]
    return " ".join(" ".join(told).split())[:_MOST] or type(error).__name__


def main() -> None:
    """Serves the launcher at the socket whose file descriptor is the first argument."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    Helper(sock).serve()
    # Ray ends the actors of a driver that is gone; its own way out may wait for them.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
