"""Workflows: steps in an order that is written down."""

from pullcord.extras import needed

with needed("serve", "pullcord.workflow"):
    from pullcord.workflow.condition import Condition
    from pullcord.workflow.loop import Loop
    from pullcord.workflow.parallel import Parallel
    from pullcord.workflow.router import Router
    from pullcord.workflow.step import Step
    from pullcord.workflow.types import StepInput, StepOutput
    from pullcord.workflow.workflow import Workflow

__all__ = [
    "Condition",
    "Loop",
    "Parallel",
    "Router",
    "Step",
    "StepInput",
    "StepOutput",
    "Workflow",
]
