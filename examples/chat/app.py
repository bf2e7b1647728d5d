"""A chat page with history and a Stop button.

pullcord serve --http 127.0.0.1:8080 --http-origin http://127.0.0.1:8000
uvicorn --app-dir examples/chat app:app
"""

import asyncio
import os
from pathlib import Path

from pullcord import Run, RunClient, RunFilter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

HERE = Path(__file__).parent
SCRIPTS = os.environ.get("PULLCORD_SCRIPTS", "node_modules/pullcord/dist/src")
SERVER = os.environ.get("PULLCORD_URL", "http://127.0.0.1:8080")
client = RunClient(os.environ.get("PULLCORD_TARGET", "127.0.0.1:50051"))


def session_of(request: Request) -> str:
    """Whose conversation it is: ask your own sign-in, never the page."""
    return "ann"


def shown(run: Run) -> dict[str, str]:
    """What the page needs of a run: its input, and a token that is good for this run alone."""
    token = client.create_run_token(run.run_id).token
    return {"id": run.run_id, "input": run.input, "token": token, "server": SERVER}


def history(request: Request) -> JSONResponse:
    """What was said so far, the oldest first."""
    found = list(client.list(RunFilter(session_id=session_of(request))))
    return JSONResponse([shown(client.get(run.run_id)) for run in reversed(found)])


def answer(session: str, text: str) -> dict[str, str]:
    """Starts the answer to what was just said."""
    return shown(client.start("agents/storyteller", text, session_id=session))


async def say(request: Request) -> JSONResponse:
    text = (await request.json())["text"]
    return JSONResponse(await asyncio.to_thread(answer, session_of(request), text))


app = Starlette(
    routes=[
        Route("/history", history),
        Route("/say", say, methods=["POST"]),
        Mount("/pullcord", StaticFiles(directory=SCRIPTS)),
        Mount("/", StaticFiles(directory=HERE, html=True)),
    ]
)
