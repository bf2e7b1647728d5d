"""The names of a team's own events in in-process programs. Its members' events keep theirs."""

from enum import StrEnum


class TeamRunEvent(StrEnum):
    """The kinds of chunk of a team's run, of the team itself."""

    run_started = "TeamRunStarted"
    run_content = "TeamRunContent"
    run_completed = "TeamRunCompleted"
    run_cancelled = "TeamRunCancelled"
    run_error = "TeamRunError"
    run_paused = "TeamRunPaused"
    run_continued = "TeamRunContinued"
    cancel_requested = "TeamRunCancelRequested"
    tool_call_started = "TeamToolCallStarted"
    tool_call_completed = "TeamToolCallCompleted"
    reasoning_content = "TeamReasoningContent"
    usage_updated = "TeamUsageUpdated"
    step_started = "TeamStepStarted"
    step_completed = "TeamStepCompleted"
    custom_event = "TeamCustomEvent"
    progress = "TeamProgress"
    gap = "TeamGap"
    snapshot = "TeamSnapshot"
