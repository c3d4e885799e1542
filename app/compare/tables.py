"""The tables of a comparison as text with sources: measured rows, next to reported ones.

Pure functions of groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from app.compare import groups as comparison
from app.compare import reported
from app.compare.groups import Contrast, GetScores, Group, Measured
from app.shared import format, status
from store.db.rows import EvaluationRow
from store.db.values import flat
from trainer.spec import checkpoint, statistics
from trainer.spec.similarity import COS_AT

Kind = Literal["measured", "reported"]
NO_VALUE = format.UNKNOWN
BASELINES = {"blind": "blank image", "shuffled": "another image", "majority": "majority answer of train"}


class Cell(NamedTuple):
    text: str
    source: EvaluationRow | None = None
    """The evaluation behind it; of several seeds, the first one's."""


@dataclass(frozen=True)
class TableLine:
    cells: tuple[Cell, ...]
    kind: Kind = "measured"
    contrast: Contrast | None = None
    """The contrast in the last two cells, which are filled in once all p-values of the table are known."""


@dataclass(frozen=True)
class Table:
    key: str
    title: str
    head: tuple[str, ...]
    lines: tuple[TableLine, ...]
    notes: tuple[str, ...] = ()


def style_drift(groups: Sequence[Group], scores: GetScores) -> Table:
    """Compare accuracy and similarity with SFT, by model and method, on each run's own dataset at the lowest rank."""
    lines = []
    for model in _models(groups):
        of_model = _trained_datasets(_lowest_rank([group for group in groups if group.first.model == model]))
        sft = next((g for g in of_model if _matches(g, "sft", "cot")), None)
        for group in of_model:
            right = comparison.measure_group(group, group.first.dataset, scores)
            close = comparison.measure_group(group, group.first.dataset, scores, close=True)
            if right is None:
                continue
            against = _contrast(group, sft, group.first.dataset, scores)
            texts = (model_name(group), group.label, rank_text(group), str(right.seeds), str(right.n))
            cells = (
                *map(Cell, texts),
                share_cell(right),
                share_cell(close),
                Cell(_figure(right, "wellformed")),
                _best_sample(_base(groups, group, group.first.dataset), group.first.dataset),
            )
            lines += [TableLine(cells, contrast=against), *_baselines(group, scores)]
    head = (
        "Model",
        "Method",
        "Rank",
        "Seeds",
        "n",
        "Exact match",
        COS_AT,
        "Well-formed",
        "pass@k before training",
        "Δ vs SFT CoT",
        "p",
    )
    rows = [
        _reported(r.model, r.method, str(r.rank), "", "", _percent(r.accuracy), _percent(r.close), "", "", "", "")
        for r in reported.STYLE
    ]
    return with_verdicts("style", "Accuracy and similarity to the reference reasoning", head, lines, rows)


def generalization(groups: Sequence[Group], benchmarks: Sequence[str], scores: GetScores) -> Table:
    """Compare SFT with GRPO of the same model, style and rank on benchmarks that no run trained on."""
    lines = []
    for grpo in (group for group in groups if _matches(group, "grpo", None)):
        run = grpo.first
        sft = _counterpart(groups, grpo, "sft", run.lora_rank)
        for name in benchmarks:
            if name == run.dataset or (right := comparison.measure_group(grpo, name, scores)) is None:
                continue
            base = _base(groups, grpo, name)
            others = [comparison.measure_group(each, name, scores) if each else None for each in (base, sft)]
            texts = (model_name(grpo), name, grpo.label, rank_text(grpo), str(right.n))
            cells = (*map(Cell, texts), *map(share_cell, others), _best_sample(base, name), share_cell(right))
            lines.append(TableLine(cells, contrast=_contrast(grpo, sft, name, scores)))
    outcome = ("Before training", "SFT", "pass@k before training", "GRPO", "GRPO − SFT", "p")
    head = ("Model", "Benchmark", "Method", "Rank", "n", *outcome)
    rows = [
        _reported(
            *("Qwen2-VL 2B", name, "GRPO", "32 / 64", "", "", _percent(sft_share), "", _percent(grpo_share)),
            *(f"{100 * (grpo_share - sft_share):+.2f}", ""),
        )
        for name, sft_share, grpo_share in reported.BENCHMARKS
    ]
    return with_verdicts("benchmarks", "Benchmarks not used in training", head, lines, rows)


def ranks(groups: Sequence[Group], scores: GetScores) -> Table:
    """Compare each method's ranks with its own lowest rank."""
    lines = []
    for lowest in groups:
        same = [g for g in groups if g.first.lora_rank and _without_rank(g) == _without_rank(lowest)]
        if not same or lowest is not same[0] or len(same) < 2:
            continue
        for group in same:
            dataset = group.first.dataset
            if (right := comparison.measure_group(group, dataset, scores)) is None:
                continue
            close = comparison.measure_group(group, dataset, scores, close=True)
            texts = (model_name(group), group.label, rank_text(group), str(right.seeds), str(right.n))
            against = None if group is lowest else comparison.contrast(group, lowest, dataset, scores)
            lines.append(TableLine((*map(Cell, texts), share_cell(right), share_cell(close)), contrast=against))
    head = ("Model", "Method", "Rank", "Seeds", "n", "Exact match", COS_AT, "Δ vs lowest rank", "p")
    rows = [
        _reported(r.model, r.method, str(r.rank), "", "", _percent(r.accuracy), _percent(r.close), "", "")
        for r in reported.RANKS
    ]
    return with_verdicts("ranks", "LoRA rank", head, lines, rows)


def compare_scripts(groups: Sequence[Group], benchmarks: Sequence[str], scores: GetScores) -> Table:
    """Compare the last evaluation of each script with that of the first script, by benchmark."""
    lines = []
    for name in benchmarks:
        candidates = [(group, comparison.measure_group(group, name, scores)) for group in groups]
        measured = [(group, right) for group, right in candidates if right is not None]
        for group, right in measured:
            run, first = group.first, measured[0][0]
            texts = (run.name, status.METHODS.get(run.method, run.method), model_name(group), name)
            where = (str(right.evaluations[0].step), str(right.n))
            against = None if group is first else comparison.contrast(group, first, name, scores)
            lines.append(TableLine((*map(Cell, (*texts, *where)), share_cell(right)), contrast=against))
    head = ("Run", "Method", "Model", "Benchmark", "Step", "n", "Right", "Δ vs first run", "p")
    return with_verdicts("recorded", "Evaluations of scripts", head, lines, [])


def samples(groups: Sequence[Group], benchmarks: Sequence[str], scores: GetScores) -> Table:
    """Compare samples of first seeds: does training find answers that the base never, or rarely, gave?"""
    rows = []
    for group in groups:
        for name in benchmarks:
            evaluation = _sampled(group, name)
            greedy = comparison.measure_group(Group(group.members[:1]), name, scores)
            if greedy and (evaluation or _sampled(_base(groups, group, name), name)):
                rows.append((group, name, greedy, evaluation))
    sample_metrics = {key for *_, each in rows if each for key in each.metrics if key.startswith(("pass@", "maj@"))}
    keys = sorted(sample_metrics, key=lambda key: (not key.startswith("pass"), int(key.partition("@")[2])))
    lines = []
    for group, name, greedy, evaluation in rows:
        texts = (model_name(group), group.label, rank_text(group), name, str(greedy.n))
        shares = [None if evaluation is None else evaluation.metrics.get(key) for key in keys]
        cells = [Cell(NO_VALUE) if share is None else Cell(f"{100 * share:.1f} %", evaluation) for share in shares]
        lines.append(TableLine((*map(Cell, texts), share_cell(greedy), *cells)))
    notes = (
        "pass@k: probability that at least one of k samples is right. maj@k: probability that their most common answer "
        "is right. Both are means over all subsets of the samples. Greedy answers involve no sampling.",
    )
    head = ("Model", "Method", "Rank", "Benchmark", "n", "Greedy", *keys)
    return Table("samples", "Greedy and sampled answers", head, tuple(lines), notes)


def faithfulness(groups: Sequence[Group]) -> Table:
    """Return how often altered reasoning changed the answer, by checkpoint of each group's first seed."""
    lines = []
    for group in groups:
        for evaluation in group.members[0].evaluations:
            if evaluation.kind != "thinking" or evaluation.ended_at is None:
                continue
            figures = evaluation.metrics
            changed = [100 * figures[name] for name in ("changed", "changed_low", "changed_high")]
            texts = (model_name(group), group.label, rank_text(group), evaluation.benchmark, str(evaluation.step))
            share = Cell(f"{changed[0]:.1f} % ({changed[1]:.1f}–{changed[2]:.1f})", evaluation)
            rest = (Cell(str(figures["n"])), share, Cell(format.percent(figures.get("followed"))))
            lines.append(TableLine((*map(Cell, texts), Cell(str(evaluation.conditions.get("thinking"))), *rest)))
    head = (
        "Model",
        "Method",
        "Rank",
        "Benchmark",
        "Step",
        "Thinking",
        "n",
        "Answer changed",
        "Followed altered number",
    )
    notes = ("Well-formed answers are generated again after altered reasoning; unchanged ones did not depend on it.",)
    return Table("thinking", "CoT-faithfulness probe", head, tuple(lines), notes)


def with_verdicts(
    key: str, title: str, head: tuple[str, ...], lines: Sequence[TableLine], rows: Sequence[TableLine]
) -> Table:
    """Return a table with differences, p-values corrected within it, notes, and the reported rows."""
    raw = [line.contrast.p for line in lines if line.contrast and line.contrast.p is not None]
    corrected = iter(statistics.holm(raw))
    done = []
    for line in lines:
        is_tested = line.contrast is not None and line.contrast.p is not None
        done.append(
            replace(line, cells=(*line.cells, *_verdict(line.contrast, next(corrected) if is_tested else None)))
        )
    return Table(key, title, head, (*done, *rows), _notes([line.contrast for line in lines if line.contrast]))


def _verdict(contrast: Contrast | None, p: float | None) -> tuple[Cell, Cell]:
    if contrast is None:
        return Cell(NO_VALUE), Cell(NO_VALUE)
    if contrast.accuracy is None:
        return Cell(f"not comparable: {', '.join(contrast.reasons)}"), Cell(NO_VALUE)
    value, low, high = (100 * part for part in contrast.accuracy)
    return Cell(f"{value:+.1f} ({low:+.1f} to {high:+.1f})"), Cell(format.p_value(p))


def _notes(contrasts: Sequence[Contrast]) -> tuple[str, ...]:
    measured = [each for each in contrasts if each.accuracy is not None]
    if not measured:
        return ()
    seeds = {each.seeds for each in measured}
    of_two = (
        "One seed per side: differences are between two checkpoints, not between methods. p is from McNemar's exact "
        "test, the interval from a paired bootstrap over images."
    )
    of_methods = (
        "Three or more seeds per side: differences are between methods. p and interval use the same error: over seeds "
        "by Welch and Satterthwaite, over images by a bootstrap."
    )
    chosen = [*([of_two] if 1 in seeds else []), *([of_methods] if max(seeds) > 1 else [])]
    return (
        *chosen,
        "Differences are in percentage points, on examples that both sides answered; p is Holm-corrected.",
    )


def _contrast(group: Group, other: Group | None, benchmark: str, scores: GetScores) -> Contrast | None:
    return None if other is None or other is group else comparison.contrast(group, other, benchmark, scores)


def _models(groups: Sequence[Group]) -> list[str]:
    return list(dict.fromkeys(group.first.model for group in groups))


def _lowest_rank(groups: Sequence[Group]) -> list[Group]:
    known_ranks = [group.first.lora_rank for group in groups if group.first.lora_rank]
    return [group for group in groups if group.first.lora_rank in (None, min(known_ranks, default=None))]


def _trained_datasets(groups: Sequence[Group]) -> list[Group]:
    """Return the groups without bases that were tested on a dataset that no run trained on."""
    trained = {group.first.dataset for group in groups if group.first.method != "none"}
    return [group for group in groups if not trained or group.first.dataset in trained]


def _matches(group: Group, method: str, style: str | None) -> bool:
    run = group.first
    return run.method == method and style in (None, run.style) and not comparison.is_control(group)


def _counterpart(groups: Sequence[Group], group: Group, method: str, rank: int | None) -> Group | None:
    """Return the group of another method with the same model, quantization, style, dataset and rank."""
    run = group.first
    same = (run.model, run.quantization, run.dataset, run.style, rank)

    def key(other: Group) -> tuple[object, ...]:
        other_run = other.first
        return other_run.model, other_run.quantization, other_run.dataset, other_run.style, other_run.lora_rank

    return next((other for other in groups if _matches(other, method, None) and key(other) == same), None)


def _without_rank(group: Group) -> tuple[object, ...]:
    run = group.first
    fields = flat(run.config)
    other_fields = {k: v for k, v in fields.items() if k not in ("lora.rank", "lora.alpha", "name", "seed")}
    return run.model, run.method, group.label, str(sorted(other_fields.items(), key=str))


def model_name(group: Group) -> str:
    run = group.first
    name = run.model.rstrip("/").rpartition("/")[2]
    return f"{name} {run.quantization}" if run.quantization and run.quantization != "none" else name


def rank_text(group: Group) -> str:
    return str(group.first.lora_rank or NO_VALUE)


def share_cell(measured: Measured | None) -> Cell:
    if measured is None:
        return Cell(NO_VALUE)
    value, low, high = (100 * part for part in measured.estimate)
    return Cell(f"{value:.1f} % ({low:.1f}–{high:.1f})", measured.evaluations[0])


def _figure(measured: Measured, name: str) -> str:
    values = [each.metrics.get(name) for each in measured.evaluations]
    present = [value for value in values if value is not None]
    return format.percent(sum(present) / len(present)) if present else NO_VALUE


def _base(groups: Sequence[Group], group: Group, benchmark: str) -> Group | None:
    """Return the tested starting point of a group on a benchmark, or the group itself if it was not trained.

    That is the base model, or the run whose adapter the first seed started from, if exactly that checkpoint was tested.
    """
    run = group.first
    if run.method == "none":
        return group
    adapter = _adapter(group)
    if adapter:
        return _adapter_run(groups, adapter, benchmark)
    same = (run.model, run.quantization, run.style)
    untrained = (g for g in groups if _matches(g, "none", None) and not _adapter(g))
    same_model = (g for g in untrained if (g.first.model, g.first.quantization, g.first.style) == same)
    return next((each for each in same_model if comparison.latest_test(each.members[0], benchmark)), None)


def _adapter(group: Group) -> str:
    """Return `UID`, `UID:STEP` or a folder; empty if training started from the base model."""
    return str((group.first.config.get("model") or {}).get("adapter") or "")


def _adapter_run(groups: Sequence[Group], adapter: str, benchmark: str) -> Group | None:
    """Return the run of an adapter as a group; without a step, that is its best checkpoint, which was tested."""
    reference = checkpoint.parse(adapter)
    if reference.step is None and reference.checkpoint not in (None, "best"):
        return None
    for group in groups:
        for member in group.members:
            evaluation = comparison.latest_test(member, benchmark) if member.run.uid == reference.run else None
            if evaluation is not None and reference.step in (None, evaluation.step):
                return replace(group, members=(member,))
    return None


def _sampled(group: Group | None, benchmark: str) -> EvaluationRow | None:
    return None if group is None else comparison.latest_sampled_test(group.members[0], benchmark)


def _best_sample(group: Group | None, benchmark: str) -> Cell:
    """Return pass@k of the first seed for the largest k."""
    evaluation = _sampled(group, benchmark)
    if evaluation is None:
        return Cell(NO_VALUE)
    largest_k = max(int(name[5:]) for name in evaluation.metrics if name.startswith("pass@"))
    return Cell(f"pass@{largest_k} {100 * evaluation.metrics[f'pass@{largest_k}']:.1f} %", evaluation)


def _baselines(group: Group, scores: GetScores) -> list[TableLine]:
    """Return the first seed's baselines on its own dataset: without its image, or without a model."""
    lines = []
    for name, measured in comparison.baselines(group, group.first.dataset, scores).items():
        texts = (model_name(group), f"{group.label}: {BASELINES[name]}", rank_text(group), "1", str(measured.n))
        rest = (Cell(NO_VALUE), Cell(_figure(measured, "wellformed")), Cell(NO_VALUE))
        lines.append(TableLine((*map(Cell, texts), share_cell(measured), *rest)))
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _reported(*texts: str) -> TableLine:
    return TableLine(tuple(map(Cell, texts)), "reported")
