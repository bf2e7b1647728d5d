"""Translates a graph's stream and its callbacks into reports.

Text, steps and custom events come as parts of the stream. Model calls and tool calls come by
callbacks, which are awaited before they begin, wherever in the graph that is.
"""

from typing import Any

from langchain_core.callbacks import BaseCallbackHandler

from pullcord.adapters.foreign.children import id_of
from pullcord.adapters.foreign.own_loop import OwnLoop
from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.values import text_of
from pullcord.run.events import Source, ToolCallState
from pullcord.run.plain import class_name
from pullcord.run.usage import Usage


class Parts(BaseCallbackHandler):  # type: ignore[misc]  # an extra's class, not checked
    """One run's parts and callbacks."""

    run_inline = True
    """Called in the order in which things happen, and before they do."""

    def __init__(
        self, graph: Any, report: Report, run_id: str, speaks: frozenset[str] | None
    ) -> None:
        self._report = report
        self._run_id = run_id
        self._speaks = speaks
        self._tools, self._tool_nodes = _tools_of(graph)
        self._calls: dict[Any, tuple[str, Source | None]] = {}
        self._asked: dict[Any, Source | None] = {}
        """By call of a model: the child whose it is; None: the run's own."""
        self._loop = OwnLoop()
        self._waiting: dict[str, str] = {}
        """By task, the tool call that it executes; "" if it executes several."""
        self._begun: set[str] = set()
        """The tasks that were told to have begun. After a pause the graph tells of them again."""
        self._done: set[str] = set()
        """Those that were told to have ended. LangGraph 1.1 tells of them again, too."""
        self.values: Any = None
        """The state as it was last told."""

    def go_on(self, tasks: Any) -> None:
        """Knows the tasks of a graph that paused, of its subgraphs as well, as begun."""
        for task in tasks:
            self._begun.add(str(task.id))
            self.go_on(getattr(task.state, "tasks", ()))

    # --- parts of the stream

    def take(self, part: Any) -> None:
        """Reports a part."""
        ns, data = part["ns"], part["data"]
        match part["type"]:
            case "messages":
                self._message(ns, *data)
            case "tasks":
                self._task(ns, data)
            case "custom":
                named = data if isinstance(data, dict) else {"value": data}
                self._report.custom("custom", named, self._child(ns))
            case "values" if not ns:
                self.values = data

    def _message(self, ns: tuple[str, ...], message: Any, metadata: Any) -> None:
        if message.type not in ("ai", "AIMessageChunk"):
            return
        call = str(message.id or "").removeprefix("lc_run--")
        source = self._child(ns, metadata.get("lc_agent_name"))
        for chunk in getattr(message, "tool_call_chunks", ()):
            self._report.requested(chunk.get("args") or "", call=call)
        self._report.reasoning(_reasoning(message), source, call=call)
        if self._speaks is None or metadata.get("langgraph_node") in self._speaks:
            node = "/".join((*_names(ns), str(metadata.get("langgraph_node"))))
            self._report.text(str(message.text), source, call=call, speaker=node)
        else:
            self._report.requested(str(message.text), call=call)

    def _task(self, ns: tuple[str, ...], task: Any) -> None:
        id, name = str(task["id"]), str(task["name"])
        source = self._step_source(ns)
        if "triggers" in task:
            if id not in self._begun:
                self._begun.add(id)
                self._report.step_started(id, name, source)
            return
        if task.get("interrupts") or id in self._done:  # it waits, or is told of again
            return
        self._done.add(id)
        error = task.get("error")
        told = None if error is None else self._report.error(error)
        if not ns:
            self._report.child_ended(f"{self._run_id}:{id}", error=told)
        self._report.step_ended(id, name, error=told, source=source)

    # --- subgraphs

    def _step_source(self, ns: tuple[str, ...]) -> Source | None:
        """Steps of a subgraph have its path."""
        if not ns:
            return None
        if (child := self._child(ns)) is not None:
            return child
        return self._report.step_source(_names(ns))

    def _child(self, ns: tuple[str, ...], name: str | None = None) -> Source | None:
        """An agent that a tool asks is a child run; any other subgraph is part of the run."""
        if not ns or ns[0].partition(":")[0] not in self._tool_nodes:
            return None
        _, _, task = ns[0].partition(":")
        run_id = f"{self._run_id}:{task}"
        known = self._report.child(run_id)
        if known is None and name is not None:
            within = self._waiting.get(task, "")
            return self._report.child_started(run_id, id_of(name), name, within=within)
        return known

    # --- callbacks; those of sync nodes come in other threads

    async def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: Any, metadata: Any = None, **_: Any
    ) -> None:
        """A model is about to be asked."""
        told = metadata or {}
        said = "\n".join(str(message.text) for batch in messages for message in batch)
        ns = tuple(_namespace(told)[:-1])

        def begin() -> bool:
            source = self._asked[run_id] = self._child(ns, told.get("lc_agent_name"))
            return self._report.model_began(
                str(run_id),
                said=said,
                model=told.get("ls_model_name") or "",
                provider=told.get("ls_provider") or "",
                source=source,
            )

        await self._loop.begin(begin)

    def on_llm_end(self, response: Any, *, run_id: Any, **_: Any) -> None:
        """A model's answer has ended."""
        generations = response.generations
        message = getattr(generations[0][0], "message", None) if generations else None
        told = getattr(message, "response_metadata", None) or {}
        reason = told.get("finish_reason") or told.get("stop_reason")
        used = getattr(message, "usage_metadata", None)

        def report() -> None:
            source = self._asked.pop(run_id, None)
            self._report.finish_reason(reason, source, call=str(run_id))
            self._report.model_ended(_usage(used) if used else None, str(run_id))

        self._loop.do(report)

    def on_llm_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
        """A model could not answer, or its call was cancelled."""
        call = str(run_id)
        if isinstance(error, Exception):
            self._loop.do(lambda: self._report.model_failed(class_name(error), call))
        else:
            self._loop.do(lambda: self._report.model_interrupted(call))

    async def on_tool_start(
        self,
        serialized: Any,
        input_str: str,
        *,
        run_id: Any,
        inputs: Any = None,
        metadata: Any = None,
        tool_call_id: str | None = None,
        **_: Any,
    ) -> None:
        """A tool is about to be called."""
        name = str((serialized or {}).get("name", "tool"))
        *ns, own = _namespace(metadata or {})
        arguments = inputs if inputs is not None else input_str
        id = tool_call_id or str(run_id)

        def begin() -> bool:
            source = self._child(tuple(ns))
            self._calls[run_id] = (id, source)
            if source is None:
                _, _, task = own.partition(":")
                self._waiting[task] = "" if task in self._waiting else id
            return self._report.tool_started(
                id, name, arguments, is_async=self._tools.get(name), source=source
            )

        await self._loop.begin(begin)

    def on_tool_end(self, output: Any, *, run_id: Any, **_: Any) -> None:
        """A tool has returned."""
        failed = getattr(output, "status", "") == "error"
        state = ToolCallState.FAILED if failed else ToolCallState.COMPLETED
        self._tool_ended(run_id, getattr(output, "content", output), state)

    def on_tool_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
        """A tool has raised."""
        if isinstance(error, Exception) and not _is_interrupt(error):
            words = f"{type(error).__name__}: {error}"
            self._tool_ended(run_id, words, ToolCallState.FAILED)
        elif isinstance(error, Exception):
            self._tool_ended(run_id, "it waits for a decision", ToolCallState.INTERRUPTED)

    def _tool_ended(self, run_id: Any, result: Any, state: ToolCallState) -> None:
        def report() -> None:
            id, source = self._calls.pop(run_id, ("", None))
            self._report.tool_ended(id, text_of(result), state, source=source)

        self._loop.do(report)


def _tools_of(graph: Any) -> tuple[dict[str, bool], frozenset[str]]:
    """Whether each tool is async, by name, and the nodes that call tools, of all subgraphs."""
    tools: dict[str, bool] = {}
    nodes: set[str] = set()
    graphs = [graph, *(sub for _, sub in graph.get_subgraphs(recurse=True))]
    for node_name, node in (item for each in graphs for item in each.nodes.items()):
        found = getattr(node.bound, "tools_by_name", None)
        if isinstance(found, dict):
            nodes.add(node_name)
            for name, tool in found.items():
                tools[name] = getattr(tool, "coroutine", None) is not None
    return tools, frozenset(nodes)


def _names(ns: tuple[str, ...]) -> tuple[str, ...]:
    """The nodes around something, without their tasks."""
    return tuple(segment.partition(":")[0] for segment in ns)


def _namespace(metadata: Any) -> list[str]:
    """Where something happens: a segment for each task around it, the innermost last."""
    # `checkpoint_ns` is the outer one's where a graph is called by a tool.
    ns = metadata.get("langgraph_checkpoint_ns") or metadata.get("checkpoint_ns") or ""
    return str(ns).split("|")


def _reasoning(message: Any) -> str:
    if isinstance(told := message.additional_kwargs.get("reasoning_content"), str):
        return told
    if not isinstance(message.content, list):
        return ""
    blocks = (block for block in message.content if isinstance(block, dict))
    return "".join(
        str(block.get("thinking") or block.get("reasoning") or "")
        for block in blocks
        if block.get("type") in ("thinking", "reasoning")
    )


def _usage(used: Any) -> Usage:
    read = used.get("input_token_details") or {}
    written = used.get("output_token_details") or {}
    return Usage(
        input_tokens=used.get("input_tokens", 0),
        output_tokens=used.get("output_tokens", 0),
        reasoning_tokens=written.get("reasoning", 0) or 0,
        cached_tokens=read.get("cache_read", 0) or 0,
    )


def _is_interrupt(error: BaseException) -> bool:
    return type(error).__name__ in ("GraphInterrupt", "NodeInterrupt")
