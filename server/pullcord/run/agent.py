"""The names of an agent's events in in-process programs."""

from enum import StrEnum


class RunEvent(StrEnum):
    """The kinds of chunk of an agent's run."""

    run_started = "RunStarted"
    run_content = "RunContent"
    run_completed = "RunCompleted"
    run_cancelled = "RunCancelled"
    run_error = "RunError"
    run_paused = "RunPaused"
    run_continued = "RunContinued"
    cancel_requested = "RunCancelRequested"
    tool_call_started = "ToolCallStarted"
    tool_call_completed = "ToolCallCompleted"
    reasoning_content = "ReasoningContent"
    usage_updated = "UsageUpdated"
    step_started = "StepStarted"
    step_completed = "StepCompleted"
    custom_event = "CustomEvent"
    progress = "Progress"
    gap = "Gap"
    snapshot = "Snapshot"
