"""A workflow of LlamaIndex: `pullcord serve examples/llama_index_app.py:workflow`.

In a checkout: `pip install '.[llama-index,openai]'`. It needs OPENAI_API_KEY.
"""

from openai import AsyncOpenAI
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class Piece(Event):
    delta: str  # what the run says


class Storyteller(Workflow):
    @step
    async def tell(self, ctx: Context, ev: StartEvent) -> StopEvent:
        asked = AsyncOpenAI().chat.completions
        stream = await asked.create(model="gpt-5-mini", messages=ev.messages, stream=True)
        async for chunk in stream:
            if chunk.choices and (text := chunk.choices[0].delta.content):
                ctx.write_event_to_stream(Piece(delta=text))
        return StopEvent()


workflow = Storyteller(timeout=None)  # its own default is 45 seconds
