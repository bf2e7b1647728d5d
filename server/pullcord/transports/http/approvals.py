"""The page behind an approval link: what a run asks, and two buttons.

Opening the link decides nothing, since mail programs and chats open links by themselves. Nobody has
to be signed in: the holder of the link may see what is asked and decide, and nothing else.
"""

import base64
import hashlib
import unicodedata
from html import escape
from urllib.parse import parse_qs

from pullcord.identity.approval_links import (
    PATH,
    Approval,
    ApprovalLinks,
    LinkRefused,
    waiting_calls,
)
from pullcord.run.caller import Caller
from pullcord.run.errors import RunNotFound, RunNotPaused, StoreUnavailable
from pullcord.run.record import MAX_REASON_LENGTH, Decision, Run
from pullcord.run.requests import ContinueRequest, GetRequest
from pullcord.run.scope import Reach
from pullcord.transports.http.messages import Answer, Refused, Request
from pullcord.transports.http.problems import problem
from pullcord.transports.http.routing import Route
from pullcord.transports.http.web import Web

_MAX_FORM = 64 * 1024
_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;"
    "color-scheme:light dark}pre{white-space:pre-wrap;overflow-wrap:anywhere;padding:.75rem;"
    "border:1px solid;border-radius:.25rem}button{font:inherit;padding:.5rem 1.25rem;"
    "margin-right:.75rem}input{font:inherit;width:100%;box-sizing:border-box;margin-bottom:1rem}"
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = (
    ("cache-control", "no-store"),
    ("content-security-policy", _POLICY),
    ("cross-origin-opener-policy", "same-origin"),
    # Not no-referrer, by which a browser says `origin: null` when it sends the form. No other site
    # learns of the link either way.
    ("referrer-policy", "same-origin"),
    ("x-robots-tag", "noindex"),
)


def routes(web: Web) -> list[Route]:
    """The routes of this surface; none, if there are no links."""
    if web.options.approvals is None:
        return []
    surface = _Approvals(web, web.options.approvals)
    return [
        Route("GET", f"{PATH}/{{token}}", surface.show, refuse=_refusal),
        Route("POST", f"{PATH}/{{token}}", surface.decide, refuse=_refusal),
    ]


class _Approvals:
    def __init__(self, web: Web, links: ApprovalLinks) -> None:
        self._verbs = web.front.verbs
        self._links = links

    def _read_link(self, request: Request) -> Approval:
        try:
            return self._links.read(request.params["token"])
        except LinkRefused:
            words = "this link was not made by this server, or its time is over"
            raise Refused(404, "LINK_NOT_VALID", words) from None

    async def show(self, request: Request) -> Answer:
        """The question, or the result if somebody has decided."""
        approval = self._read_link(request)
        caller = _caller(approval, request)
        run, words = await self._verbs.asked(caller, GetRequest(approval.run_id, _whose(approval)))
        if not approval.is_open(run):
            return _over(run)
        return _page("A run waits for a decision", _form(run, words))

    async def decide(self, request: Request) -> Answer:
        """Approves or declines all that is asked."""
        approval = self._read_link(request)
        decision, note = _read(await request.body())
        caller, whose = _caller(approval, request), _whose(approval)
        run = await self._verbs.get(caller, GetRequest(approval.run_id, whose))
        if not approval.is_open(run):
            return _over(run, 409)
        approved = decision == "approve"
        made = tuple(
            Decision(call.tool_call_id, approved=approved, note=note) for call in waiting_calls(run)
        )
        try:
            await self._verbs.continue_run(caller, ContinueRequest(approval.run_id, made, whose))
        except RunNotPaused:  # somebody else was quicker
            return _over(await self._verbs.get(caller, GetRequest(approval.run_id, whose)), 409)
        title = "Approved" if approved else "Declined"
        return _page(title, f"<p>The run <code>{_text(run.run_id)}</code> goes on.</p>")


def _caller(approval: Approval, request: Request) -> Caller:
    return Caller(peer=request.peer, principal=approval.principal)


def _whose(approval: Approval) -> Reach:
    return Reach(*approval.scope)


def _read(body: bytes) -> tuple[str, str]:
    """The decision and the note. Raises Refused."""
    fields: dict[str, list[str]] = {}
    if len(body) <= _MAX_FORM:
        try:
            fields = parse_qs(body.decode(errors="replace"), max_num_fields=10)
        except ValueError:
            fields = {}
    decision = fields.get("decision", [""])[0]
    if decision not in ("approve", "decline"):
        raise Refused(400, "INVALID_ARGUMENT", "decision must be approve or decline")
    return decision, fields.get("note", [""])[0].strip()[:MAX_REASON_LENGTH]


# --- pages


def _form(run: Run, words: str) -> str:
    calls = waiting_calls(run)
    shown = "".join(
        f"<h2><code>{_text(call.tool_name)}</code></h2><pre>{_text(call.arguments) or '–'}</pre>"
        for call in calls
    )
    many = "<p>One decision is for all of these calls.</p>" if len(calls) > 1 else ""
    return (
        f"<p>{_text(words)}</p>"
        f"<p>Run <code>{_text(run.run_id)}</code> of <code>{_text(run.runnable)}</code></p>"
        f"{shown}{many}"
        '<form method="post" autocomplete="off">'
        '<label for="note">A note for the run, if it is declined</label>'
        f'<input id="note" name="note" maxlength="{MAX_REASON_LENGTH}">'
        '<button name="decision" value="approve">Approve</button>'
        '<button name="decision" value="decline">Decline</button></form>'
    )


def _over(run: Run, status: int = 200) -> Answer:
    words = f"<p>The run <code>{_text(run.run_id)}</code> waits no more for this decision"
    ended = f", and has ended: {run.state.value}" if run.state.is_terminal else ""
    return _page("This was decided already", f"{words}{ended}.</p>", status)


def _refusal(error: Exception) -> Answer:
    match error:
        case RunNotFound():
            words = "the run is not there any more"
        case StoreUnavailable():
            words = "it may not be recorded yet; open the link again in a moment"
        case _:
            words = str(error)
    return _page("Nothing was decided", f"<p>{_text(words)}.</p>", problem(error).status)


def _page(title: str, content: str, status: int = 200) -> Answer:
    body = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{title}</h1>{content}</main></body></html>"
    )
    return Answer(body.encode(errors="replace"), status, "text/html; charset=utf-8", _HEADERS)


def _text(text: str) -> str:
    """Words of others as HTML. Characters that nobody sees are shown by their numbers: they could
    make what is approved look like something else."""
    return escape("".join(map(_seen, text)))


def _seen(character: str) -> str:
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
    return f"\\u{ord(character):04x}" if hidden and character not in "\n\t" else character
