"""Our own mistakes, for every transport: the log has them, and callers get an id and no word.

What a transport does with the refusal is not known here.
"""

import logging

from pullcord.run.blame import new_id
from pullcord.run.errors import PullcordError, ServerFault

_log = logging.getLogger("pullcord.server")


def refusal_of(error: BaseException) -> PullcordError:
    """The refusal that a caller gets for an exception; one that is not a refusal is our mistake."""
    if isinstance(error, PullcordError):
        return error
    fault = ServerFault(new_id())
    fields = {"error_id": fault.error_id}
    _log.error("a call failed by a mistake of ours", exc_info=error, extra=fields)
    return fault
