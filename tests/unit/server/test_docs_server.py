"""docs/operations.md and docs/protocol-http.md against the code."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from interact.protocol import Reason
from server.auth import ALLOWED
from server.config import Settings, option_of, toml_key_of
from server.doctor import CHECKS
from server.errors import STATUS
from server.metrics import Metrics

DOCS = Path(__file__).resolve().parents[3] / "docs"
OPERATIONS = (DOCS / "operations.md").read_text()
HTTP = (DOCS / "protocol-http.md").read_text()


@pytest.mark.parametrize("name", [item.name for item in fields(Settings)])
def test_every_setting_has_its_line_with_default_and_range(name: str) -> None:
    item = next(item for item in fields(Settings) if item.name == name)
    line = next(line for line in OPERATIONS.splitlines() if f"| `{toml_key_of(name)}` |" in line)
    assert option_of(item).allowed in line
    assert option_of(item).help in line
    assert line.count("|") == 6 and line.split("|")[5].strip()


def test_every_own_metric_has_its_line() -> None:
    shown = Metrics().render({}).decode()
    for line in shown.splitlines():
        if line.startswith("# TYPE "):
            assert f"| `{line.split()[2]}` |" in OPERATIONS, line


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_its_status(reason: Reason) -> None:
    assert f"| `{reason.value}` | {STATUS[reason].value} |" in HTTP


def test_every_check_of_the_doctor_is_explained() -> None:
    assert len(CHECKS) == 12
    for check in CHECKS:
        subject = check.__name__.removeprefix("check_").replace("_", "-").removesuffix("s")
        assert f"`{subject}" in OPERATIONS, subject


def test_every_role_of_the_action_table_is_named() -> None:
    for roles in ALLOWED.values():
        for role in roles:
            assert f"`{role.value}`" in HTTP or role.value in HTTP
