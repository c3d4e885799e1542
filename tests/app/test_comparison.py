"""Who is compared with whom, whether that is fair, and what the three tables say."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.compare import against, export, tables
from app.compare import figures as compare_figures
from app.compare import groups as comparison
from app.compare.figures import AccuracyCurve
from app.compare.groups import Group, Member
from app.shared.conditions import differences
from store.db.engine import Store, open_store
from store.db.rows import PredictionRow
from store.evaluations.predictions import iter_predictions_of, read_scores
from store.evaluations.records import begin_evaluation, finish_evaluation, list_evaluations, record_predictions
from store.events import list_checkpoints
from store.experiments import list_experiments
from store.runs import get_run, list_runs
from tests import compared
from trainer.spec import statistics
from trainer.spec.config import from_dict

SMALL = compared.TABLES


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The demonstration's matrix with one seed."""
    path = tmp_path_factory.mktemp("compared") / "runs.db"
    compared.compare_database(path)
    return open_store(str(path))


def members(store: Store) -> list[Member]:
    runs = [get_run(store, row.id) for row in list_runs(store)]
    return [Member(run, list_evaluations(store, run.id), list_checkpoints(store, run.id)) for run in runs]


def groups(store: Store) -> list[Group]:
    return comparison.groups(members(store), list_experiments(store)[0].arms)


def scores(store: Store) -> Any:
    return lambda evaluation_id: read_scores(store, evaluation_id)


def texts(table: tables.Table, kind: str = "measured") -> list[list[str]]:
    return [[cell.text for cell in line.cells] for line in table.lines if line.kind == kind]


def test_runs_that_differ_in_their_seed_only_are_one_group(tmp_path: Any) -> None:
    compared.compare_database(tmp_path / "runs.db", seeds=(0, 1, 2), n=8)
    found = groups(open_store(str(tmp_path / "runs.db")))
    assert [(g.label, g.first.lora_rank, len(g.members)) for g in found] == [
        ("zero-shot CoT", None, 1),
        ("SFT CoT", 32, 3),
        ("SFT CoT", 64, 3),
        ("GRPO CoT", 32, 3),
        ("GRPO CoT", 64, 3),
    ]


def test_the_test_has_no_say_in_which_checkpoint_is_shown(store: Store) -> None:
    """A test of another step that went better is not taken."""
    member = next(m for m in members(store) if m.run.method == "grpo")
    best = member.checkpoints[0].step
    shown = comparison.latest_test(member, "shapes-simple")
    assert shown is not None and shown.step == best
    lucky = shown._replace(id=10_000, step=best // 2, metrics={**shown.metrics, "exact_match": 1.0})
    tempting = member._replace(evaluations=[*member.evaluations, lucky])
    assert comparison.latest_test(tempting, "shapes-simple") == shown
    later = lucky._replace(step=best + 50)
    assert comparison.latest_test(tempting._replace(evaluations=[*member.evaluations, later]), "shapes-simple") == shown


def test_a_difference_is_paired_and_tested_by_mcnemar(store: Store) -> None:
    grpo, sft = (next(g for g in groups(store) if g.label == f"{name} CoT") for name in ("GRPO", "SFT"))
    found = comparison.contrast(grpo, sft, "shapes-simple", scores(store))
    one, other = (
        read_scores(store, comparison.latest_test(g.members[0], "shapes-simple").id).correct for g in (grpo, sft)
    )
    assert found.accuracy is not None and found.accuracy.value == pytest.approx(one.mean() - other.mean())
    assert found.p == statistics.mcnemar(int((one > other).sum()), int((other > one).sum()))
    assert (found.n, found.seeds, found.reasons) == (60, 1, ())
    assert found.close is not None and found.close.value < -0.5


def test_three_seeds_a_side_speak_of_methods(tmp_path: Any) -> None:
    compared.compare_database(tmp_path / "runs.db", seeds=(0, 1, 2), n=20)
    store = open_store(str(tmp_path / "runs.db"))
    found = groups(store)
    grpo, sft = (next(g for g in found if g.label == f"{name} CoT") for name in ("GRPO", "SFT"))
    contrast = comparison.contrast(grpo, sft, "shapes-simple", scores(store))
    means = [
        [read_scores(store, comparison.latest_test(m, "shapes-simple").id).correct.mean() for m in g.members]
        for g in (grpo, sft)
    ]
    assert contrast.seeds == 3 and contrast.p is not None and contrast.accuracy is not None
    assert (contrast.p < 0.05) == (contrast.accuracy.low > 0 or contrast.accuracy.high < 0)
    assert contrast.accuracy.value == pytest.approx(np.mean(means[0]) - np.mean(means[1]))
    drift = tables.style_drift(found, scores(store))
    assert any("are between methods" in note for note in drift.notes)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"max_tokens": 64}, "token limit 64 vs 112"),
        ({"temperature": 1.0}, "temperature 1.0 vs none"),
        ({"forced_prefix": "<think>1."}, "forced prefix <think>1. vs none"),
    ],
)
def test_other_decoding_of_one_arm_makes_its_rows_not_comparable(
    tmp_path: Any, changed: dict[str, Any], reason: str
) -> None:
    store = open_store(str(tmp_path / "runs.db"))
    compared.fill(store, replace(compared.TABLES, ranks=(32,)), n=8, decoding={"GRPO CoT": changed})
    found = groups(store)
    for table in (
        tables.style_drift(found, scores(store)),
        tables.generalization(found, ["shapes-hard"], scores(store)),
    ):
        verdicts = [cell.text for line in table.lines for cell in line.cells if cell.text.startswith("not comparable")]
        assert verdicts == [f"not comparable: {reason}"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"prompt": "User:<image>{question} Count carefully.\nAssistant:"}, "different prompts"),
        ({"pixels": {"size": 32}}, "different pixels"),
    ],
)
def test_another_prompt_or_other_pixels_of_one_arm_make_its_rows_not_comparable(
    tmp_path: Any, changed: dict[str, Any], reason: str
) -> None:
    store = open_store(str(tmp_path / "runs.db"))
    compared.fill(store, replace(compared.TABLES, ranks=(32,)), n=8, other={"SFT CoT": changed})
    found = groups(store)
    drift = [cell.text for line in tables.style_drift(found, scores(store)).lines for cell in line.cells]
    unseen = tables.generalization(found, ["shapes-hard"], scores(store))
    assert drift.count(f"not comparable: {reason}") == 2, "neither the base nor GRPO is comparable with SFT"
    assert [cell.text for cell in unseen.lines[0].cells][-2:] == [f"not comparable: {reason}", "–"]


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({}, []),
        ({"style": "direct", "prompt": "User:{question} Give only the number inside <answer> </answer> tags."}, []),
        ({"prompt": "User:{question} Count!"}, ["different prompts"]),
        ({"pixels": {"size": 32}}, ["different pixels"]),
        ({"baseline": "blind"}, ["one is a baseline"]),
        ({"samples": {"n": 8}}, []),
        ({"rules": {"repetition_penalty": 1.05}}, ["repetition penalty 1.0 vs 1.05"]),
        ({"rules": {"stop_tokens": ["<end>", "<eos>"]}}, ["stop tokens <end> vs <end> <eos>"]),
        ({"rules": {"bad_words_ids": [[7]]}}, ["bad words ids none vs [7]"]),
        ({"rules": {}}, []),
    ],
)
def test_what_makes_two_evaluations_comparable(change: dict[str, Any], reasons: list[str]) -> None:
    """The style and more samples beside the greedy answer are no difference."""
    style = (
        "First think step by step inside <think> </think> tags, then give the number inside <answer> </answer> tags."
    )
    first = {
        "style": "cot",
        "prompt": f"User:{{question}} {style}",
        "pixels": {"size": 64},
        "decoding": {"max_tokens": 9},
        "rules": {"repetition_penalty": 1.0, "stop_tokens": ["<end>"], "bad_words_ids": None},
    }
    assert differences(first, {**first, **change}) == reasons


def test_the_three_tables(store: Store) -> None:
    found = groups(store)
    drift = tables.style_drift(found, scores(store))
    assert [row[:3] for row in texts(drift)] == [
        ["tiny", "zero-shot CoT", "–"],
        ["tiny", "SFT CoT", "32"],
        ["tiny", "GRPO CoT", "32"],
    ]
    assert [row[1:3] for row in texts(drift, "reported")][:2] == [["SFT", "32"], ["GRPO", "32"]]
    unseen = tables.generalization(found, comparison.benchmarks(members(store)), scores(store))
    assert [(row[1], row[3]) for row in texts(unseen)] == [
        (name, rank) for rank in ("32", "64") for name in ("shapes-complex", "shapes-hard")
    ]
    by_rank = tables.ranks(found, scores(store))
    assert [(row[1], row[2]) for row in texts(by_rank)] == [
        (name, rank) for name in ("SFT CoT", "GRPO CoT") for rank in ("32", "64")
    ]
    for table in (drift, unseen, by_rank):
        assert {len(line.cells) for line in table.lines} == {len(table.head)}
        assert "between two checkpoints" in table.notes[0]


def test_baselines_stand_below_their_group_and_decide_nothing(tmp_path: Any) -> None:
    store = open_store(str(tmp_path / "runs.db"))
    compared.fill(store, replace(compared.TABLES, ranks=(32,)), n=10)
    run = next(row for row in list_runs(store) if row.method == "grpo")
    settings = get_run(store, run.id)
    config = from_dict(settings.config)
    drawn = compared.shapes.examples("simple", "test", 10, 0)
    changed = compared.conditions(config) | {"baseline": "blind"}
    compared.measure(store, run.id, config, changed, drawn, kind="baseline", step=run.step, progress=1.0, skill=2.0)
    drift = tables.style_drift(groups(store), scores(store))
    assert [row[1] for row in texts(drift)] == ["zero-shot CoT", "SFT CoT", "GRPO CoT", "GRPO CoT: blank image"]
    assert texts(drift)[-1][-2:] == ["–", "–"]
    assert comparison.benchmarks(members(store)) == ["shapes-simple", "shapes-complex", "shapes-hard"]


def with_samples(store: Store, method: str, figures: dict[str, float]) -> None:
    """Adds a test with samples of the first run of a method, on its own dataset."""
    run = next(row for row in list_runs(store) if row.method == method)
    shown = comparison.latest_test(next(m for m in members(store) if m.run.id == run.id), "shapes-simple")
    assert shown is not None
    opened = begin_evaluation(
        store,
        run.id,
        benchmark="shapes-simple",
        split="test",
        kind="test",
        step=shown.step,
        conditions=shown.conditions | {"samples": {"n": 4, "temperature": 1.0}},
        encoder=shown.encoder,
        total=0,
    )
    rows = [replace_ids(row) for row in iter_predictions_of(store, shown.id)]
    record_predictions(store, opened, rows)
    finish_evaluation(store, opened, {**shown.metrics, **figures})


def replace_ids(row: Any) -> PredictionRow:
    return PredictionRow(**{name: getattr(row, name) for name in PredictionRow.__dataclass_fields__})


def test_the_samples_of_the_base_stand_beside_what_was_trained(tmp_path: Any) -> None:
    store = open_store(str(tmp_path / "runs.db"))
    compared.fill(store, replace(compared.TABLES, ranks=(32,)), n=6)
    assert tables.samples(groups(store), ["shapes-simple"], scores(store)).lines == ()
    with_samples(store, "none", {"pass@1": 0.25, "pass@4": 0.75, "maj@4": 0.375})
    found = groups(store)
    drift = tables.style_drift(found, scores(store))
    place = drift.head.index("pass@k before training")
    assert [row[place] for row in texts(drift)] == ["pass@4 75.0 %"] * 3
    sampled = tables.samples(found, ["shapes-simple", "shapes-hard"], scores(store))
    assert sampled.head[-4:] == ("Greedy", "pass@1", "pass@4", "maj@4")
    assert [(row[1], row[-3:]) for row in texts(sampled)] == [
        ("zero-shot CoT", ["25.0 %", "75.0 %", "37.5 %"]),
        ("SFT CoT", ["–"] * 3),
        ("GRPO CoT", ["–"] * 3),
    ]
    unseen = tables.generalization(found, ["shapes-hard"], scores(store))
    assert [row[unseen.head.index("pass@k before training")] for row in texts(unseen)] == ["–"]


@pytest.mark.parametrize(
    ("reference", "is_known"),
    [("{uid}", True), ("{uid}:{step}", True), ("{uid}:1", False), ("/somewhere/else", False), ("no-such-run:3", False)],
)
def test_what_a_run_started_from_is_told_by_its_adapter(store: Store, reference: str, is_known: bool) -> None:
    """Not by the bare base: GRPO on top of SFT is measured against that SFT."""
    everyone = members(store)
    sft = next(each for each in everyone if each.run.method == "sft")
    best = next(row.step for row in sft.checkpoints if row.kind == "best")
    adapter = reference.format(uid=sft.run.uid, step=best)

    def continued(member: Member) -> Member:
        config = {**member.run.config, "model": {**member.run.config["model"], "adapter": adapter}}
        return member._replace(run=replace(member.run, config=config)) if member.run.method == "grpo" else member

    found = comparison.groups([continued(each) for each in everyone], {})
    table = tables.generalization(found, ["shapes-hard"], scores(store))
    before = [line.cells[table.head.index("Before training")] for line in table.lines if line.kind == "measured"]
    test = comparison.latest_test(sft, "shapes-hard")
    assert [cell.source for cell in before] == [test if is_known else None] * len(before) and before


def test_an_adapter_that_is_only_evaluated_is_not_the_base(store: Store) -> None:
    everyone = members(store)
    base = next(each for each in everyone if each.run.method == "none")
    config = {**base.run.config, "model": {**base.run.config["model"], "adapter": "/an/adapter"}}
    given = base._replace(run=replace(base.run, config=config))
    trained = [each for each in everyone if each.run.method == "grpo"]
    found = comparison.groups([given, *trained], {})
    assert "zero-shot CoT" not in [group.label for group in found]
    table = tables.generalization(found, ["shapes-hard"], scores(store))
    assert {row[table.head.index("Before training")] for row in texts(table)} == {"–"}


def test_what_altered_thinking_did_to_the_answers(tmp_path: Any) -> None:
    store = open_store(str(tmp_path / "runs.db"))
    compared.fill(store, replace(compared.TABLES, ranks=(32,)), n=4)
    assert tables.faithfulness(groups(store)).lines == ()
    run = next(row for row in list_runs(store) if row.method == "grpo")
    conditions = {"benchmark": "shapes-simple", "split": "test", "kind": "thinking", "step": 200, "encoder": None}
    opened = begin_evaluation(store, run.id, **conditions, conditions={"thinking": "filler"}, total=9)
    figures = {"n": 9, "changed": 0.5, "changed_low": 0.25, "changed_high": 0.75, "followed": None}
    finish_evaluation(store, opened, figures)
    (row,) = texts(tables.faithfulness(groups(store)))
    assert row[3:] == ["shapes-simple", "200", "filler", "9", "50.0 % (25.0–75.0)", "–"]


def test_p_values_are_corrected_within_a_table(store: Store) -> None:
    found = groups(store)
    drift = tables.style_drift(found, scores(store))
    raw = [line.contrast.p for line in drift.lines if line.contrast]
    assert len(raw) == 2
    shown = [row[-1] for row in texts(drift) if row[-1] != "–"]
    assert shown == [tables.format.p_value(p) for p in statistics.holm(raw)]


def test_one_method_against_every_other(store: Store) -> None:
    found = groups(store)
    first = against.candidates(found)[0]
    assert (first.label, first.first.lora_rank) == ("GRPO CoT", 32)
    table = against.gains(found, first, ["shapes-simple", "shapes-hard"], scores(store))
    assert table.title == "GRPO CoT r32 against every other"
    rows = texts(table)
    assert [row[:3] for row in rows[::2]] == [
        ["zero-shot CoT", "–", "shapes-simple"],
        ["SFT CoT", "32", "shapes-simple"],
        ["SFT CoT", "64", "shapes-simple"],
        ["GRPO CoT", "64", "shapes-simple"],
    ]
    sft = next(group for group in found if (group.label, group.first.lora_rank) == ("SFT CoT", 32))
    expected = comparison.contrast(first, sft, "shapes-simple", scores(store))
    assert expected.accuracy is not None
    row = next(row for row in rows if row[:3] == ["SFT CoT", "32", "shapes-simple"])
    assert row[8].startswith(f"{100 * expected.accuracy.value:+.1f} (")
    shares = [float(row[place].partition(" ")[0]) / 100 for place in (5, 6)]
    effect = 2 * (np.arcsin(np.sqrt(shares[0])) - np.arcsin(np.sqrt(shares[1])))
    assert float(row[7]) == pytest.approx(effect, abs=0.01)


def test_a_group_alone_of_its_model_has_no_other(store: Store) -> None:
    found = groups(store)
    assert against.candidates(found[:1]) == []


def test_exports_hold_every_row_and_say_what_was_reported(store: Store) -> None:
    found = groups(store)
    three = [
        tables.style_drift(found, scores(store)),
        tables.generalization(found, ["shapes-hard"], scores(store)),
        tables.ranks(found, scores(store)),
    ]
    count = sum(len(table.lines) for table in three)
    written = export.markdown(three)
    assert written.count("\n| measured |") + written.count(f"\n| {export.REPORTED} |") == count
    assert export.latex(three).count(r" \\") == count + 3
    read_back = list(csv.reader(io.StringIO(export.comma_separated(three))))
    assert len(read_back) == count + 3
    report = export.report("Tables", three, [], "n 60")
    assert report.count("<tr class='reported'>") == sum(len(texts(table, "reported")) for table in three)
    assert "http" not in report.partition("<body>")[2] and "src=" not in report.partition("<body>")[2]


def test_numbers_are_aligned_on_screen_and_columns_without_values_left_out() -> None:
    rows = [("GRPO", "+4.0 (-1.5 to +6.8)", "–"), ("SFT", "–", "")]
    lines = tuple(tables.TableLine(tuple(map(tables.Cell, row))) for row in rows)
    table = tables.Table("t", "T", ("Method", "Δ", "pass@k"), lines)
    shown = export.html_table(table)
    assert "<th scope='col'>Method</th><th scope='col' class='number'>Δ</th></tr>" in shown
    assert "<th scope='row'>GRPO</th><td class='number'>+4.0 (−1.5 to +6.8)</td></tr>" in shown
    assert "pass@k" not in shown and "pass@k" in export.markdown([table])


def test_hostile_text_is_escaped_in_every_format() -> None:
    evil = "<script>alert(1)</script> | =1+1 & 50 % \\input{x} *b*"
    table = tables.Table("t", evil, (evil,), (tables.TableLine((tables.Cell(evil),)),))
    assert "<script>alert" not in export.html_table(table, None)
    assert "<script>alert" not in export.report(evil, [table], [], evil).partition("</head>")[2]
    assert "\\textbackslash{}input\\{x\\}" in export.latex([table])
    written = export.markdown([table])
    assert "## <script" not in written and "\\*b\\*" in written and "\\<script" in written
    formula = tables.Table("t", "", ("=1",), (tables.TableLine((tables.Cell("=cmd()"),)),))
    assert "'=cmd()" in export.comma_separated([formula])


@pytest.mark.parametrize("text", ["+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "=1", "\r=1", "\n+1", " =1"])
def test_no_cell_runs_as_a_formula(text: str) -> None:
    table = tables.Table("t", "", ("h",), (tables.TableLine((tables.Cell(text),)),))
    ((_, _, cell),) = list(csv.reader(io.StringIO(export.comma_separated([table]))))[1:]
    assert cell == f"'{text.strip()}"


@pytest.mark.parametrize("text", ["a\r=cmd()", "a\n=cmd()", "a\x0b=cmd()", "a\u2028=cmd()"])
def test_no_cell_begins_a_row(text: str) -> None:
    """A spreadsheet takes a bare carriage return for the end of a row."""
    table = tables.Table("t", "", (text,), (tables.TableLine((tables.Cell(text),)),))
    assert export.comma_separated([table]).splitlines() == ["table,kind,a =cmd()", "t,measured,a =cmd()"]


@pytest.mark.parametrize("text", ["+12.3 (+1.0 to +20.0)", "-0.5 (-3.0 to +2.0)", "+6.38", "–"])
def test_differences_stay_as_they_are(text: str) -> None:
    table = tables.Table("t", "", ("h",), (tables.TableLine((tables.Cell(text),)),))
    ((_, _, cell),) = list(csv.reader(io.StringIO(export.comma_separated([table]))))[1:]
    assert cell == text


def test_no_character_of_a_name_means_anything_to_latex() -> None:
    """Read as LaTeX does: what follows a backslash is a command, and no special character stands alone."""
    evil = r"a_b 100% #1 {x} \input|{/etc/passwd} $m$ ~ ^2 <b> & c"
    table = tables.Table("t", evil, ("h",), (tables.TableLine((tables.Cell(evil),)),))
    (line,) = [row for row in export.latex([table]).splitlines() if row.startswith("measured")]
    assert export.latex([tables.Table("t", "Δ − × ± ≥", ("h",), ())]).isascii(), "pdfLaTeX stops at such characters"
    commands = re.findall(r"\\[a-zA-Z]+\{\}|\\.", line)
    assert set(commands) <= {
        *(rf"\{character}" for character in "_%#{}$&"),
        *(r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}", r"\textless{}", r"\textgreater{}"),
        r"\\",
    }
    rest = re.sub(r"\\[a-zA-Z]+\{\}|\\.", "", line)
    assert not set(rest) & set(r"_%#{}$\~^") and rest.count("&") == 1


def test_a_name_in_a_figure_of_the_report_is_no_markup() -> None:
    evil = "</script><script>alert(1)</script>"
    figure = compare_figures.accuracy_chart(
        [AccuracyCurve(evil, "grpo", 0, np.array([1.0]), [1], [2])], "updates", None
    )
    body = export.report("Tables", [], [(evil, figure)], evil).partition("</head>")[2]
    assert "<script>alert" not in body and "</script><script>" not in body
