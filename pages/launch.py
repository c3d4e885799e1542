"""Launch: configure a run, check what it will do, and start it."""

from __future__ import annotations

import shlex
from pathlib import Path

import streamlit as st

from app import access
from app.launch import earlier, form, plan, preflight, rewards
from app.launch.experiment import experiment_form
from app.launch.form import Checked
from app.launch.launcher import launcher_choice
from app.shared import data, fields, format, links
from store.db.engine import StoreError
from store.runs import resolve_run
from trainer import launch
from trainer.datasets.example import Example
from trainer.launch import devices, identity, threads
from trainer.spec import prompt
from trainer.spec.command_line import command_line
from trainer.spec.config import (
    EMBEDDED,
    PRESET_HELP,
    PRESETS,
    TINY,
    TINY_BOARD,
    ConfigError,
    RunConfig,
    from_dict,
    preset,
)

FIRST = next(iter(PRESETS))
SIDE_WIDTH = 400
# The right side stays visible beside the long form, and moves below it on narrow screens.
PLACES = """<style>
div:has(> .st-key-launch_form) { min-width: min(100%, 28rem); }
div:has(> .st-key-launch_side) {
  position: sticky; top: 4.5rem; align-self: flex-start; max-height: calc(100vh - 5rem); overflow-y: auto;
}
</style>"""


def prefill() -> None:
    """Fill the form on the first visit, and when the URL names another preset or run."""
    clone, name, folder, step = (st.query_params.get(each) for each in ("clone", "preset", "folder", "from"))
    source = f"clone {clone} {step}" if clone else f"preset {name or FIRST}"
    if folder:
        source = f"folder {folder} {clone}"
    before = st.session_state.get("launch.source")
    if before == source or (before and not (clone or name or folder)):
        return
    st.session_state["launch.source"] = source
    st.session_state["launch.parent"] = None
    try:
        config = cloned_config(clone, step) if clone else preset(name or FIRST)
        if folder:
            config = imitation_config(folder, config if clone else preset("demo-sft"))
        st.session_state["launch.problem"] = None
    except (ConfigError, StoreError) as error:
        st.session_state["launch.problem"] = str(error)
        config = preset(FIRST)
    form.fill(config)


def cloned_config(uid: str, step: str | None) -> RunConfig:
    """Return a run's config under a new name, optionally starting from its checkpoint at a step.

    Raises StoreError, or ConfigError if the current trainer cannot run it.
    """
    store = data.reader()
    run_id = resolve_run(store, uid)
    config = from_dict(data.get_run(run_id).config)
    st.session_state["launch.parent"] = run_id
    if step is None:
        return config.model_copy(update={"name": f"{config.title}-copy"})
    model = config.model.model_copy(update={"adapter": f"{uid}:{step}"})
    return config.model_copy(update={"name": f"{config.title}-from-{step}"[:200], "model": model})


def imitation_config(folder: str, template: RunConfig) -> RunConfig:
    """Return a config for SFT on a dataset folder, with the model and prompt of another run. Raises ConfigError."""
    values = preset("demo-sft").model_dump(mode="json") | {
        "name": f"sft-{Path(folder).name}"[:100],
        "data": {"dataset": "folder", "path": folder},
    }
    template_values = template.model_dump(mode="json")
    return from_dict(values | {name: template_values[name] for name in ("model", "lora", "instruction", "max_tokens")})


def choose(name: str) -> None:
    links.go(*st.query_params, preset=name)
    st.session_state["launch.source"] = None


def preset_cards() -> None:
    chosen = str(st.session_state.get("launch.source")).removeprefix("preset ")
    model = {name: values.get("model", {}).get("id", TINY) for name, values in PRESETS.items()}
    cards([name for name in PRESETS if model[name] == TINY_BOARD], chosen)
    shapes = [name for name in PRESETS if model[name] == TINY]
    with st.expander("Shapes: few objects, countable at a glance", expanded=chosen in shapes, key="shapes"):
        cards(shapes, chosen)
    real = [name for name in PRESETS if model[name] not in EMBEDDED]
    with st.expander("Pretrained models, for one GPU", expanded=chosen in real, key="real-models"):
        cards(real, chosen)


def cards(names: list[str], chosen: str) -> None:
    columns = min((4, 3), key=lambda each: -len(names) % each)  # as few gaps in the last row as possible
    with st.grid(columns, min_column_width=210):
        for name in names:
            with st.container(border=True, height="stretch", key=f"card-{name}"):
                st.button(
                    name,
                    key=f"preset-{name}",
                    type="primary" if name == chosen else "secondary",
                    on_click=choose,
                    args=(name,),
                    width="stretch",
                )
                config = preset(name)
                st.caption(f"{PRESET_HELP[name]} {config.method.upper()}, {config.optimization.steps} updates.")


def reward_section(checked: Checked, example: Example | None) -> None:
    st.header("Rewards")
    config = checked.config or RunConfig()
    if config.method == "sft":
        st.caption("SFT does not train on rewards. They only score its probes, so that you can compare it with GRPO.")
    text, truth = "", None
    if example is not None:
        text, truth = example_completion(config, example), example.answer
    rewards.rows(plan.reward_values(text, truth, config) if text else {})
    if rewards.is_on("keyword"):
        form.widget(fields.FIELDS["visual_words"])
    if any(".py:" in reward.name for reward in config.rewards):
        form.widget(fields.FIELDS["try_rewards"])


def example_completion(config: RunConfig, example: Example) -> str:
    """Show an editable completion, at first a correct one, and return its text; the rows show its rewards."""
    return st.text_area(
        f"Example completion (true count {example.answer}): edit it to see its rewards",
        plan.right_completion(config, example),
        key=f"launch.example.{example.id}.{config.style}",
        height=90,
        persist_state="session",
    )


def side(checked: Checked, example: Example | None) -> None:
    config = checked.config
    buttons = st.container(horizontal=True)
    go = buttons.button("Launch", type="primary", icon=":material/rocket_launch:", disabled=config is None)
    look = buttons.button("Preflight", icon=":material/fact_check:", disabled=config is None)
    for error in checked.errors:
        st.error(format.literal(fields.sentence(error)), icon=":material/error:")
    if config is None:
        st.caption("Fix the errors in the form to see what this run will do.")
        return
    launcher = launcher_choice("launch.launcher")
    st.caption(queue_sentence(launcher, config))
    if go:
        start(config, launcher)
    else:
        st.session_state.pop("launch.last", None)
    preflight_report(config, look)
    what_will_happen(config, example, launcher)


def queue_sentence(launcher: str, config: RunConfig) -> str:
    """Return a sentence on when a launched run will start."""
    if launcher != "local":
        return "Starts when a cluster node has free capacity."
    here = identity.host()
    jobs = [job for job in data.list_jobs(open_only=True) if job.launcher == "local"]
    ahead = sum(job.host in (None, here) for job in jobs)
    widths = [threads.count(config.model_dump(mode="json"))]
    if ahead < len(devices.places(widths)):
        return "Starts immediately."
    return f"Starts after {format.pluralize(ahead, 'other job')}."


def start(config: RunConfig, launcher: str) -> None:
    """Submit the config and open the run; a second click before the page changes opens the same run."""
    resolved = config.model_dump_json()
    before, uid = st.session_state.get("launch.last", ("", ""))
    if resolved != before:
        try:
            parent = st.session_state.get("launch.parent")
            uid = launch.submit(data.writer(), config, parent_id=parent, launcher=launcher).uid
        except (ConfigError, StoreError) as error:
            st.error(format.literal(str(error)), icon=":material/error:")
            return
        st.session_state["launch.last"] = (resolved, uid)
        data.forget()
    st.switch_page("../pages/run.py", query_params={"run": uid})


def preflight_report(config: RunConfig, look: bool) -> None:
    resolved = config.model_dump_json()
    may = access.may_write()
    if look and may:
        with st.spinner(f"Loading the processor and the dataset (up to {preflight.TIME_LIMIT} s)"):
            st.session_state["launch.preflight"] = (resolved, preflight.run_preflight(config))
    elif st.session_state.pop("launch.measure", False) and may:
        with st.spinner(f"Running one real update (up to {preflight.MEASURING_LIMIT // 60} min)"):
            st.session_state["launch.preflight"] = (resolved, preflight.run_preflight(config, measure=True))
    checked_config, report = st.session_state.get("launch.preflight", ("", None))
    if report is None:
        if look:
            st.caption("Preflight needs permission to launch runs.")
        return
    if checked_config != resolved:
        st.caption("The form has changed since the last preflight: run it again.")
        return
    with st.container(border=True):
        preflight.show_report(report)
        if config.method != "none" and preflight.can_measure(report):
            st.button("Time one update", icon=":material/timer:", on_click=measure)


def measure() -> None:
    st.session_state["launch.measure"] = True


def what_will_happen(config: RunConfig, example: Example | None, launcher: str) -> None:
    st.header("What this run will do")
    with st.container(gap="xsmall"):
        for line in plan.plan(config):
            st.text(line)
        if (pace := earlier.seconds_per_step(config)) is not None:
            st.text(earlier.in_words(pace, config))
    with st.container(border=True):
        if example is None:
            st.caption("Run Preflight to see the image and the prompt of an example.")
        else:
            picture, words = st.columns([1, 2.2])
            picture.image(example.images[0], width="stretch", alt=f"A drawn scene: {example.question}")
            words.caption("Prompt of one training example")
            words.text(prompt.user_text(example.question, config.style, config.instruction))
    st.caption("Same run from the command line")
    where = [] if launcher == "local" else ["--launcher", launcher]
    st.code(shlex.join([*command_line(config), *where]), language="bash", wrap_lines=True)


st.title("Launch")
st.html(PLACES)
prefill()
experiment_form()
preset_cards()
if st.session_state["launch.problem"]:
    st.warning(format.literal(st.session_state["launch.problem"]), icon=":material/warning:")
checked = form.collect()
config = checked.config or RunConfig()
example = plan.example_of(config.data.dataset, config.data.seed)
with st.container(horizontal=True, gap="large"):
    with st.container(key="launch_form"):
        form.essentials()
        reward_section(checked, example)
        form.sections(checked.errors)
    with st.container(key="launch_side", width=SIDE_WIDTH):
        side(checked, example)
