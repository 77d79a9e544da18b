"""Every test in this folder drives a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.browser import Show, show

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)


@pytest.fixture
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Show]:
    """A fresh server and browser."""
    async with show(request.node.name) as opened:
        yield opened
