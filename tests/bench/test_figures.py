"""What figures say of the numbers that they were given."""

from tests.bench.figures import Figure, Series, Spread, at_least
from tests.bench.report import table


def test_a_ratio_can_say_how_many_times_less_the_product_takes() -> None:
    """Then it is the baseline by the product, round by round, and its goal is a least one."""
    series = Series("cancel", "ms", at_least(20), says_less=True)
    for product, baseline in ((1.0, 10.0), (2.0, 50.0), (1.0, 30.0)):
        series.add(product, baseline)
    figure = series.figure()
    assert figure.ratio == Spread(10.0, 25.0, 30.0)
    assert figure.is_met
    assert figure.plain()["says_less"]
    assert Figure.of(figure.plain()) == figure


def test_what_could_not_be_measured_is_a_line_with_the_reason() -> None:
    """It has no number and no goal, in the table as in JSON."""
    figure = Figure("AgentOS", "", note="left out: no network")
    assert figure.is_met is None
    assert figure.plain() == {"name": "AgentOS", "unit": "", "note": "left out: no network"}
    assert Figure.of(figure.plain()) == figure
    cells = [list(column.cells) for column in table("peers", [figure]).columns]
    assert cells == [["AgentOS"], [""], [""], [""], [""], ["left out: no network"]]
