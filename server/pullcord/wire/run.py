"""Runs, receipts and what they are made of, between domain and proto.

Reading is lenient, because only clients read what a server wrote. What a run said has passed the
gate; should something have passed that cannot be written, the run is shown without it.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace

from google.protobuf.timestamp_pb2 import Timestamp

from pullcord.run.cancel import Cancellation
from pullcord.run.events import Progress, RunError, ToolCall
from pullcord.run.record import CancelResult, Erased, Receipt, Run
from pullcord.run.runnable import RunnableInfo
from pullcord.run.takes import Takes
from pullcord.run.usage import Limits, Usage
from pullcord.v1 import cancel_pb2, error_pb2, run_pb2, run_service_pb2, runnable_pb2
from pullcord.wire.enums import (
    CANCEL_CAUSE,
    CANCEL_MODE,
    CANCEL_OUTCOME,
    FINISH_REASON,
    RUN_STATE,
    RUNNABLE_KIND,
    TOOL_CALL_STATE,
)
from pullcord.wire.limits import limits_message, limits_of
from pullcord.wire.message import fill_parts, parts_of
from pullcord.wire.values import data_of, set_data, set_time, time_of

_log = logging.getLogger("pullcord.wire")

_NONE = Limits()
UNSENDABLE = "Unsendable"
"""The error's type where something cannot be written, which is a mistake of ours."""


# --- runs and receipts


def run_message(run: Run) -> run_pb2.Run:
    """Writes a run. Never fails."""
    message = run_pb2.Run()
    _fill_run_in_any_case(message, run)
    return message


def _fill_run_in_any_case(message: run_pb2.Run, run: Run) -> None:
    try:
        fill_run(message, run)
    except (TypeError, ValueError, KeyError):  # KeyError: an enum's member that is none
        _log.exception("run %s cannot be written; only its name and state are sent", run.run_id)
        message.Clear()
        message.run_id = run.run_id
        message.runnable = run.runnable
        message.state = RUN_STATE.numbers[run.state]
        fill_error(message.error, RunError(UNSENDABLE, "the server's log says more"))


def fill_run(message: run_pb2.Run, run: Run) -> None:
    """Writes a run into an empty message. Raises TypeError, ValueError or KeyError if it cannot."""
    message.run_id = run.run_id
    message.runnable = run.runnable
    message.session_id = run.session_id
    message.user_id = run.user_id
    message.parent_run_id = run.parent_run_id
    message.state = RUN_STATE.numbers[run.state]
    message.input = run.input
    if run.cancellation is not None:
        fill_cancellation(message.cancellation, run.cancellation)
    message.output = run.output
    if run.output_data is not None:
        set_data(message.output_data, run.output_data)
    if run.error is not None:
        fill_error(message.error, run.error)
    fill_usage(message.usage, run.usage)
    for call in run.tool_calls:
        fill_tool_call(message.tool_calls.add(), call)
    message.labels.update(run.labels)
    set_time(message.create_time, run.create_time)
    _set_time_if_come(message.start_time, run.start_time)
    _set_time_if_come(message.end_time, run.end_time)
    _set_time_if_come(message.expire_time, run.expire_time)
    message.last_sequence = run.last_sequence
    message.abandoned = run.abandoned
    message.killed_processes.extend(run.killed_processes)
    if run.finish_reason is not None:
        message.finish_reason = FINISH_REASON.numbers[run.finish_reason]
    message.tenant = run.tenant
    message.owner = run.owner
    message.retry_of = run.retry_of
    if run.limits != _NONE:
        message.limits.CopyFrom(limits_message(run.limits))
    if run.progress is not None:
        message.progress.done = run.progress.done
        message.progress.total = run.progress.total
        message.progress.note = run.progress.note
    fill_parts(message.parts, (part.brief() for part in run.parts))


def run_of(message: run_pb2.Run) -> Run:
    """Reads a run."""
    return Run(
        run_id=message.run_id,
        runnable=message.runnable,
        state=RUN_STATE.read(message.state),
        session_id=message.session_id,
        user_id=message.user_id,
        parent_run_id=message.parent_run_id,
        input=message.input,
        cancellation=cancellation_of(message.cancellation)
        if message.HasField("cancellation")
        else None,
        output=message.output,
        output_data=data_of(message.output_data) if message.HasField("output_data") else None,
        error=error_of(message.error) if message.HasField("error") else None,
        usage=usage_of(message.usage),
        tool_calls=tool_calls_of(message.tool_calls),
        labels=dict(message.labels),
        create_time=time_of(message.create_time),
        start_time=time_of(message.start_time),
        end_time=time_of(message.end_time),
        expire_time=time_of(message.expire_time),
        last_sequence=message.last_sequence,
        abandoned=message.abandoned,
        killed_processes=tuple(message.killed_processes),
        finish_reason=FINISH_REASON.find(message.finish_reason),
        tenant=message.tenant,
        owner=message.owner,
        parts=parts_of(message.parts),
        retry_of=message.retry_of,
        limits=limits_of(message.limits) if message.HasField("limits") else _NONE,
        progress=_progress_of(message.progress) if message.HasField("progress") else None,
    )


def _progress_of(message: run_pb2.RunProgress) -> Progress:
    return Progress(message.done, message.total, message.note)


def page_message(
    runs: Iterable[Run], next_page_token: str = ""
) -> run_service_pb2.ListRunsResponse:
    """Writes one page of runs, without what can be long: input, output and tool calls."""
    message = run_service_pb2.ListRunsResponse(next_page_token=next_page_token)
    for run in runs:
        brief = replace(run, input="", output="", output_data=None, tool_calls=(), parts=())
        message.runs.append(run_message(brief))
    return message


def run_token_answer(token: str, expires_at: float) -> run_service_pb2.CreateRunTokenResponse:
    """Writes a token for one run."""
    message = run_service_pb2.CreateRunTokenResponse(token=token)
    set_time(message.expire_time, expires_at)
    return message


def receipt_message(receipt: Receipt) -> run_service_pb2.CancelRunResponse:
    """Writes a receipt. Never fails."""
    message = run_service_pb2.CancelRunResponse(outcome=CANCEL_OUTCOME.numbers[receipt.outcome])
    if receipt.run is not None:
        _fill_run_in_any_case(message.run, receipt.run)
    _set_time_if_come(message.accept_time, receipt.accept_time)
    _set_time_if_come(message.deliver_time, receipt.deliver_time)
    _set_time_if_come(message.stop_time, receipt.stop_time)
    return message


def receipt_of(message: run_service_pb2.CancelRunResponse) -> Receipt:
    """Reads a receipt."""
    return Receipt(
        outcome=CANCEL_OUTCOME.read(message.outcome),
        run=run_of(message.run) if message.HasField("run") else None,
        accept_time=time_of(message.accept_time),
        deliver_time=time_of(message.deliver_time),
        stop_time=time_of(message.stop_time),
    )


def cancel_results_message(
    results: Iterable[CancelResult],
) -> run_service_pb2.CancelRunsResponse:
    """Writes what a cancel of many did to each run."""
    message = run_service_pb2.CancelRunsResponse()
    for made in results:
        message.results.add(
            run_id=made.run_id,
            outcome=CANCEL_OUTCOME.numbers[made.outcome] if made.outcome else None,
            tenant=made.tenant,
            owner=made.owner,
        )
    return message


def cancel_results_of(message: run_service_pb2.CancelRunsResponse) -> list[CancelResult]:
    """Reads what a cancel of many did to each run."""
    return [
        CancelResult(
            result.run_id,
            CANCEL_OUTCOME.read(result.outcome) if result.outcome else None,
            result.tenant,
            result.owner,
        )
        for result in message.results
    ]


def erased_message(erased: Erased) -> run_service_pb2.EraseRunsResponse:
    """Writes what was erased."""
    return run_service_pb2.EraseRunsResponse(
        runs=erased.runs, cancels=erased.cancels, live_run_ids=erased.live
    )


def erased_of(message: run_service_pb2.EraseRunsResponse) -> Erased:
    """Reads what was erased."""
    return Erased(message.runs, message.cancels, tuple(message.live_run_ids))


# --- their parts


def fill_cancellation(message: cancel_pb2.Cancellation, cancellation: Cancellation) -> None:
    """Writes an accepted stop into an empty message."""
    message.cause = CANCEL_CAUSE.numbers[cancellation.cause]
    message.actor = cancellation.actor
    message.reason = cancellation.reason
    message.mode = CANCEL_MODE.numbers[cancellation.mode]
    message.limit = cancellation.limit
    set_time(message.accept_time, cancellation.accept_time)
    message.claimed_actor = cancellation.claimed_actor


def cancellation_of(message: cancel_pb2.Cancellation) -> Cancellation:
    """Reads an accepted stop."""
    return Cancellation(
        cause=CANCEL_CAUSE.read(message.cause),
        actor=message.actor,
        reason=message.reason,
        mode=CANCEL_MODE.read(message.mode),
        limit=message.limit,
        accept_time=time_of(message.accept_time),
        claimed_actor=message.claimed_actor,
    )


def fill_error(message: error_pb2.RunError, error: RunError) -> None:
    """Writes a run's failure into an empty message."""
    message.type = error.type
    message.message = error.message


def error_of(message: error_pb2.RunError) -> RunError:
    """Reads a run's failure."""
    return RunError(message.type, message.message)


def fill_usage(message: run_pb2.Usage, usage: Usage) -> None:
    """Writes usage into an empty message."""
    message.SetInParent()
    message.input_tokens = usage.input_tokens
    message.output_tokens = usage.output_tokens
    message.reasoning_tokens = usage.reasoning_tokens
    message.cached_tokens = usage.cached_tokens
    message.total_tokens = usage.total_tokens
    if usage.cost is None:
        message.cost_unknown = True
    else:
        message.cost = usage.cost
    message.estimated = usage.estimated
    message.steps = usage.steps
    message.tool_calls = usage.tool_calls


def usage_of(message: run_pb2.Usage) -> Usage:
    """Reads usage."""
    return Usage(
        input_tokens=message.input_tokens,
        output_tokens=message.output_tokens,
        reasoning_tokens=message.reasoning_tokens,
        cached_tokens=message.cached_tokens,
        cost=None if message.cost_unknown else message.cost,
        estimated=message.estimated,
        steps=message.steps,
        tool_calls=message.tool_calls,
    )


def fill_tool_call(message: run_pb2.ToolCall, call: ToolCall) -> None:
    """Writes a tool call into an empty message."""
    message.tool_call_id = call.tool_call_id
    message.tool_name = call.tool_name
    message.arguments = call.arguments
    message.result = call.result
    message.state = TOOL_CALL_STATE.numbers[call.state]
    set_time(message.start_time, call.start_time)
    _set_time_if_come(message.end_time, call.end_time)
    message.run_id = call.run_id


def tool_call_of(message: run_pb2.ToolCall) -> ToolCall:
    """Reads a tool call."""
    return ToolCall(
        tool_call_id=message.tool_call_id,
        tool_name=message.tool_name,
        arguments=message.arguments,
        result=message.result,
        state=TOOL_CALL_STATE.read(message.state),
        start_time=time_of(message.start_time),
        end_time=time_of(message.end_time),
        run_id=message.run_id,
    )


def tool_calls_of(messages: Iterable[run_pb2.ToolCall]) -> tuple[ToolCall, ...]:
    """Reads tool calls."""
    return tuple(map(tool_call_of, messages))


def _set_time_if_come(message: Timestamp, seconds: float) -> None:
    if seconds:
        set_time(message, seconds)


# --- what is on offer


def runnable_message(info: RunnableInfo) -> runnable_pb2.Runnable:
    """Writes what callers may know of a runnable."""
    return runnable_pb2.Runnable(
        name=info.name,
        kind=RUNNABLE_KIND.numbers[info.kind],
        id=info.id,
        display_name=info.display_name,
        description=info.description,
        members=info.members,
        takes=runnable_pb2.Takes(
            parts=info.takes.parts,
            messages=info.takes.messages,
            data_types=info.takes.data_types,
            uri_types=info.takes.uri_types,
        ),
    )


def runnable_of(message: runnable_pb2.Runnable) -> RunnableInfo:
    """Reads what is known of a runnable."""
    return RunnableInfo(
        name=message.name,
        kind=RUNNABLE_KIND.read(message.kind),
        id=message.id,
        display_name=message.display_name,
        description=message.description,
        members=tuple(message.members),
        takes=Takes(
            message.takes.parts,
            message.takes.messages,
            tuple(message.takes.data_types),
            tuple(message.takes.uri_types),
        ),
    )
