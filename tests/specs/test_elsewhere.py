"""What other libraries call a term leads to a term that there is."""

from __future__ import annotations

import pytest

from lossc.compiler.library import home_of, known_elsewhere


@pytest.mark.parametrize("name", sorted(known_elsewhere()))
def test_leads_to_a_term(name: str) -> None:
    assert home_of(known_elsewhere()[name]) is not None
    assert home_of(name) is None
