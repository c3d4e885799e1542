"""The charts of a run: their metrics, and what these mean. Pure data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from app.shared import data_needs
from store.contents import Contents
from store.recording.rows import benchmark_of


class MetricCurve(NamedTuple):
    """A metric in a chart; `band` names two metrics that bound it, `sparse` ones are measured only at some steps."""

    metric: str
    label: str
    sparse: bool = False
    band: tuple[str, str] | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric, *(self.band or ()))


@dataclass(frozen=True)
class Chart:
    """`share` has an axis from 0 to 100 %; `log` may be drawn on a logarithmic axis.

    `parts` are parallel curves, drawn as lines or stacked to their sum. `empty` is shown if no metric was recorded.
    """

    key: str
    title: str
    help: str
    curves: tuple[MetricCurve, ...]
    share: bool = False
    log: bool = False
    parts: Literal["lines", "stacked"] | None = None
    empty: str = "No data yet."

    @property
    def metrics(self) -> list[str]:
        return [name for curve in self.curves for name in curve.metrics]


NEEDS: data_needs.Parts = {
    "reward": (data_needs.REWARDS,),
    "components": (data_needs.REWARDS,),
    "accuracy": (data_needs.EVALUATIONS, data_needs.JUDGED_EVALUATIONS),
    "steps": (data_needs.THINKING,),
    "length": (data_needs.LENGTHS,),
    "shape": (data_needs.FORM,),
}
"""What some charts need from a script's run, by key."""
MOST_BENCHMARKS = 8


def script_charts(has: Contents, charts: Sequence[Chart], names: Sequence[str]) -> list[Chart]:
    """Return the charts for a script's run that recorded the metrics `names`; empty ones say why."""
    why = {key: reason for reason, keys in data_needs.missing_parts(has, NEEDS).items() for key in keys}
    benchmarks = [(name, benchmark) for name in names if (benchmark := benchmark_of(name)) is not None]
    measured = tuple(MetricCurve(name, benchmark, sparse=True) for name, benchmark in benchmarks[:MOST_BENCHMARKS])
    return [
        replace(
            each,
            curves=measured if each.key == "accuracy" and measured else each.curves,
            parts="lines" if each.key == "accuracy" and len(measured) > 1 else each.parts,
            empty=f"Not recorded: {why.get(each.key, 'the script did not log it')}.",
        )
        for each in charts
    ]


def probe(metric: str, label: str) -> MetricCurve:
    return MetricCurve(f"probe/{metric}", f"{label} (probe)", sparse=True)


def outcome(method: str, components: Sequence[str]) -> list[Chart]:
    """Return the outcome charts of a run with these reward components: rewards, accuracy, reasoning.

    They show each step's completions if the method samples any, and the probe, which is the same for every method.
    """
    is_sampled = method != "sft"
    return [*_reward_charts(is_sampled, components), *_answer_charts(is_sampled)]


def _reward_charts(is_sampled: bool, components: Sequence[str]) -> list[Chart]:
    source = (
        "Mean over the step's completions. The probe scores held-out examples in the same way for every method."
        if is_sampled
        else "SFT samples no completions in training: this shows the probe's answers to held-out examples."
    )
    return [
        Chart(
            "reward",
            "Reward",
            f"Weighted sum of the components. {source} Any reasoning that grows along with it was elicited by reward.",
            _sampled_and_probed("reward", "reward", is_sampled),
        ),
        Chart(
            "components",
            "Reward components",
            f"Raw value of each component, before its weight. {source}",
            tuple(
                MetricCurve(f"reward/{name}", name)
                if is_sampled
                else MetricCurve(f"probe/reward/{name}", name, sparse=True)
                for name in components
            ),
            parts="lines",
        ),
    ]


def _answer_charts(is_sampled: bool) -> list[Chart]:
    return [
        Chart(
            "accuracy",
            "Accuracy on held-out examples",
            "Share of greedy answers that equal the true count. The band is the 95 % interval (Wilson) of the whole "
            "validation split; the probe measures a few of its examples more often. Training never sees test examples.",
            (
                MetricCurve("val/accuracy", "validation", sparse=True, band=("val/accuracy_low", "val/accuracy_high")),
                probe("accuracy", "accuracy"),
            ),
            share=True,
            empty="No evaluation recorded.",
        ),
        Chart(
            "steps",
            "Reasoning steps",
            "Mean number of numbered steps that say something new, counted in well-formed completions (0 in others), "
            "uncapped.",
            (
                *_sampled_and_probed("steps", "mean", is_sampled, name="reasoning_steps"),
                MetricCurve("val/steps", "validation", sparse=True),
            ),
        ),
        Chart(
            "length",
            "Completion length (tokens)",
            "Mean number of generated tokens, including the end token.",
            _sampled_and_probed("length", "mean", is_sampled, name="completion_length"),
            log=True,
        ),
        Chart(
            "shape",
            "Well-formed and clipped",
            "Well-formed: one think block, one answer block, nothing else. Clipped: cut off at the token limit. "
            "No signal: groups whose completions all have the same reward, so that GRPO learns nothing from them.",
            (
                *_sampled_and_probed("wellformed", "well-formed", is_sampled, name="wellformed_share"),
                *((MetricCurve("clipped_share", "clipped"),) if is_sampled else ()),
                *((MetricCurve("frac_reward_zero_std", "no signal"),) if is_sampled else ()),
            ),
            share=True,
        ),
    ]


def _sampled_and_probed(metric: str, label: str, is_sampled: bool, name: str | None = None) -> tuple[MetricCurve, ...]:
    sampled = (MetricCurve(name or metric, label),) if is_sampled else ()
    return (*sampled, probe(metric, label))


def optimization(method: str) -> list[Chart]:
    """Return the optimization charts: entropy, KL, loss, gradients, learning rate, time."""
    return (
        [*_imitation(), *_mechanics(is_sampled=False)]
        if method == "sft"
        else [*_policy(), *_mechanics(is_sampled=True)]
    )


def _policy() -> list[Chart]:
    return [
        Chart(
            "entropy",
            "Entropy on own samples (nats/token)",
            "How uncertain the model is about the next token. Near 0, it no longer explores.",
            (MetricCurve("entropy", "entropy"), probe("entropy", "entropy")),
            log=True,
        ),
        Chart(
            "kl",
            "KL to the starting policy",
            "How far the policy has moved from the base model, or from the adapter that it started with, in nats per "
            "token on its own samples.",
            (MetricCurve("kl", "KL"), probe("kl", "KL")),
            log=True,
            empty="Not computed: beta is 0, so training needs no reference model, and no probe has measured it.",
        ),
        Chart(
            "loss",
            "Loss",
            "Near zero by construction, since the advantages of a group sum to zero. Watch reward and KL instead.",
            (MetricCurve("loss", "loss"),),
        ),
    ]


def _imitation() -> list[Chart]:
    return [
        Chart(
            "loss",
            "Loss (nats/token)",
            "Cross-entropy on the references: measures how well they are imitated, not whether answers are right.",
            (MetricCurve("loss", "loss"),),
            log=True,
        ),
        Chart(
            "token_accuracy",
            "Token accuracy on references",
            "Share of reference tokens that the model ranks first, given the preceding reference tokens.",
            (MetricCurve("mean_token_accuracy", "tokens"),),
            share=True,
        ),
        Chart(
            "entropy",
            "Entropy (nats/token)",
            "Two different quantities: on the references that it imitates, and on answers that it samples (probe).",
            (MetricCurve("entropy_reference", "on references"), probe("entropy", "on own samples")),
            log=True,
        ),
        Chart(
            "kl",
            "KL to the starting policy",
            "How far the model has moved from the base model, or from the adapter that it started with, in nats per "
            "token on its own samples in the probe.",
            (probe("kl", "KL"),),
            log=True,
            empty="Not computed: no probe has measured it.",
        ),
    ]


def _mechanics(*, is_sampled: bool) -> list[Chart]:
    parts = ("generation", "scoring", "update") if is_sampled else ("step",)
    return [
        Chart(
            "grad_norm",
            "Gradient norm",
            "Norm of the gradient before clipping. Spikes point to unusual updates.",
            (MetricCurve("grad_norm", "norm"),),
            log=True,
        ),
        Chart(
            "learning_rate",
            "Learning rate",
            "Learning rate of each update.",
            (MetricCurve("learning_rate", "rate"),),
            log=True,
        ),
        Chart(
            "time",
            "Time per step (seconds)",
            "Time for sampling completions, scoring them and updating the weights." if is_sampled else "",
            tuple(MetricCurve(f"time/{part}", part) for part in parts),
            parts="stacked" if is_sampled else None,
            log=not is_sampled,
        ),
        Chart(
            "throughput",
            "Tokens per second",
            "Tokens that training processes per second.",
            (MetricCurve("tokens_per_second", "tokens"),),
        ),
    ]
