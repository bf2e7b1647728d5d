"""The product in one process, as `pullcord serve --in-process`: what a worker of its own is weighed
against. Everything else is measured through a worker.
"""

from tests.bench.process import answer, end_with_parent
from tests.bench.servers.app import server


def main() -> None:
    end_with_parent()
    server.serve("127.0.0.1:0", on_ready=lambda address: answer({"address": address}))


if __name__ == "__main__":
    main()
