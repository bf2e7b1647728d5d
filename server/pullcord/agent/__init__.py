"""The native agent: a model, its instructions and its tools.

It makes requests and calls tools; how a run is started, watched and stopped is the engine's.
"""

from pullcord.extras import needed

with needed("serve", "pullcord.agent"):
    from pullcord.agent.agent import Agent
    from pullcord.agent.mcp.server import McpServer
    from pullcord.native.tools import needs_approval

__all__ = ["Agent", "McpServer", "needs_approval"]
