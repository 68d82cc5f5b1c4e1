"""The pages of the zoo are those that its files give."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossc.compiler.zoo_pages import families, family_page, index_page

PAGES = Path(__file__).parents[2] / "docs" / "zoo"


@pytest.mark.parametrize("family", families())
def test_page_of_a_family(family: str) -> None:
    page = PAGES / f"{family}.md"
    command = f"run `python -m lossc.compiler.zoo_pages docs/zoo {family}`"
    assert page.exists(), command
    assert page.read_text(encoding="utf-8") == family_page(family), command


def test_the_list_of_families() -> None:
    page = (PAGES / "README.md").read_text(encoding="utf-8")
    assert page == index_page(), "run `python -m lossc.compiler.zoo_pages docs/zoo`"
    assert {path.name for path in PAGES.iterdir()} <= {f"{family}.md" for family in families()} | {"README.md"}
