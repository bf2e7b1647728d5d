"""The API's names of fields, as the arguments and options of the commands that fill them.

For what a person reads only: `--json` says what the API says.
"""

import re

from pullcord.run.errors import Violation

_NAMES = {
    "spec.runnable": "RUNNABLE",
    "spec.input": "INPUT",
    "spec.input_data": "--data",
    "spec.parts": "--attach",
    "spec.session_id": "--session",
    "spec.user_id": "--user",
    "spec.labels": "--label",
    "run_id": "RUN_ID",
    "session_id": "--session",
    "user_id": "--user",
    "labels": "--label",
    "states": "--state",
    "after_sequence": "--after",
    "grace_period": "--grace",
    "page_size": "--limit",
    "decisions": "--approve, --decline or --answer",
}
"""Options whose names differ from those of their fields."""
_PLACE = re.compile(r"((?:spec\.)?(?:limits\.)?[a-z_]+)(.*)", re.DOTALL)
_KEY = re.compile(r"\['(.*)'\]", re.DOTALL)
_WORDS = (
    ("needs on_disconnect LEASE", "needs --on-disconnect lease"),
    ("needs a session_id", "needs --session"),
    ("or unset", "or left out"),
)


def in_words(violation: Violation) -> str:
    """Says which argument or option is wrong, and why."""
    description = violation.description
    for api, words in _WORDS:
        description = description.replace(api, words)
    return f"{_option(violation.field)}: {description}" if violation.field else description


def _option(field: str) -> str:
    found = _PLACE.fullmatch(field)
    if found is None:
        return field
    path, rest = found[1], found[2]
    name = path.removeprefix("spec.").removeprefix("limits.")
    option = _NAMES.get(path) or f"--{name.replace('_', '-')}"
    if (key := _KEY.fullmatch(rest)) is not None:  # of a label
        return f"{option} {key[1]}"
    return option
