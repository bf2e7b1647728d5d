"""The OpenAPI page, and requests of every shape that it allows and does not: no 5xx."""

import contextlib
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from pullcord import RunServer
from pullcord.stores.memory import MemoryStore
from pullcord.v1 import run_service_pb2 as v1
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from tests.transports.harness import make_settings
from tests.transports.http.agents import speaker
from tests.transports.http.web import SERVICE, Browser


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = RunServer([speaker], settings=make_settings(http="127.0.0.1:0"), store=MemoryStore)
    with server:
        browser = Browser(server.http_url)
        browser.start("speaker", "r1")
        list(browser.events("r1"))
        browser.leave()
        yield server.http_url


def test_no_request_is_a_fault_of_the_server(url: str) -> None:
    """Whatever is asked, the answer is one that the page tells of, and none is a 5xx."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    checks = [not_a_server_error, status_code_conformance, content_type_conformance]
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if {"AgentOS teams", "AgentOS workflows"} & set(operation.tags or ()):
            continue  # the handlers are those of agents
        for mode in GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=12,
                deadline=None,
                suppress_health_check=[*HealthCheck],
                database=None,
                derandomize=True,
            )
            def ask(case: schemathesis.Case) -> None:
                nonlocal asked
                asked += 1
                headers = {**(case.headers or {}), "connect-timeout-ms": "300"}
                response = case.call(timeout=20, headers=headers)
                if response.status_code != 504:  # a caller's own deadline
                    case.validate_response(response, checks=checks)

            with contextlib.suppress(Unsatisfiable):  # what takes nothing cannot be given wrong
                ask()
    assert asked > 100


def test_every_call_without_a_stream_is_on_the_page(url: str) -> None:
    """Each rpc, each native route, and a schema for each message that they name."""
    page = Browser(url).get("/openapi.json").json()
    methods = v1.DESCRIPTOR.services_by_name["RunService"].methods
    expected = {f"{SERVICE}{m.name}" for m in methods if not m.server_streaming}
    assert expected | {"/v1/runs/{run_id}/events", "/v1/runs/{run_id}/cancel"} <= set(page["paths"])
    names = set(page["components"]["schemas"])
    assert {"RunSpec", "RunEvent", "CancelRunResponse", "Problem"} <= names
