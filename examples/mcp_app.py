"""An agent with the tools of an MCP server: `pullcord serve examples/mcp_app.py:agent`.

In a checkout: `pip install '.[mcp,openai]'`. It needs OPENAI_API_KEY. This file is the server, too.
"""

import sys

from mcp.server.mcpserver import MCPServer
from pullcord.agent import Agent, McpServer
from pullcord.models.openai import OpenAIChat

server = MCPServer("facts")
agent = Agent(
    name="storyteller",
    model=OpenAIChat(id="gpt-5-mini"),
    instructions="Tell stories.",
    mcp=[McpServer([sys.executable, __file__])],
)


@server.tool()
async def look_up(topic: str) -> str:
    """Looks up what is known about a topic."""
    return f"{topic} is well known"


if __name__ == "__main__":
    server.run("stdio")
