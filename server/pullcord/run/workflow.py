"""The names of a workflow's own events in in-process programs. Its steps' runs keep theirs."""

from enum import StrEnum


class WorkflowRunEvent(StrEnum):
    """The kinds of chunk of a workflow's run, of the workflow and its steps."""

    workflow_started = "WorkflowStarted"
    workflow_completed = "WorkflowCompleted"
    workflow_cancelled = "WorkflowCancelled"
    workflow_error = "WorkflowError"
    workflow_paused = "WorkflowPaused"
    workflow_continued = "WorkflowContinued"
    run_content = "WorkflowContent"
    reasoning_content = "WorkflowReasoningContent"
    tool_call_started = "WorkflowToolCallStarted"
    tool_call_completed = "WorkflowToolCallCompleted"
    cancel_requested = "WorkflowCancelRequested"
    step_started = "StepStarted"
    step_completed = "StepCompleted"
    usage_updated = "WorkflowUsageUpdated"
    custom_event = "WorkflowCustomEvent"
    progress = "WorkflowProgress"
    gap = "WorkflowGap"
    snapshot = "WorkflowSnapshot"
