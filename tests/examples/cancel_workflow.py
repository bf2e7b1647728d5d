"""Cancels a workflow's run from another thread, and looks at what its steps had made."""

import threading

from pullcord.agent import Agent
from pullcord.models.openai import OpenAIChat
from pullcord.run.agent import RunEvent
from pullcord.run.base import RunStatus
from pullcord.run.workflow import WorkflowRunEvent
from pullcord.workflow.step import Step
from pullcord.workflow.workflow import Workflow


def search(topic: str) -> str:
    """Searches for a topic."""
    return f"everything about {topic}"


researcher = Agent(
    name="Research Agent",
    model=OpenAIChat(id="gpt-5-mini"),
    tools=[search],
    instructions="Research the given topic and provide key facts and insights.",
)
writer = Agent(
    name="Writing Agent",
    model=OpenAIChat(id="gpt-5-mini"),
    instructions="Write a comprehensive article based on the research provided.",
)
workflow = Workflow(
    description="Automated article creation from research to writing",
    steps=[
        Step(name="research", agent=researcher, description="Research the topic"),
        Step(name="writing", agent=writer, description="Write an article"),
    ],
)


def long_running_task(container: dict, writing: threading.Event) -> None:
    pieces = []
    steps = container["steps"]
    for chunk in workflow.run("Dragons who learn to code", stream=True):
        if "run_id" not in container and chunk.run_id:
            container["run_id"] = chunk.run_id
        if chunk.event == WorkflowRunEvent.step_started:
            steps.append(chunk.source.id)
        if chunk.event == RunEvent.run_content:
            pieces.append(chunk.content)
            if "writing" in steps:
                writing.set()
        elif chunk.event == WorkflowRunEvent.workflow_cancelled:
            container["result"] = {"status": chunk.status.value, "content": "".join(pieces)}
        elif chunk.event == WorkflowRunEvent.workflow_completed:
            container["result"] = {"status": RunStatus.completed.value}


def main() -> None:
    container: dict = {"steps": []}
    writing = threading.Event()
    task = threading.Thread(target=long_running_task, args=(container, writing))
    task.start()
    writing.wait()
    print("cancelled it:", workflow.cancel_run(container["run_id"]))
    task.join()
    print("steps:", *container["steps"])
    print("workflow:", container["result"]["status"])
    print("kept the research:", "the facts" in container["result"]["content"])


if __name__ == "__main__":
    main()
