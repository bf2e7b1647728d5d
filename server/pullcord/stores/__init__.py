"""Where ended runs are kept. Each store passes the same contract suite, tests/contracts."""
