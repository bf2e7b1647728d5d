"""Cancels a team's run from another thread while a member is at work."""

import threading

from pullcord.agent import Agent
from pullcord.models.openai import OpenAIResponses
from pullcord.run.agent import RunEvent
from pullcord.run.base import RunStatus
from pullcord.run.team import TeamRunEvent
from pullcord.team import Team

storyteller_agent = Agent(
    name="StorytellerAgent",
    model=OpenAIResponses(id="gpt-5-mini"),
    description="An agent that writes creative stories",
)
editor_agent = Agent(
    name="EditorAgent",
    model=OpenAIResponses(id="gpt-5-mini"),
    description="An agent that reviews and improves stories",
)
team = Team(
    name="Storytelling Team",
    members=[storyteller_agent, editor_agent],
    model=OpenAIResponses(id="gpt-5-mini"),
    description="A team that collaborates to write detailed stories",
)


def long_running_task(container: dict, started: threading.Event) -> None:
    pieces = []
    for chunk in team.run("Write a very long story.", stream=True):
        if "run_id" not in container and chunk.run_id:
            container["run_id"] = chunk.run_id
        if chunk.event in [TeamRunEvent.run_content, RunEvent.run_content]:
            pieces.append(chunk.content)
            if chunk.event == RunEvent.run_content:
                started.set()
        elif chunk.event == RunEvent.run_cancelled:
            container["member"] = chunk.content
        elif chunk.event == TeamRunEvent.run_cancelled:
            container["result"] = {"status": "cancelled", "content": "".join(pieces)}
        elif hasattr(chunk, "status") and chunk.status == RunStatus.completed:
            container["result"] = {"status": chunk.status.value}


def main() -> None:
    container: dict = {}
    started = threading.Event()
    task = threading.Thread(target=long_running_task, args=(container, started))
    task.start()
    started.wait()
    print("cancelled it:", team.cancel_run(container["run_id"]))
    task.join()
    print("team:", container["result"]["status"])
    print("member said something:", container["member"] in container["result"]["content"] != "")


if __name__ == "__main__":
    main()
