"""The product as `pullcord serve` runs it: this control process, and a worker that executes.

Settings come from the environment. Log lines go nowhere: nothing here configures logging.
"""

from pullcord.control import ControlServer
from pullcord.settings import read_settings

from tests.bench.process import answer, end_with_parent


def main() -> None:
    end_with_parent()
    server = ControlServer("tests.bench.servers.app:server", read_settings())

    def ready(address: str) -> None:
        answer({"address": address, "http": server.http_url.removeprefix("http://")})

    server.serve("127.0.0.1:0", on_ready=ready)


if __name__ == "__main__":
    main()
