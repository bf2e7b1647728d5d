"""MCP servers whose tools an agent calls: as an author names them, and as a run uses them."""
