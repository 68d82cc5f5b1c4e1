"""`python -m lossc.grammar`: writes the tables after `lossc.lark` was changed."""

from __future__ import annotations

from lossc.grammar.tables import write

write()
