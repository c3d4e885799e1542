"""Chat templates: where a completion begins, what is imitated, and what is refused before a training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from trl.data_utils import apply_chat_template, prepare_multimodal_messages

from store import trace
from store.completions.rows import list_groups
from store.completions.tokens import get_tokens
from store.db.engine import Store
from store.evaluations.predictions import iter_predictions_of
from store.evaluations.records import list_evaluations
from tests.training.conftest import Train
from trainer import preflight
from trainer.datasets import shapes
from trainer.evaluate import generation
from trainer.models import chat_template, loading
from trainer.spec import config, prompt
from trainer.spec.config import ModelConfig
from trainer.spec.errors import TrainerError
from trainer.spec.prompt import Style
from trainer.train import sft

pytestmark = pytest.mark.training

HEAD = (
    "{% for m in messages %}{{ m['role'] }}: {% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}<image>{% else %}TEXT{% endif %}"
    "{% endfor %}{% endif %}<end_of_utterance>\n{% endfor %}"
)
ASK = "{% if add_generation_prompt %}assistant: OPENED{% endif %}"
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% elif m['role'] == 'user' %}{{ part['text'] }}"
    "{% else %}{% set text = part['text'] %}{% set thought = '' %}{% if '</think>' in text %}"
    "{% set thought = text.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}"
    "{% set text = text.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
    "<think>\n{{ thought.strip('\\n') }}\n</think>\n\n{{ text.lstrip('\\n') }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\nOPENED{% endif %}"
)
"""As those of Qwen3's models write the last turn: thinking and answer are taken apart and set again."""


def template(text: str = "{{ part['text'] }}", opened: str = "", base: str = HEAD + ASK) -> str:
    """A template that writes the text of a turn so, and begins the model's turn so."""
    return base.replace("TEXT", text).replace("OPENED", opened)


UNCONDITIONAL = template(base=HEAD + "assistant: OPENED", opened="<think>")
DROPS = {
    "the thinking, by its end": "{{ part['text'].split('</think>')[-1] }}",
    "the thinking, by its beginning": "{{ part['text'].split('<think>')[0] }}",
    "the tags": "{{ part['text'] | striptags }}",
    "line breaks": "{{ part['text'].replace('\\n', ' ') }}",
    "capitals": "{{ part['text'] if m['role'] == 'user' else part['text'] | lower }}",
    "the end": "{{ part['text'] if m['role'] == 'user' else part['text'][:30] }}",
    "angle brackets": "{{ part['text'] if m['role'] == 'user' else part['text'] | escape }}",
    "the order": "{{ part['text'] if m['role'] == 'user' else part['text'].split('</think>')[-1] ~ part['text'] }}",
    "everything": "{{ part['text'] if m['role'] == 'user' else '' }}",
}


@pytest.fixture
def processor() -> Any:
    """The embedded model's, to be given another template."""
    return loading.load_processor(ModelConfig())


def imitated(processor: Any, thinking: str = preflight.THINKING, style: Style = "cot") -> tuple[str, str]:
    """Prompt and completion of an SFT row, as TRL writes them with what `sft.writer` gives it."""
    [example] = shapes.examples("simple", "train", 1, 0)
    chosen = config.from_dict({"method": "sft", "style": style})
    known = [type(example)(**{**vars(example), "reference": thinking})]
    row = sft.rows(known, chosen, sft.writer(processor, known, chosen))[0]
    messages = {
        "prompt": prepare_multimodal_messages(row["prompt"], images=row["images"]),
        "completion": prepare_multimodal_messages(row["completion"]),
    }
    made = apply_chat_template(messages, processor)
    assert made["prompt"] == generation.render(processor, known[0], style, None), "evaluation asks alike"
    return made["prompt"], made["completion"]


@pytest.mark.parametrize(
    ("where", "opened"),
    [
        *((where, f"<think>{blank}") for where in ("prompt", "turn") for blank in ("", "\n", " ", "\n\n")),
        *(("qwen3", f"<think>{blank}") for blank in ("", "\n")),
    ],
)
def test_a_template_may_open_the_thinking(processor: Any, where: str, opened: str) -> None:
    """In the generation prompt alone, or in the turns that are written out, too."""
    repeated = HEAD.replace("{{ m['role'] }}: ", "{{ m['role'] }}: {% if m['role'] == 'assistant' %}OPENED{% endif %}")
    base = {"prompt": HEAD + ASK, "turn": repeated + ASK, "qwen3": QWEN3}[where]
    processor.chat_template = template(opened=opened, base=base)
    turn = chat_template.read(processor)
    assert (turn.opening, turn.closed) == (opened, False)
    begun, rest = imitated(processor)
    assert begun.endswith(opened) and (begun + rest).count("<think>") == 2, "once in the instruction, once in the turn"
    [example] = shapes.examples("simple", "train", 1, 0)
    assert rest.split("</think>")[0].strip() == preflight.THINKING
    assert rest.endswith(f"<answer>{example.answer}</answer><end_of_utterance>\n")
    if where != "qwen3":
        assert opened + turn.generated(prompt.target(preflight.THINKING, 3, "cot")) == (
            f"{opened}{preflight.THINKING}</think><answer>3</answer>"
        )


def test_what_a_model_thought_itself_keeps_its_line_break_once(processor: Any) -> None:
    processor.chat_template = template(opened="<think>\n")
    assert imitated(processor, "\n1. red")[1].startswith("1. red</think>")


def test_a_template_may_open_nothing(folders: dict[str, Path], processor: Any) -> None:
    """The embedded model's, SmolVLM's and Qwen2-VL's: what comes before the text of a turn is each one's own."""
    target = prompt.target(preflight.THINKING, 3, "cot")
    for name, gap, end in (
        ("tiny", " ", "<end_of_utterance>"),
        (str(folders["smolvlm"]), " ", "<end_of_utterance>"),
        (str(folders["qwen2vl"]), "", "<|im_end|>"),
    ):
        own = loading.load_processor(ModelConfig(id=name))
        turn = chat_template.read(own)
        assert (turn.opening, turn.gap, turn.end.strip()) == ("", gap, end)
        assert turn.generated(target) == gap + target
        assert imitated(own)[1].startswith(gap + target.split("</think>")[0])
    processor.chat_template = template("{{ part['text'] | trim }}")
    assert imitated(processor)[1].startswith("<think>1."), "white space around a turn is none of the target's"


@pytest.mark.parametrize("what", sorted(DROPS))
def test_a_template_that_changes_the_target_is_refused(processor: Any, what: str) -> None:
    processor.chat_template = template(DROPS[what])
    with pytest.raises(TrainerError, match="The chat template of 'tiny' changes the text to imitate from '<think>1"):
        imitated(processor)


def test_a_template_that_thinks_for_direct_answers_is_refused(processor: Any) -> None:
    processor.chat_template = template(base=QWEN3)
    with pytest.raises(TrainerError, match="changes the text to imitate"):
        imitated(processor, style="direct")
    processor.chat_template = template(opened="<think>")
    with pytest.raises(TrainerError, match="opens <think> itself, but answers of style direct have no reasoning"):
        imitated(processor, style="direct")
    processor.chat_template = template(opened="<think>\n\n</think>\n\n", base=QWEN3)
    assert imitated(processor, style="direct")[1].startswith("<answer>")


def test_a_template_that_goes_on_after_a_turn_is_refused_for_imitation_alone(processor: Any) -> None:
    processor.chat_template = UNCONDITIONAL
    assert chat_template.read(processor).opening == "<think>"
    with pytest.raises(TrainerError, match="changes the text to imitate"):
        imitated(processor)


REFUSED = {
    "no chat template": None,
    "cannot write our prompt": "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}",
    "cannot write our prompt (who?)": "{{ raise_exception('who?') }}",
    "omits or changes the question": template("{{ part['text'] | upper }}"),
    "has no place for an image": template().replace("<image>", ""),
    "has no place for an image: ": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}assistant:",
    "has no generation prompt": template(base=HEAD),
    "begins the completion with '<reasoning>'": template(opened="<reasoning>"),
    "begins the completion with '<answer>'": template(opened="<answer>\n"),
    "begins the completion with '◁think▷'": template(opened="◁think▷"),
    "begins the completion with '[THINK]'": template(opened="[THINK]"),
    "begins the completion with '<think>Okay,'": template(opened="<think>Okay, "),
    "begins the completion with 'Let me think.'": template(opened="Let me think."),
    "begins the completion with '<scratchpad>'": template(
        base=(HEAD + ASK).replace("assistant: ", "").replace("{{ m['role'] }}: ", "{{ m['role'] }}: <scratchpad>"),
        opened="assistant: <scratchpad>",
    ),
}


@pytest.mark.parametrize("sentence", sorted(REFUSED))
def test_what_is_not_understood_is_refused(processor: Any, sentence: str) -> None:
    processor.chat_template = REFUSED[sentence]
    with pytest.raises(TrainerError) as refused:
        chat_template.read(processor, "'m'")
    assert sentence.strip() in str(refused.value)
    assert refused.value.kind == "model" and "choose a" in str(refused.value).lower()


@pytest.mark.parametrize("opened", ["", "<think>\n"])
def test_a_forced_prefix_takes_the_place_of_what_the_template_opens(processor: Any, opened: str) -> None:
    processor.chat_template = template(opened=opened)
    [example] = shapes.examples("simple", "train", 1, 0)
    plain = generation.render(processor, example, "cot", None)
    forced = generation.render(processor, example, "cot", None, "<think>1.")
    assert forced == plain.removesuffix(opened) + "<think>1." and forced.endswith("assistant: <think>1.")


def test_training_probe_and_test_keep_the_tag_that_the_template_opens(
    store: Store, train: Train, tmp_path: Path
) -> None:
    """In texts, rewards and token spans alike; counted are the tokens that were generated."""
    folder = tmp_path / "opening"
    shutil.copytree(loading.TINY_FOLDER, folder)
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("%}Assistant:{%", "%}Assistant: <think>{%"))
    run = train("shapes-grpo", {"model.id": str(folder), "optimization.steps": "1", "grpo.token_samples": "2"})
    assert run.status == "finished", run.job
    assert trace.opening(str(run.prompt)) == "<think>"
    rows = [row for group in list_groups(store, run.id, 1) for row in group.completions]
    assert any(row.wellformed for row in rows)
    for row in rows:
        assert row.text.startswith("<think>") and row.text.count("<think>", 0, 8) == 1
        assert row.rewards["format"] == float(trace.parse(row.text).wellformed) == float(row.wellformed)
    measured = get_tokens(store, rows[0].id)
    assert measured is not None and len(measured.tokens.ends) == rows[0].tokens
    assert measured.tokens.ends[0] > len("<think>") and measured.tokens.ends[-1] == len(rows[0].text)
    for evaluation in list_evaluations(store, run.id):
        assert all(row.text.startswith("<think>") for row in iter_predictions_of(store, evaluation.id))
