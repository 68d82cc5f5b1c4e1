"""The page on training says what the tables say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from lossc.runtime.training import feed_sections
from lossc.runtime.training.feed_sections import FeedSection
from lossc.runtime.training.feeds import FEEDS
from lossc.runtime.training.planning import embedded_runs, plan_run
from lossc.runtime.training.runfile import Run

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def table(name: str) -> list[tuple[str, str, str]]:
    """The rows of a marked table: the name in front, and two columns."""
    return re.findall(r"^\| `(\w+)` +\|(.*)\|(.*)\|$", PAGE.partition(f"<!-- table: {name} -->")[2].partition("\n\n")[0], re.M)


def test_the_runs_and_the_kinds_of_feeds_are_those_that_there_are() -> None:
    assert {name for name, _, _ in table("runs")} == set(embedded_runs())
    (union, *_) = get_args(FeedSection)
    kinds = {get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(union)}
    assert {name for name, _, _ in table("kinds")} == kinds
    documented = re.findall(r"^\| `(\w+)` ", feed_sections.__doc__ or "", re.M)
    assert set(documented) == kinds


def test_the_feeds_are_those_of_the_table() -> None:
    rows = table("feeds")
    names = re.compile(r"`([\w.]+)`")
    written = {name: (set(names.findall(columns)), set(names.findall(answers))) for name, columns, answers in rows}
    assert written == {name: ({c.name for c in feed.columns}, set(feed.answers)) for name, feed in FEEDS.items()}


def test_the_run_file_of_the_page_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, _ = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    Path("dpo_sft.loss").write_text(
        "use std.settings.pairs\nuse std.preference (dpo)\nparam beta : positive = 1\n"
        "minimize\n  a : mean[pair](dpo(margin, beta = beta))\nsubject to drift : mean[pair](margin) <= 1\n"
    )
    Path("run.yaml").write_text(text, encoding="utf-8")
    run = plan_run("run.yaml", {}, resume=False).run
    assert run.model_fields_set | {"device"} == set(Run.model_fields)


def test_every_file_of_a_run_is_named() -> None:
    from lossc.runtime.training import folder

    assert folder.__doc__ is not None
    names = re.findall(r"^\| `([\w.]+)", folder.__doc__, re.M)
    assert names
    assert all(f"`{name}" in PAGE for name in names)
