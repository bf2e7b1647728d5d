"""Fakes and checks for tests of runs: a clock moved by hand, scripted runnables, what remains.

Shipped, so that other people's runnables, stores and transports are held to the same promises.
Nothing of the product imports this.
"""

from pullcord.extras import needed

with needed("serve", "pullcord.testing"):
    from pullcord.testing.clock import ManualClock
    from pullcord.testing.harness import (
        RecordingObserver,
        Remains,
        make_engine,
        nothing_left,
        remains,
    )
    from pullcord.testing.scripts import (
        Gate,
        Script,
        Step,
        ask,
        critical,
        fail,
        say,
        spin,
        think,
        tool,
        use,
    )
    from pullcord.testing.stores import HookedStore

__all__ = [
    "Gate",
    "HookedStore",
    "ManualClock",
    "RecordingObserver",
    "Remains",
    "Script",
    "Step",
    "ask",
    "critical",
    "fail",
    "make_engine",
    "nothing_left",
    "remains",
    "say",
    "spin",
    "think",
    "tool",
    "use",
]
