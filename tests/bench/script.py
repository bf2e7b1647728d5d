"""What a run is to do, told to both servers in the same words, and the texts that they say.

The baseline and the product each play them their own way; what is measured is not known here.
"""

import json
from dataclasses import asdict, dataclass, replace

TOKEN = "tok "
"""What every delta says: about the size of a model's token."""
CUSTOM = {"step": "search", "done": True, "share": 0.5}
"""The data of every custom event."""
LARGE = {str(n): "x" * 20 for n in range(5000)}
"""The data of every large one: near the bound of 256 KiB."""


@dataclass(frozen=True, slots=True)
class Script:
    """`count` events, after each `burst` of them a pause, and what comes after the last."""

    says: str = "content"
    """`content` deltas, `voices` (content and reasoning in turn, which never merge), `custom`, or
    `large`: custom events with much data."""
    count: int = 1
    burst: int = 0
    """0: no pauses."""
    pause: float = 0.0
    """Seconds."""
    delay: float = 0.0
    """Seconds before the first event."""
    then: str = "end"
    """`end`, `wait` (silent until stopped), `tool` (the same in a tool), `block` (a thread, without
    the interpreter's lock) or `compute` (a thread, in pure Python)."""
    depth: int = 0
    """How many runs are above the one that does all this, each with nothing else to do."""

    def text(self) -> str:
        """As the input of a run."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> "Script":
        """From the input of a run."""
        return cls(**json.loads(text))

    def beneath(self, depth: int) -> "Script":
        """The same with so many runs above."""
        return replace(self, depth=depth)

    def pauses_after(self, number: int) -> bool:
        """Whether a pause follows the event of this number, from 1."""
        return self.burst > 0 and number % self.burst == 0
