"""The served runnables of the transports' tests, which the verbs' tests use too."""

from tests.transports.conftest import serve as serve
