"""RunConfig: every mistake gives a sentence that says what to do, and a config can be told as a command."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainer.__main__ import parser
from trainer.spec.command_line import command_line
from trainer.spec.config import (
    PRESET_HELP,
    PRESETS,
    ConfigError,
    RunConfig,
    from_dict,
    load,
    override,
    preset,
)


def fault(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        from_dict(values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"lora": {"rank": 0}}, "lora.rank must be at least 1, not 0."),
        ({"lora": {"rank": 2000}}, "lora.rank must be at most 1024, not 2000."),
        ({"lora": {"dropout": 1}}, "lora.dropout must be less than 1.0, not 1."),
        (
            {"optimization": {"learning_rate": -1e-4}},
            "optimization.learning_rate must be greater than 0.0, not -0.0001.",
        ),
        ({"optimization": {"steps": "many"}}, "optimization.steps must be a whole number, not 'many'."),
        ({"optimization": {"steps": 1.5}}, "optimization.steps must be a whole number, not 1.5."),
        ({"optimization": {"learning_rate": "fast"}}, "optimization.learning_rate must be a number, not 'fast'."),
        (
            {"optimization": {"gradient_checkpointing": "maybe"}},
            "optimization.gradient_checkpointing must be true or false, not 'maybe'.",
        ),
        ({"method": "ppo"}, "method must be 'grpo', 'sft' or 'none', not 'ppo'."),
        ({"seed": -1}, "seed must be at least 0, not -1."),
        ({"evaluation": {"encoder": None}}, "evaluation.encoder must be text, not None."),
        ({"visual_words": "red"}, "visual_words must be a list, not 'red'."),
        ({"model": "tiny"}, "model is a section: set its fields one by one, not 'tiny'."),
        ({"rewards": [{"weight": 1}]}, "rewards.0.name is missing."),
        (
            {"rewards": [{"name": "format", "weight": float("inf")}]},
            "rewards.0.weight must be a finite number, not inf.",
        ),
        ({"lora": {"rnk": 8}}, "lora.rnk: unknown field. Did you mean lora.rank?"),
        ({"rank": 8}, "rank: unknown field. Did you mean lora.rank?"),
        ({"steps": 8}, "steps: unknown field. Did you mean optimization.steps?"),
        ({"step": 8}, "step: unknown field. Did you mean optimization.steps?"),
        ({"beta": 8}, "beta: unknown field. Did you mean grpo.beta?"),
        ({"data": {"dataset": "/"}}, "data.dataset: / is a folder. Use `folder`, with data.path=/."),
        (
            {"lora": {"zzz": 8}},
            "lora.zzz: unknown field. Choose one of lora.rank, lora.alpha, lora.dropout, lora.vision.",
        ),
        ({1: 2}, "1: Keys should be strings."),
    ],
)
def test_a_mistake_gives_a_sentence(values: dict[str, Any], sentence: str) -> None:
    assert fault(values) == sentence


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"optimization": {"batch_size": 60}},
            "not a multiple of grpo.group_size 8: a group cannot be split across updates. Try 56.",
        ),
        ({"optimization": {"batch_size": 4}}, "Try 8."),
        ({"optimization": {"accumulation": 3}}, "not a multiple of optimization.accumulation 3"),
        ({"data": {"dataset": "mnist"}}, "unknown dataset 'mnist'. Choose one of shapes-simple"),
        ({"rewards": [{"name": "beauty"}]}, "unknown reward 'beauty'. Choose one of format, accuracy"),
        ({"rewards": [{"name": "format"}, {"name": "format"}]}, "format and format would share the name format"),
        ({"rewards": [{"name": "format"}, {"name": "a.py:format"}]}, "format and a.py:format would share the name"),
        (
            {"rewards": [{"name": "a/pay.py:pay"}, {"name": "b/pay.py:pay"}]},
            "a/pay.py:pay and b/pay.py:pay would share the name pay. Remove one, or rename a function.",
        ),
        ({"rewards": [{"name": "format", "weight": 0}]}, "at least one component with a weight other than 0"),
        ({"rewards": []}, "at least one component"),
        ({"style": "direct", "rewards": [{"name": "steps"}]}, "at least one component"),
    ],
)
def test_fields_that_do_not_fit_together(values: dict[str, Any], words: str) -> None:
    assert words in fault(values)


def test_every_mistake_has_a_line_of_its_own() -> None:
    assert len(fault({"lora": {"rank": 0}, "seed": -1, "nope": 1}).splitlines()) == 3


def test_what_fits_together() -> None:
    assert from_dict({"method": "sft", "optimization": {"batch_size": 60}}).prompts_per_step == 60
    assert from_dict({}).prompts_per_step == 8
    assert from_dict({"method": "none", "rewards": []}).rewards == ()


def test_a_title_says_what_sets_the_run_apart() -> None:
    assert RunConfig().title == "grpo-tiny-r32"
    assert (
        from_dict({"model": {"id": "Qwen/Qwen2-VL-2B-Instruct/"}, "method": "sft"}).title
        == "sft-qwen2-vl-2b-instruct-r32"
    )
    assert from_dict({"name": "mine"}).title == "mine"


def test_presets_are_valid_and_explained() -> None:
    assert PRESETS.keys() == PRESET_HELP.keys()
    assert [preset(name).name for name in PRESETS] == list(PRESETS)
    with pytest.raises(ConfigError, match=r"unknown preset 'demo'\. Choose one of demo-grpo, demo-sft"):
        preset("demo")


def test_a_config_survives_json() -> None:
    for name in PRESETS:
        config = preset(name)
        assert from_dict(json.loads(json.dumps(config.model_dump(mode="json")))) == config


def test_a_file_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("method: sft\nlora: {rank: 8}\noptimization:\n  learning_rate: 2e-3\n", encoding="utf-8")
    config = load(path)
    assert (config.method, config.lora.rank, config.optimization.learning_rate) == ("sft", 8, 0.002)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"lora: [1, 2", "is not valid YAML at line 1, column 12: expected ',' or ']'"),
        (b"a: 1\n\tb: 2\n", "is not valid YAML at line 2, column 1"),
        (b"a: \x01", "is not valid YAML"),
        (b"a: !!timestamp 2024-13-45", "is not valid YAML: month must be in 1..12"),
        (b"a: !!python/object:os.system x", "is not valid YAML at line 1, column 4: could not determine a constructor"),
        (b"\xff\xfe\x00", "is not a text file in UTF-8"),
        (b"just text", "must contain a mapping of fields to values"),
        (b"", "must contain a mapping"),
        (b"- method", "must contain a mapping"),
        (b"lora: {rank: 0}", "lora.rank must be at least 1"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["1234567890:50", "1234567890", "12:30:45", "1e5", "2026-11-26", "yes", "0x1f", "1_0"])
def test_a_text_field_takes_what_yaml_reads_as_a_number(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"name: {text}\nmodel: {{adapter: {text}}}\n", encoding="utf-8")
    changed = override(RunConfig(), {"name": text, "model.adapter": text})
    assert load(path) == changed
    assert (changed.name, changed.model.adapter) == (text, text)
    assert read_back(command_line(changed)) == changed


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Cannot read .*nowhere\.yaml: No such file"):
        load(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("key", "text", "read"),
    [
        ("optimization.steps", "20", lambda c: c.optimization.steps == 20),
        ("optimization.learning_rate", "3e-5", lambda c: c.optimization.learning_rate == 3e-5),
        ("lora.alpha", "null", lambda c: c.lora.alpha is None),
        ("name", "my run", lambda c: c.name == "my run"),
        ("visual_words", "[dog, cat]", lambda c: c.visual_words == ("dog", "cat")),
        ("rewards.steps", "0", lambda c: [r.weight for r in c.rewards] == [1, 2, 0]),
        ("rewards.keyword", "0.5", lambda c: [r.name for r in c.rewards] == ["format", "accuracy", "steps", "keyword"]),
        ("rewards.mine.py:brevity", "1", lambda c: c.rewards[-1].name == "mine.py:brevity"),
        ("rewards", "[{name: format}]", lambda c: [r.name for r in c.rewards] == ["format"]),
    ],
)
def test_one_field_is_replaced(key: str, text: str, read: Any) -> None:
    assert read(override(RunConfig(), {key: text}))


def test_a_configuration_with_the_old_name_of_rejection_samples_is_read() -> None:
    old = from_dict({"method": "sft", "imitate": "own samples"})
    assert old == from_dict({"method": "sft", "imitate": "rejection samples"}) and old.imitate == "rejection samples"
    assert override(RunConfig(method="sft"), {"imitate": "own samples"}) == old


def test_the_weight_of_a_custom_reward_is_set_by_its_function() -> None:
    config = override(RunConfig(), {"rewards.mine.py:brevity": "1"})
    assert override(config, {"rewards.brevity": "3"}).rewards[-1].weight == 3


@pytest.mark.parametrize(
    ("key", "text", "sentence"),
    [
        ("lora.rnk", "1", "lora.rnk: unknown field. Did you mean lora.rank?"),
        ("seed.x", "1", "seed.x: unknown field. Did you mean seed?"),
        ("", "1", "unknown field"),
        ("lora", "8", "lora is a section"),
        ("lora.rank", "[1", "lora.rank=[1 is not valid YAML at line 1"),
        ("lora.rank", "", "lora.rank must be a whole number, not None"),
        ("rewards.stepz", "1", "unknown reward 'stepz'"),
        ("optimization.batch_size", "63", "Try 56"),
    ],
)
def test_a_field_that_cannot_be_replaced(key: str, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(RunConfig(), {key: text})
    assert sentence in str(caught.value)


def read_back(arguments: list[str]) -> RunConfig:
    """What the command line makes of the arguments, after a shell has read them."""
    words = shlex.split(shlex.join(arguments))
    assert words[:3] == ["python", "-m", "trainer"]
    options = parser().parse_args(words[3:])
    return override(preset(options.preset), dict(text.split("=", 1) for text in options.set))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_own_command(name: str) -> None:
    assert command_line(preset(name)) == ["python", "-m", "trainer", "run", "--preset", name]


def test_a_command_is_the_shortest_difference() -> None:
    config = override(preset("shapes-sft"), {"name": "it's mine", "lora.rank": "8", "rewards.steps": "0"})
    assert command_line(config)[5:] == [
        *("shapes-sft", "--set", "name=it's mine", "--set", "lora.rank=8", "--set", "rewards.steps=0.0"),
    ]
    assert read_back(command_line(config)) == config


@pytest.mark.parametrize(
    "rewards",
    [
        [{"name": "format"}],
        [{"name": "accuracy"}, {"name": "format"}, {"name": "steps"}],
        [
            {"name": "format"},
            {"name": "accuracy"},
            {"name": "steps"},
            {"name": "/my folder/a=b.py:mine", "weight": 1e-5},
        ],
        [{"name": "format"}, {"name": "accuracy"}, {"name": "steps"}, {"name": "dir.d/mine.py:brevity", "weight": -3}],
    ],
)
def test_any_list_of_rewards_can_be_told_as_a_command(rewards: list[dict[str, Any]]) -> None:
    config = from_dict({"rewards": rewards})
    assert read_back(command_line(config)) == config


@settings(max_examples=60, deadline=None)
@given(
    name=st.text(st.characters(exclude_categories=("Cs",)), max_size=30),
    instruction=st.none() | st.text(st.characters(exclude_categories=("Cs",)), max_size=30),
    words=st.lists(st.text(max_size=5), max_size=3),
    rate=st.floats(1e-12, 0.999),
    weight=st.floats(allow_nan=False, allow_infinity=False),
    seed=st.integers(0, 2**32 - 1),
    checkpointing=st.booleans(),
)
@example("\x85", None, ["\u2028"], 0.5, 0.0, 0, False)
def test_any_config_can_be_told_as_a_command(
    name: str, instruction: str | None, words: list[str], rate: float, weight: float, seed: int, checkpointing: bool
) -> None:
    config = from_dict(
        {
            "name": name,
            "instruction": instruction,
            "visual_words": words,
            "seed": seed,
            "optimization": {"learning_rate": rate, "gradient_checkpointing": checkpointing},
            "rewards": [{"name": "format"}, {"name": "accuracy"}, {"name": "steps", "weight": weight}],
        }
    )
    assert read_back(command_line(config)) == config


def test_a_config_written_by_hand_and_by_the_dashboard_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(preset("shapes-collapse").model_dump(mode="json")), encoding="utf-8")
    assert load(path) == preset("shapes-collapse")
