"""Every test in this folder drives a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest

from tests.support.browser import Show, show

HERE = Path(__file__).parent
FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Show]:
    """A fresh server and browser; after a failure every page's picture is kept."""
    async with show() as opened:
        yield opened
        if request.node.stash.get(FAILED, False):
            await opened.keep_pictures(request.node.name)
