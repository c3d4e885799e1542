"""The form for an experiment: arms, models, ranks, seeds and other settings, launched in one action."""

from __future__ import annotations

import streamlit as st

from app.launch.launcher import launcher_choice
from app.shared import data, format
from store.db.engine import StoreError
from trainer.launch.experiments import launch_experiment
from trainer.spec import experiments
from trainer.spec.config import DRAWN_DATASETS, ConfigError, alternatives
from trainer.spec.experiments import ARMS, DEMO_TABLES, MODELS, MOST_RUNS, Matrix

COMPARE_PAGE, SWEEP_PAGE = "../pages/compare.py", "../pages/sweep.py"
NAME = "demo-tables"


def experiment_form() -> None:
    """Show the form, filled in with the demo's experiment, and the number of runs that it will launch."""
    with st.expander("Experiment: launch a matrix of runs", icon=":material/grid_view:", key="experiment"):
        try:
            matrix = _matrix()
            runs = experiments.plan_runs(matrix)
        except ConfigError as error:
            st.error(format.literal(str(error)), icon=":material/error:")
            return
        trained = sum(run.config.method != "none" for run in runs)
        st.caption(
            f"{format.pluralize(len(runs), 'run')} ({trained} with training), each evaluated on "
            f"{format.pluralize(len(matrix.benchmarks), 'benchmark')}, one after another."
        )
        name = st.text_input("Name", NAME, key="experiment.name", width=240)
        launcher = launcher_choice("experiment.launcher")
        if st.button("Launch experiment", type="primary", icon=":material/rocket_launch:", disabled=not runs):
            _start(name.strip() or NAME, matrix, launcher)


def _matrix() -> Matrix:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        arms = st.multiselect("Arms", list(ARMS), list(DEMO_TABLES.arms), key="experiment.arms", width=480)
        models = st.multiselect("Models", list(MODELS), list(DEMO_TABLES.models), key="experiment.models", width=240)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ranks = st.text_input("LoRA ranks", "32, 64", key="experiment.ranks", width=140)
        seeds = st.number_input(
            "Seeds",
            1,
            20,
            1,
            key="experiment.seeds",
            width=110,
            help="Three or more seeds let you compare methods, not just single checkpoints.",
        )
        rates = st.text_input(
            "Learning rates",
            "",
            key="experiment.rates",
            width=180,
            placeholder="the presets'",
            help="Separated by commas.",
        )
        benchmarks = st.multiselect(
            "Benchmarks", list(DRAWN_DATASETS), list(DEMO_TABLES.benchmarks), key="experiment.benchmarks", width=420
        )
    further = st.text_area(
        "Other settings",
        key="experiment.varied",
        placeholder="grpo.beta = 0, 0.02\noptimization.schedule = constant, cosine",
        height=80,
        width=480,
        help=f"One field per line, with its values; `rewards.NAME` is a weight. At most {MOST_RUNS} runs in total.",
    )
    return Matrix(
        varied=tuple(alternatives(line) for line in further.splitlines() if line.strip()),
        arms=tuple(arms),
        ranks=tuple(int(_number("LoRA ranks", part)) for part in _parts(ranks)),
        seeds=tuple(range(int(seeds))),
        models=tuple(models),
        rates=tuple(_number("Learning rates", part) for part in _parts(rates)) or (None,),
        benchmarks=tuple(benchmarks),
    )


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(field: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{field}: {text!r} is not a number. Enter numbers separated by commas.") from None


def _start(name: str, matrix: Matrix, launcher: str) -> None:
    try:
        uid = launch_experiment(data.writer(), name, matrix, launcher=launcher)
    except (ConfigError, StoreError) as error:
        st.error(format.literal(str(error)), icon=":material/error:")
        return
    data.forget()
    st.switch_page(SWEEP_PAGE if matrix.varied else COMPARE_PAGE, query_params={"experiment": uid})
