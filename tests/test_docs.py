"""The documentation names files that exist and commands that are understood."""

import re
import shlex
from pathlib import Path

import pytest

from fastcifar import recipes
from fastcifar.arguments import parse_train

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
COMMAND = re.compile(r"^ {4}(?:\.venv/bin/)?(fastcifar [^#\n]*)", re.MULTILINE)


def commands():
    for page in PAGES:
        for found in COMMAND.findall(page.read_text(encoding="utf-8")):
            if "…" not in found:  # a place for the reader's own folder
                yield pytest.param(found.strip(), id=f"{page.name}: {found.strip()}")


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command):
    _, name, *arguments = shlex.split(command)
    if name == "train":
        assert parse_train(arguments).config
    else:
        assert name in ("recipes", "evaluate", "augment", "bench", "prepare")


def test_there_are_commands_to_check():
    assert len(list(commands())) >= 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text):
        path, heading = target
        if path.startswith("http"):
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {path}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {slug(h) for h in headings}, f"{page.name} links to #{heading}"


def slug(heading: str) -> str:
    """A heading's anchor, as forges make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_readme_names_every_recipe():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in recipes.names():
        assert f"`{name}`" in readme
