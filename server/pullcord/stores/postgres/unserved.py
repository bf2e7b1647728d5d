"""Runs that wait in the store because no replica serves what they are runs of.

Each replica looks, and counts those that have waited while it watched; one of them says so in the
log. Nothing is done about them: a replica that serves the runnable again takes them up, and a
cancel ends them.
"""

import logging
import time

from pullcord.stores.postgres import statements as sql
from pullcord.stores.postgres.core import Core

_log = logging.getLogger("pullcord.store")

_MOST = 1000
"""Runs that are looked at; more are not counted."""
_WAITING = f"""
select r.id, r.run_id, r.runnable,
    $1 = (select min(incarnation) from replica where alive) as is_first
from run r
where r.incarnation is null and {sql.LIVE} and r.stop is null and r.parent_run_id = ''
order by r.create_time limit $2
"""


class Unserved:
    """One replica's look at them. Used on the store's loop, but for `count`."""

    def __init__(self, core: Core, patience: float) -> None:
        """`patience`: seconds that a replica that serves a run has to take it up."""
        self._core = core
        self._patience = patience
        self._since: dict[int, float] = {}
        self._said: set[int] = set()
        self.count = 0
        """How many have waited for so long."""

    async def look(self) -> None:
        """Raises StoreUnavailable."""
        rows = await self._core.control.ask(
            lambda connection: connection.fetch(_WAITING, self._core.incarnation, _MOST)
        )
        now = time.monotonic()
        self._since = {row["id"]: self._since.get(row["id"], now) for row in rows}
        late = [row for row in rows if now - self._since[row["id"]] >= self._patience]
        self.count = len(late)
        self._said &= {row["id"] for row in late}
        for row in late:
            if row["is_first"] and row["id"] not in self._said:
                self._said.add(row["id"])
                _log.warning(
                    "run %s waits, and no replica serves %s; serve that again, or cancel the run",
                    row["run_id"],
                    row["runnable"],
                )
