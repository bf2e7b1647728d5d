"""AgentOS's REST, as far as agno's own unchanged client and simple pages need it.

Agents, teams and workflows are runnables, and runs are runs. `forms` and `asked` read requests,
`items`, `frames` and `catalog` write answers; none of them does anything else. What is better here
than there (receipts, 404, one end) is said in docs/compatibility.md.
"""
