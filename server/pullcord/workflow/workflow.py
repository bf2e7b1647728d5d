"""The Workflow: what an author writes down, and how one run of it goes.

A workflow is a value. Its run's result is the last step's content, and as data the list of all its
steps, each with its state and what it made, also where the run was stopped.
"""

from pullcord.native.in_process import Native
from pullcord.run.context import RunContext
from pullcord.run.events import SourceKind
from pullcord.run.resources import Resources, checked_resources
from pullcord.run.runnable import Isolation, checked_isolation, slug
from pullcord.workflow.flow import Flow
from pullcord.workflow.nodes import Steps, in_order, nodes, takes_of_first
from pullcord.workflow.types import Made


class Workflow(Native):
    """Steps in an order that is written down."""

    kind = SourceKind.WORKFLOW
    is_async = True

    def __init__(
        self,
        *,
        steps: Steps,
        name: str = "",
        id: str | None = None,
        description: str | None = None,
        isolation: Isolation | None = None,
        resources: Resources | None = None,
    ) -> None:
        """Describes the workflow.

        Args:
            steps: agents, teams, functions, workflows, and Step, Parallel, Loop, Condition, Router.
            name: for people; the id is made of it if none is given.
            id: what callers name it by.
            description: what it is, for callers.
            isolation: as for an Agent; its steps execute in the same process.
            resources: as for an Agent; None: the most that one of its steps needs.

        Raises:
            TypeError: a step is nothing that can be run.
            ValueError: there are no steps, no id can be made of the name, there is no such
                isolation, or a step needs more resources than were given.
        """
        if not steps:
            raise ValueError("a workflow has at least one step")
        self.name = name
        self.id = id or slug(name or "workflow")
        self.description = description or ""
        self.isolation = checked_isolation(isolation, self.id)
        self._nodes = nodes(steps)
        self.resources = checked_resources(resources, self.id, self._nodes.values())
        self.members = tuple(self._nodes)
        self.takes = takes_of_first(self._nodes)

    async def execute(self, ctx: RunContext) -> None:
        """Does one run: the steps in order, the first with all that the run was given."""
        planned = (path for id, node in self._nodes.items() for path in node.planned((id,)))
        flow = Flow(ctx, self.id, planned)
        own = Made(ctx.input, ctx.input_data, is_own_input=True)
        flow.tell((await in_order(flow, self._nodes, (), own)).content)
