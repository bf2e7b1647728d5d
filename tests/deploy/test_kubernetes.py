"""`deploy/kubernetes.yaml` against Kubernetes' schemas, as strictly as its server reads."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

_FILE = Path(__file__).parents[2] / "deploy" / "kubernetes.yaml"
_RESOURCES: list[dict[str, Any]] = list(yaml.safe_load_all(_FILE.read_text()))


@pytest.mark.parametrize("resource", _RESOURCES, ids=[read["kind"] for read in _RESOURCES])
def test_a_resource_is_what_kubernetes_takes(resource: dict[str, Any]) -> None:
    """No field is unknown, missing or of another type, in the newest version that is known."""
    kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def test_a_misspelt_field_is_seen() -> None:
    """The check would see a mistake."""
    wrong = next(read for read in _RESOURCES if read["kind"] == "Deployment") | {"spek": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)
