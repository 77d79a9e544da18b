"""The documents are held to the code: what is missing or dead fails here."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from interact.protocol import REFUSAL_CODES, BusError, Disconnect, Event, Reason, Role

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PINNED = re.compile(r"^([a-z0-9][a-z0-9._-]*)==", re.MULTILINE)


def protocol_pages() -> str:
    """`docs/protocol.md` and the pages it is made of."""
    return "\n".join(page.read_text() for page in sorted(ROOT.glob("docs/protocol*.md")))


def anchors(text: str) -> set[str]:
    """Anchors a Markdown page offers, by the usual rule for headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for target in LINK.findall(page.read_text()):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        if not file.exists() or (
            anchor and file.suffix == ".md" and anchor not in anchors(file.read_text())
        ):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("lock", ["requirements.lock", "scripts/node.lock"])
def test_every_pinned_python_package_has_a_line(lock: str) -> None:
    page = (ROOT / "docs/dependencies.md").read_text()
    pinned = set(PINNED.findall((ROOT / lock).read_text()))
    assert {name for name in pinned if f"| {name} |" not in page} == set()


@pytest.mark.parametrize("folder", ["clients/web", "tests/foreign"])
def test_every_direct_node_package_has_a_line(folder: str) -> None:
    page = (ROOT / "docs/dependencies.md").read_text()
    package = json.loads((ROOT / folder / "package.json").read_text())
    direct = {*package.get("dependencies", {}), *package.get("devDependencies", {})}
    assert {name for name in direct if f"| {name} |" not in page} == set()


def test_lock_files_name_no_download_host() -> None:
    locks = [
        "requirements.lock",
        "scripts/node.lock",
        "clients/web/package-lock.json",
        "tests/foreign/package-lock.json",
    ]
    for lock in locks:
        text = (ROOT / lock).read_text()
        assert '"resolved"' not in text, lock
        assert re.search(r"(--index-url|--find-links|@ https?://)", text) is None, lock


@pytest.mark.parametrize("vocabulary", [Event, Reason, Role])
def test_protocol_page_names_every_word(vocabulary: type[Event | Reason | Role]) -> None:
    page = protocol_pages()
    assert [word.value for word in vocabulary if f"`{word.value}`" not in page] == []


def test_protocol_page_names_every_code() -> None:
    page = protocol_pages()
    codes = [*REFUSAL_CODES.values(), *(int(c) for c in BusError), *(int(c) for c in Disconnect)]
    assert [code for code in codes if re.search(rf"\b{code}\b", page) is None] == []


def test_nothing_generated_is_committed() -> None:
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    generated = ("server/static/", ".setup/", ".venv/", "node_modules/")
    assert [f for f in files if f.startswith(generated) or "/node_modules/" in f] == []
