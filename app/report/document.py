"""One or several runs as one HTML file that opens offline: no scripts, no external URLs, everything embedded.

Texts of models, datasets and users are escaped; the file's content security policy forbids loading and executing.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from app.compare.groups import config_differences
from app.emergence import milestones
from app.emergence.evidence import load_samples
from app.emergence.milestones import Milestone
from app.report import curves, traces
from app.report.traces import Card, ReportedAnswer
from app.run import headlines
from app.shared import format, status
from app.shared.figures import REPLACED
from app.shared.trace_text import body, visible
from app.shared.trace_view import STYLE as TRACE_STYLE
from app.shared.trace_view import chip
from store.completions import emergence
from store.db.engine import Store
from store.db.rows import EvaluationRow, RunDetail
from store.evaluations.records import list_evaluations
from store.media import files
from store.media.rows import get_media
from store.metrics import read_ends
from store.trace import Form, form_of, parse

MOST_BYTES = 5_000_000
PICTURES = 3_500_000
"""Maximum encoded bytes of all images; further ones are replaced by a note."""
MOST_TEXT = 3000
"""Maximum characters of an answer."""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #1c2530;
  background: #fff; }
h1 { font-size: 1.6rem; margin-bottom: 0.2rem; } h2 { font-size: 1.2rem; margin: 2rem 0 0.6rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 0.4rem; } p { margin: 0.2rem 0; overflow-wrap: anywhere; }
.quiet { color: #5a6675; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.7rem 0.2rem 0; text-align: left; border-bottom: 1px solid #d5dae0; vertical-align: top; }
.charts, .cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 23rem), 1fr)); }
figure, .card { margin: 0; padding: 0.8rem; border: 1px solid #d5dae0; border-radius: 6px; min-width: 0; }
figcaption, .card > b { font-weight: 600; overflow-wrap: anywhere; } svg { width: 100%; height: auto; }
svg text { font-size: 11px; fill: #5a6675; } svg path { fill: none; stroke-width: 1.6; }
svg .grid { stroke: #e3e7eb; } .ends { font-size: 0.75rem; width: 100%; } .ends th, .ends td { padding-right: 0.4rem; }
.ends th[scope=row] { font-weight: 400; overflow-wrap: anywhere; } .ends td { white-space: nowrap; }
.key { display: inline-block; width: 0.7rem; height: 0.7rem; border-radius: 2px; margin-right: 0.35rem; }
.card img { display: block; max-width: 10rem; max-height: 10rem; border: 1px solid #d5dae0; margin: 0.4rem 0; }
.said { margin-top: 0.6rem; border-top: 1px solid #d5dae0; padding-top: 0.4rem; }
.said .tv-body { padding-left: 0; font-size: 0.85rem; } pre { white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: 0.75rem; background: #f3f5f7; padding: 0.8rem; border-radius: 6px; }
@media (prefers-color-scheme: dark) {
  body { color: #e6e9ed; background: #11161c; } .quiet, svg text { color: #9aa6b4; fill: #9aa6b4; }
  th, td, figure, .card, .said, .card img { border-color: #333d49; } svg .grid { stroke: #27303a; }
  pre { background: #1a2129; }
}
"""


def _standing_out(theme: str) -> str:
    """Return style rules that replace the curves' colours that are too faint in a theme."""
    return "".join(
        f'[stroke="{faint}"] {{ stroke: {clear}; }} [fill="{faint}"] {{ fill: {clear}; }} '
        f'.key[style*="{faint}"] {{ background: {clear} !important; }}\n'
        for faint, clear in REPLACED[theme].items()
    )


class Pictures:
    """The images of the report as data URLs, as many as fit."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.room = PICTURES

    def html(self, sha256: str) -> str:
        with suppress(files.Lost):
            mime = get_media(self.store, sha256).mime
            data = base64.b64encode(files.content(self.store.media, sha256)).decode()
            if len(data) > self.room:
                return "<p class='quiet'>Image left out to limit the size of the file.</p>"
            self.room -= len(data)
            return f'<img alt="Image of the question" src="data:{visible(mime)};base64,{data}">'
        return "<p class='quiet'>Image missing.</p>"


def document(store: Store, runs: Sequence[RunDetail], *, now: float | None = None) -> str:
    """Return the HTML file of one run, or of several in comparison. Raises StoreError if the database fails.

    The store must be writable: imported runs are summarized for their milestones.
    """
    pictures = Pictures(store)
    title = " and ".join(run.name for run in runs) if len(runs) < 3 else f"{len(runs)} runs"
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    parts = [f"<h1>{visible(title)}</h1><p class='quiet'>Exported by Vision-R1-Zero, {made}.</p>"]
    parts += [_heading(store, run, run.name if len(runs) > 1 else "Results") for run in runs]
    if len(runs) > 1:
        parts.append(_differences(runs))
    parts.append(f"<h2>Curves</h2><div class='charts'>{curves.charts(store, runs)}</div>")
    for run in runs:
        parts.append(_milestones(store, run, pictures, name=run.name if len(runs) > 1 else ""))
    parts.append(_evaluations(store, runs))
    parts.append(_cards("Held-out answers", traces.held_out(store, runs), runs, pictures))
    parts += [_conditions(run) for run in runs]
    dark = f"@media (prefers-color-scheme: dark) {{ {_standing_out('dark')} }}"
    style = STYLE + _standing_out("light") + dark + TRACE_STYLE.read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{visible(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width"><style>{style}</style></head>\n'
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _heading(store: Store, run: RunDetail, name: str) -> str:
    """Return a run's facts and its latest measurements."""
    method = status.METHODS.get(run.method, run.method)
    steps = f"step {run.step:,}" + (f" of {run.max_steps:,}" if run.max_steps else "")
    seed = None if run.seed is None else f"seed {run.seed}"
    facts = (method, run.model, run.dataset, seed, steps, status.look(run.status).label, f"id {run.uid}")
    note = f"<p>{visible(run.note)}</p>" if run.note else ""
    rows = "".join(
        f"<tr><th scope='row'>{visible(label)}</th><td>{visible(value)}</td><td>{visible(source)}</td></tr>"
        for label, value, source in _headline_rows(store, run)
    )
    line = visible(" · ".join(filter(None, facts)))
    return f"<h2>{visible(name)}</h2><p class='quiet'>{line}</p>{note}<div class='wide'><table>{rows}</table></div>"


def _headline_rows(store: Store, run: RunDetail) -> Iterable[tuple[str, str, str]]:
    """Yield label, value and source of each headline number."""
    figures = (headlines.REWARD, *headlines.REASONING)
    names = [name for figure in figures for name in (figure.trained, figure.probed)]
    series = read_ends(store, run.id, names, headlines.AVERAGED)
    own_evaluations = [figure for figure in list_evaluations(store, run.id) if figure.benchmark == run.dataset]
    accuracy = headlines.of_evaluations(own_evaluations)
    yield "Held-out accuracy", headlines.value_text(accuracy.value, True), accuracy.source
    for figure in figures:
        shown = headlines.of_samples(figure, series, own_evaluations)
        yield figure.label, headlines.value_text(shown.value, figure.is_share), shown.source


def _differences(runs: Sequence[RunDetail]) -> str:
    """Return a table of the settings in which the runs differ."""
    differences = config_differences(runs)
    head = "".join(f"<th scope='col'>{visible(run.name)}</th>" for run in runs)
    rows = "".join(
        f"<tr><th scope='row'>{visible(name)}</th>{''.join(map(_setting, values))}</tr>"
        for name, values in differences.items()
    )
    table = f"<div class='wide'><table><tr><th scope='col'>Setting</th>{head}</tr>{rows}</table></div>"
    return f"<h2>Configuration differences</h2>{table if rows else '<p>None.</p>'}"


def _setting(value: object) -> str:
    return f"<td>{visible(json.dumps(value, ensure_ascii=False, default=str))}</td>"


def _milestones(store: Store, run: RunDetail, pictures: Pictures, *, name: str) -> str:
    """Return a run's milestones, with sampled answers from before and after them."""
    emergence.add_summaries(store, run.id, emergence.unsummarized_steps(store, run.id))
    samples, is_sampled = load_samples(store, run)
    reached = milestones.milestones(samples)
    heading = f"Milestones of {name}" if name else "Milestones"
    table_rows = "".join(map(_milestone, reached)) or "<tr><td>No milestones.</td></tr>"
    sampled_cards = [*traces.tagged_cards(store, run), *traces.of_training(store, run, reached, is_sampled)]
    cards = _cards(f"Answers in training{f' of {name}' if name else ''}", sampled_cards, [run], pictures)
    return f"<h2>{visible(heading)}</h2><div class='wide'><table>{table_rows}</table></div>{cards}"


def _milestone(milestone: Milestone) -> str:
    return (
        f"<tr><th scope='row'>Step {milestone.step:,}</th><td><b>{visible(milestone.title)}</b></td>"
        f"<td>{visible(milestone.measured)}<br><span class='quiet'>Rule: {visible(milestone.rule)}</span></td></tr>"
    )


def _evaluations(store: Store, runs: Sequence[RunDetail]) -> str:
    """Return all finished evaluations except probes, which the curves show."""
    rows = "".join(
        _evaluation(run, each)
        for run in runs
        for each in list_evaluations(store, run.id)
        if each.ended_at and each.kind != "probe"
    )
    if not rows:
        return ""
    names = ("Run", "Benchmark", "Kind", "Step", "Examples", "Accuracy (95 %)", "Well-formed", "Mean cosine")
    head = "".join(f"<th scope='col'>{name}</th>" for name in names)
    return f"<h2>Evaluations</h2><div class='wide'><table><tr>{head}</tr>{rows}</table></div>"


def _evaluation(run: RunDetail, evaluation: EvaluationRow) -> str:
    figures = evaluation.metrics
    accuracy = (figures.get(f"exact_match{end}") for end in ("", "_low", "_high"))
    cells = (
        *(
            run.name,
            evaluation.benchmark,
            status.EVALUATED.get(evaluation.kind, evaluation.kind),
            f"{evaluation.step:,}",
        ),
        *(format.count(headlines.examples(evaluation)), format.interval(*accuracy)),
        *(format.percent(figures.get("wellformed")), format.number(figures.get("cos_mean"))),
    )
    return f"<tr>{''.join(f'<td>{visible(cell)}</td>' for cell in cells)}</tr>"


def _cards(title: str, card_list: Iterable[Card], runs: Sequence[RunDetail], pictures: Pictures) -> str:
    form = form_of(runs[0].style, runs[0].grammar)
    cards = "".join(_card(card, form, pictures) for card in card_list)
    return f"<h2>{visible(title)}</h2><div class='cards'>{cards}</div>" if cards else ""


def _card(card: Card, form: Form, pictures: Pictures) -> str:
    question_html = "<p class='quiet'>This example was not recorded.</p>"
    if card.example is not None:
        images = "".join(map(pictures.html, card.example.images))
        truth = "" if card.example.answer is None else f" <span class='quiet'>true count {card.example.answer}</span>"
        question_html = f"{images}<p>{visible(card.example.question)}{truth}</p>"
    answers = "".join(_answer(each, form) for each in card.answers)
    return f"<div class='card'><b>{visible(card.title)}</b>{question_html}{answers}</div>"


def _answer(answer: ReportedAnswer, form: Form) -> str:
    row = answer.row
    reward = "" if row.reward is None else f" · reward {format.number(row.reward)}"
    return (
        f"<div class='said'>{chip(row)} <span class='quiet'>{visible(answer.title + reward)}</span>"
        f"{body(parse(row.text, form), limit=MOST_TEXT).html}</div>"
    )


def _conditions(run: RunDetail) -> str:
    """Return everything that defines the run: configuration, prompt, environment."""
    facts = {"configuration": run.config, "reward weights": run.reward_weights, "environment": run.environment}
    facts_json = json.dumps(facts, indent=1, ensure_ascii=False, default=str)
    prompt = f"<h3>Prompt</h3><pre>{visible(run.prompt)}</pre>" if run.prompt else ""
    summary = "Configuration, reward weights and environment"
    everything = f"<details><summary>{summary}</summary><pre>{visible(facts_json)}</pre></details>"
    return f"<h2>Conditions of {visible(run.name)}</h2>{prompt}{everything}"
