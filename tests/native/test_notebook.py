"""In a notebook: the main thread has a running loop, and the stop button raises in it."""

import subprocess
import sys

import pytest

# As Jupyter's kernel does it: a cell is executed within a running loop, and interrupted by SIGINT.
CELL = """
import _thread, asyncio, threading
from pullcord import Agent, OfflineModel, RunClient, RunServer, RunState
from pullcord.local import local_engine

agent = Agent(name="Poet", model=OfflineModel())
interrupt = threading.Timer(0.3, _thread.interrupt_main)

def begin():
    if not (interrupt.is_alive() or interrupt.finished.is_set()):
        interrupt.start()

def in_process():
    for chunk in agent.run("x", stream=True, run_id="r"):
        if chunk.event == "RunContent":
            begin()

def at_a_server():
    stream = client.run("agents/poet", "x", run_id="r")
    for event in stream:
        if event.sequence > 1:
            begin()

async def cell():
    try:
        {function}()
    except KeyboardInterrupt as error:
        globals()["last_traceback"] = error  # as IPython keeps it
        print("interrupted")

loop = asyncio.new_event_loop()
if "{function}" == "in_process":
    loop.run_until_complete(cell())
    local_engine().wait_idle(30)  # it ends when its code has seen the stop
    print(local_engine().get("r").state)
else:
    from pullcord.settings import read_settings
    settings = read_settings(listen="127.0.0.1:0", store="memory")
    with RunServer([agent], settings=settings) as address, RunClient(address) as client:
        loop.run_until_complete(cell())
        print(client.wait("r", 30).state)
loop.close()
"""


@pytest.mark.parametrize("function", ["in_process", "at_a_server"])
def test_interrupting_a_cell_cancels_its_run(function: str) -> None:
    """Also where the notebook keeps the traceback, and by that the stream."""
    code = CELL.replace("{function}", function)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["interrupted", "cancelled"], done.stderr
