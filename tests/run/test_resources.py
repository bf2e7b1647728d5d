"""What a run needs of a machine, as its author says it."""

import pytest
from pullcord import Agent, OfflineModel, Parallel, Resources, Step, Team, Workflow, runnable
from pullcord.run.resources import ResourcesError


def says(input: str) -> str:
    return input


@pytest.mark.parametrize(
    ("said", "size"),
    [("4GiB", 4 * 2**30), ("512 MiB", 2**29), ("1.5G", 1_500_000_000), (2**30, 2**30)],
)
def test_memory_is_kept_as_bytes(said: int | str, size: int) -> None:
    """However it is said, so that two of one size are one set."""
    assert Resources(memory=said) == Resources(memory=size)
    assert Resources(memory=said).memory_bytes == size


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cpu", -1),
        ("cpu", float("nan")),
        ("cpu", float("inf")),
        ("cpu", 10**400),
        pytest.param("cpu", -(10**5000), id="cpu-long"),
        ("memory", "9" * 400 + "TiB"),
        ("memory", "8192TiB"),
        pytest.param("memory", 10**5000, id="memory-long"),
        ("cpu", "2"),
        ("cpu", True),
        ("gpu", -0.5),
        ("memory", "4"),
        ("memory", "four"),
        ("memory", "4GB/s"),
        ("memory", 1.5),
    ],
)
def test_an_error_names_the_field(field: str, value: object) -> None:
    """And says what would be valid."""
    with pytest.raises(ResourcesError, match=rf"^resources\.{field} ") as caught:
        Resources(**{field: value})  # type: ignore[arg-type]  # that is what it is about
    assert caught.value.field == field


def test_everything_that_can_be_run_takes_them() -> None:
    """Functions, agents, teams and workflows; a workflow asks for the most of its steps."""
    small, large = Resources(cpu=1, memory="1GiB"), Resources(cpu=0.5, gpu=1)

    @runnable(resources=small)
    def counts(input: str) -> str:
        return input

    agent = Agent(name="a", model=OfflineModel(), resources=large)
    both = Resources(cpu=1, memory="1GiB", gpu=1)
    assert counts.resources == small
    assert Team(name="t", model=OfflineModel(), members=[agent, counts]).resources == both
    steps = [Step("one", executor=says, resources=small), Parallel(agent, agent)]
    assert Workflow(name="w", steps=steps).resources == both
    assert Workflow(name="w", steps=[says]).resources is None
    assert Workflow(name="w", steps=steps, resources=Resources(cpu=9, gpu=1)).resources.cpu == 9  # type: ignore[union-attr]  # it was given


def test_a_whole_has_what_its_parts_need() -> None:
    """They execute in its worker; less is refused."""
    step = Step("one", executor=says, resources=Resources(gpu=1))
    with pytest.raises(ResourcesError, match=r"resources.gpu of 'w' is 0, .* needs 1"):
        Workflow(name="w", steps=[step], resources=Resources(cpu=4))
    with pytest.raises(TypeError, match="must be a Resources"):
        Agent(name="a", model=OfflineModel(), resources={"cpu": 1})  # type: ignore[arg-type]  # that is what it is about
