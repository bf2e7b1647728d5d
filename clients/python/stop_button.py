"""A stop button: a story is told until Enter is pressed, or for two seconds, and then stopped.

Start a server first, `pullcord serve`, which has a storyteller. The one argument is its address.
"""

import sys
import threading
import time

from pullcord.client import RunClient
from pullcord.run.events import ContentDelta, RunCancelled
from pullcord.run.record import Receipt


def main() -> None:
    """Tells, stops, and shows what was kept."""
    target = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
    receipts: list[Receipt] = []
    with (
        RunClient(target) as client,
        client.run("agents/storyteller", "a lighthouse that hums") as story,
    ):

        def pull_the_cord() -> None:
            if sys.stdin.isatty():
                sys.stdin.readline()
            receipts.append(story.cancel("the reader pressed stop", wait=5))

        if sys.stdin.isatty():
            print("[Enter stops the story]\n")
        button = threading.Timer(0 if sys.stdin.isatty() else 2, pull_the_cord)
        button.daemon = True  # nobody need press it
        button.start()
        for event in story:
            if isinstance(event.payload, ContentDelta):
                print(event.payload.text, end="", flush=True)
        print("\n")
        if not isinstance(story.result, RunCancelled):
            print("It had ended by itself.")
            return
        button.join()
        show(story.result, receipts[0])


def show(end: RunCancelled, receipt: Receipt) -> None:
    """What is left of the story, and the receipt."""
    stop = end.cancellation
    print(f"kept         {len(end.output)} characters")
    print(f"outcome      {receipt.outcome.name}")
    print(f"cause        {stop.cause.name}")
    print(f"by           {stop.actor}")
    print(f"reason       {stop.reason}")
    for name in ("accept_time", "deliver_time", "stop_time"):
        at = getattr(receipt, name)
        print(f"{name:<12} {time.strftime('%H:%M:%S', time.localtime(at))}.{int(at % 1 * 1000):03}")


if __name__ == "__main__":
    main()
