"""What the documentation points at exists: files, anchors, make targets, alarms' runbooks and stack.py's commands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def listed(pattern: str) -> list[Path]:
    """The files of the project that have such names."""
    names = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [ROOT / name for name in names]


DOCUMENTS = listed("*.md")
SOURCES = listed("*.rs")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def named(document: Path) -> str:
    return str(document.relative_to(ROOT))


def prose(document: Path) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{link} is not there"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_make_targets_exist(document: Path) -> None:
    mentioned = set(re.findall(r"`make ([a-z-]+)`", document.read_text()))
    mentioned |= set(re.findall(r"^make ([a-z-]+)", document.read_text(), re.MULTILINE))
    assert mentioned <= TARGETS


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_commands_of_the_local_stack_are_understood(document: Path) -> None:
    for line in re.findall(r"^(?:\$ )?\.venv/bin/python infra/local/stack\.py .*$", document.read_text(), re.MULTILINE):
        words = shlex.split(line.removeprefix("$ "), comments=True)
        parsed = subprocess.run([sys.executable, *words[1:], "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert parsed.returncode == 0, f"{line}\n{parsed.stderr}"


def holds_test(module: str, test: str) -> bool:
    """Whether a file, folder or crate of that name has the test."""
    of_module = [source for source in SOURCES if module in (source.stem, source.parent.name, source.parent.parent.name)]
    return any(re.search(rf"fn {test}\(", source.read_text()) for source in of_module)


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_the_tests_that_are_named_exist(document: Path) -> None:
    for module, test in re.findall(r"`([a-z_]+)::([a-z][a-z0-9_]{15,})`", document.read_text()):
        assert holds_test(module, test), f"{module}::{test} is not there"


def test_the_two_commands_of_the_readme_are_what_ci_runs() -> None:
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert {"demo", "test"} <= TARGETS
