"""Options that all tests share."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fault-rounds",
        type=int,
        default=3,
        metavar="N",
        help="how often the fault tests kill a process (make faults: 50)",
    )


@pytest.fixture
def fault_rounds(request: pytest.FixtureRequest) -> int:
    """How many times a fault test strikes."""
    rounds: int = request.config.getoption("--fault-rounds")
    return rounds
