"""One group against every other of its model, on every benchmark. Pure functions of groups."""

from __future__ import annotations

from collections.abc import Sequence

from app.compare import groups as comparison
from app.compare import tables
from app.compare.groups import GetScores, Group
from app.compare.tables import Cell, Table, TableLine
from trainer.spec import statistics

KEY = "against"


def candidates(groups: Sequence[Group]) -> list[Group]:
    """Return the groups that another one of the same model can be compared with, the likeliest choice first.

    That is GRPO CoT, then other training with thinking, then the rest; among equals, the lowest rank.
    """
    models = [group.first.model for group in groups]
    several = [group for group in groups if models.count(group.first.model) > 1]
    return sorted(several, key=_likelihood)


def _likelihood(group: Group) -> tuple[bool, bool, bool, bool, int]:
    run = group.first
    is_other = (run.method != "grpo", run.style == "direct", run.method == "none")
    return (comparison.is_control(group), *is_other, run.lora_rank or 0)


def gains(groups: Sequence[Group], chosen: Group, benchmarks: Sequence[str], scores: GetScores) -> Table:
    """Return how many points `chosen` is ahead of every other group of its model, with Cohen's h."""
    lines = []
    others = [each for each in groups if each is not chosen and each.first.model == chosen.first.model]
    for other in others:
        for name in benchmarks:
            chosen_measured, other_measured = (comparison.measure_group(each, name, scores) for each in (chosen, other))
            if chosen_measured is None or other_measured is None:
                continue
            contrast = comparison.contrast(chosen, other, name, scores)
            shares = (chosen_measured.estimate.value, other_measured.estimate.value)
            effect = f"{statistics.cohens_h(*shares):+.2f}" if contrast.accuracy else tables.NO_VALUE
            seeds, n = (str(contrast.seeds), str(contrast.n)) if contrast.accuracy else (tables.NO_VALUE,) * 2
            texts = (other.label, tables.rank_text(other), name, seeds, n)
            cells = (
                *map(Cell, texts),
                tables.share_cell(chosen_measured),
                tables.share_cell(other_measured),
                Cell(effect),
            )
            lines.append(TableLine(cells, contrast=contrast))
    head = ("Compared with", "Rank", "Benchmark", "Seeds", "n", chosen.label, "The other", "Cohen's h", "Ahead by", "p")
    rank = f" r{chosen.first.lora_rank}" if chosen.first.lora_rank else ""
    return tables.with_verdicts(KEY, f"{chosen.label}{rank} against every other", head, lines, [])
