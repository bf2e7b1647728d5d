"""Cancels an agent's run from another thread, streamed and not, as programs elsewhere do it."""

import threading

from pullcord.agent import Agent
from pullcord.models.openai import OpenAIChat
from pullcord.run.agent import RunEvent
from pullcord.run.base import RunStatus


def long_running_task(agent: Agent, container: dict, started: threading.Event) -> None:
    pieces = []
    for chunk in agent.run("Write a very long story about a dragon.", stream=True):
        if "run_id" not in container and chunk.run_id:
            container["run_id"] = chunk.run_id
        if chunk.event == RunEvent.run_content:
            pieces.append(chunk.content)
            started.set()
        elif chunk.event == RunEvent.run_cancelled:
            container["result"] = {"status": "cancelled", "content": "".join(pieces)}
            return
        elif hasattr(chunk, "status") and chunk.status == RunStatus.completed:
            container["result"] = {"status": chunk.status.value, "content": "".join(pieces)}


def main() -> None:
    agent = Agent(
        name="StorytellerAgent",
        model=OpenAIChat(id="gpt-5-mini"),
        description="An agent that writes detailed stories",
    )
    container: dict = {}
    started = threading.Event()
    task = threading.Thread(target=long_running_task, args=(agent, container, started))
    task.start()
    started.wait()
    print("cancelled it:", agent.cancel_run(container["run_id"]))
    task.join()
    print("streamed:", container["result"]["status"], len(container["result"]["content"]) > 0)

    answers: list = []
    task = threading.Thread(
        target=lambda: answers.append(agent.run("Another one.", run_id="second", stream=False))
    )
    task.start()
    while not agent.cancel_run("second"):
        pass  # it has not begun yet, or will not
    task.join()
    print("not streamed:", answers[0].status.value, answers[0].run_id)


if __name__ == "__main__":
    main()
