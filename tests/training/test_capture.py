"""What is taken from a trainer: every number, every row, whatever the trainer or NumPy calls it."""

from __future__ import annotations

import ast
import base64
import io
import math
import sys
import time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.shared.status import METHODS
from store.completions.gold import count
from trainer.record import vr1z

ROOT = Path(__file__).resolve().parents[2]


def test_the_file_imports_nothing_but_the_standard_library_by_itself() -> None:
    tree = ast.parse((ROOT / "trainer/record/vr1z.py").read_text(encoding="utf-8"), feature_version=(3, 9))
    names = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    assert {str(name).partition(".")[0] for name in names} <= sys.stdlib_module_names
    everywhere = {
        str(name).partition(".")[0]
        for node in ast.walk(tree)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [])
    }
    assert everywhere - sys.stdlib_module_names == {"PIL", "accelerate", "transformers"}, "only if the script has them"


@pytest.mark.parametrize(
    "value",
    [
        *(3, 3.0, Decimal(3), Fraction(3), np.array(3), np.array([3]), np.array([[3.0]])),
        *(kind(3) for kind in (np.int8, np.uint64, np.int64, np.float16, np.float32, np.float64, np.longdouble)),
        *(torch.tensor(3, dtype=kind) for kind in (torch.int32, torch.bfloat16, torch.float16, torch.float64)),
        *(torch.tensor([3.0]), torch.nn.Parameter(torch.tensor(3.0))),
    ],
    ids=repr,
)
def test_a_number_is_a_number_whatever_it_is_called(value: Any) -> None:
    assert vr1z.metrics({"own": value}) == {"own": 3.0}


@pytest.mark.parametrize("value", ["3", True, np.True_, b"3", [3], (3,), np.array([1, 2]), torch.zeros(2), 3j, object])
def test_what_is_no_number_is_left_out(value: Any) -> None:
    assert vr1z.metrics({"own": value, "loss": 1}) == {"loss": 1.0}


def test_numbers_without_end_and_numbers_in_dicts_are_kept() -> None:
    found = vr1z.metrics({"nan": np.float32("nan"), "huge": 10**400, "none": None, "own": {"deep": {"a": np.int8(1)}}})
    assert math.isnan(found["nan"] or 0) and found["huge"] == math.inf
    assert found["none"] is None and found["own/deep/a"] == 1.0


def test_the_summary_of_the_last_entry_stands_apart() -> None:
    last = {"train_runtime": 9.0, "train_loss": 0.1, "train_steps_per_second": 1.0, "total_flos": 0.0, "epoch": 1.0}
    assert vr1z.metrics(last | {"reward": 0.4}) == {"reward": 0.4}
    assert vr1z.summary_of(last | {"reward": 0.4})["train_runtime"] == 9.0
    # With `include_num_input_tokens_seen` every entry tells a runtime.
    assert vr1z.metrics({"loss": 0.5, "train_runtime": 3.0}) == {"loss": 0.5, "train_runtime": 3.0}


@pytest.mark.parametrize(
    ("prefix", "own"), [("eval", "eval_reward"), ("eval_easy", "eval_easy_reward"), ("test", "test_reward")]
)
def test_figures_of_several_evaluation_sets_stay_several(prefix: str, own: str) -> None:
    entry = {f"{prefix}_loss": 0.5, f"{prefix}_runtime": 1.0, "eval_reward": 0.25, "epoch": 1.0}
    assert vr1z.metrics(entry) == {f"{prefix}_loss": 0.5, f"{prefix}_runtime": 1.0, own: 0.25}


def test_two_rewards_of_one_name_stay_two() -> None:
    trainer = SimpleNamespace(
        reward_func_names=["f", "g", "f", "f"], reward_weights=torch.tensor([1.0, 2.0, 0.5, 0.25])
    )
    assert vr1z.reward_weights(trainer) == {"f": 1.0, "g": 2.0, "f (2)": 0.5, "f (3)": 0.25}
    assert vr1z.shared_names(trainer) == {"f"}


def picture(mode: str = "RGB", kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (8, 4), 200 if mode in ("L", "I;16", "F", "I") else None or 0).save(buffer, kind)
    return buffer.getvalue()


def cells() -> dict[str, Any]:
    array = np.full((4, 8, 3), 200, np.uint8)
    image = Image.fromarray(array)
    return {
        "PIL": image,
        "see-through": image.convert("RGBA"),
        "grey": image.convert("L"),
        "palette": image.convert("P"),
        "CMYK": image.convert("CMYK"),
        "16 bits": Image.fromarray(np.full((4, 8), 200 * 257, np.uint16)),
        "float": Image.fromarray(np.full((4, 8), 0.5, np.float32)),
        "PNG": picture(),
        "JPEG": bytearray(picture(kind="JPEG")),
        "TIFF": picture(kind="TIFF"),
        "bytes of a cell": {"bytes": picture(), "path": None},
        "array": array,
        "array of floats": array / 255,
        "tensor": torch.from_numpy(array).permute(2, 0, 1),
    }


@pytest.mark.parametrize("name", list(cells()))
def test_a_picture_is_kept_however_it_comes(name: str, tmp_path: Path) -> None:
    for column in ("image", "images"):
        value = cells()[name]
        one = vr1z.question_of_row({"prompt": "How many?", column: [value] if column == "images" else value})
        (data,) = one.images
        image = Image.open(io.BytesIO(data))
        assert image.format in vr1z.FORMATS and image.size == (8, 4)
    assert vr1z.encode_image(cells()[name]) == data


def test_pictures_are_found_in_messages_and_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    parts = [{"type": "image", "image": Image.new("RGB", (2, 2))}, {"type": "image", "image": str(tmp_path / "a.png")}]
    content = [*parts, {"type": "text", "text": "How many?"}]
    one = vr1z.question_of_row({"prompt": [{"role": "user", "content": content}]})
    assert [Image.open(io.BytesIO(data)).size for data in one.images] == [(2, 2), (8, 4)]
    assert one.question == "How many?"


def test_what_is_no_picture_costs_only_itself() -> None:
    row = {"prompt": "?", "images": [b"GIF89a broken", "/nowhere/a.png", 7, None, Image.new("RGB", (2, 2))]}
    assert len(vr1z.question_of_row(row).images) == 1


def test_large_pictures_are_kept_small() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (1400, 1400, 3), np.uint8))
    data = vr1z.encode_image(noise)
    assert data is not None and Image.open(io.BytesIO(data)).format == "JPEG"


@pytest.mark.parametrize(
    ("column", "gold", "counted"),
    [
        *(
            ("answer", "4", 4),
            ("Answer", 4, 4),
            ("solution", np.int64(4), 4),
            ("ground_truth", 4.0, 4),
            ("label", [4], 4),
        ),
        *(("gold", "7.5", None), ("answer", 7.5, None), ("target", True, None), ("answer", "x = 4", None)),
        *(("bbox", [1, 2, 3, 4], None), ("answers", {"text": ["four", "4"]}, None), ("answer", -1, None)),
        *(("solution", torch.tensor([1.0, 2.0]), None), ("answer", "1234567890", None), ("labels", ["a", "b"], None)),
    ],
)
def test_the_gold_answer_is_found_whatever_its_column_and_type(column: str, gold: Any, counted: int | None) -> None:
    one = vr1z.question_of_row({"prompt": "?", column: gold, "level": "hard"})
    assert one.gold == vr1z.plain(gold) and one.gold is not None
    assert count(one.gold) == counted
    assert one.columns == {"level": "hard"}


def test_a_prompt_is_kept_whole() -> None:
    turns = [{"role": "system", "content": "Answer in <answer>."}, {"role": "user", "content": "First?"}]
    turns += [
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
    ]
    one = vr1z.question_of_row({"prompt": turns})
    assert (one.prompt, one.question, one.images) == (turns, "And now?", ())
    assert vr1z.question_of_row({"prompt": "a text"}).question == "a text"


def test_equal_rows_are_one_example_and_others_are_not() -> None:
    row = {"prompt": "?", "answer": 1, "image": Image.new("RGB", (2, 2))}
    others = [{"prompt": "!"}, {"answer": 2}, {"image": Image.new("RGB", (3, 2))}, {"level": 1}]
    keys = [vr1z.question_of_row(row | change).key for change in ({}, dict(row), *others)]
    assert keys[0] == keys[1] and len(set(keys)) == 5


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(row=st.dictionaries(st.sampled_from(["prompt", "image", "images", "answer", "x", "label"]), NESTED))
def test_no_row_is_beyond_it(row: dict[str, Any]) -> None:
    one = vr1z.question_of_row(row)
    base64.b64encode(b"".join(one.images))
    assert isinstance(one.question, str) and len(one.key) == 24


def derived(*names: str) -> Any:
    """A trainer whose class is the first, and derives from the others."""
    kind: type = object
    for name in reversed(names):
        kind = type(name, (kind,), {})
    return kind()


@pytest.mark.parametrize(
    ("names", "method"),
    [
        (("GRPOTrainer", "Trainer"), "grpo"),
        (("RLOOTrainer", "_BaseTrainer", "Trainer"), "rloo"),
        (("MyTrainer", "DPOTrainer", "Trainer"), "dpo"),
        (("GKDTrainer", "SFTTrainer", "Trainer"), "gkd"),
        (("XPOTrainer", "OnlineDPOTrainer", "Trainer"), "xpo"),
        (("UnslothSFTTrainer", "_UnslothSFTTrainer", "Trainer"), "sft"),
        (("Seq2SeqTrainer", "Trainer"), "unknown"),
        (("SFTTrainerOfMine", "Trainer"), "unknown"),
    ],
)
def test_a_method_has_the_name_that_its_trainer_has(names: tuple[str, ...], method: str) -> None:
    assert vr1z.method_of(derived(*names)) == method
    assert method in METHODS


class TRL020:
    """Has what vr1z touches of TRL 0.20's GRPOTrainer (trl/trainer/grpo_trainer.py at v0.20.0), and does no more.

    That has no `_generate`: `_generate_and_score_completions` renders and samples, and prompts come padded on the left.
    """

    def __init__(self) -> None:
        self.processing_class = SimpleNamespace(decode=self.decode, pad_token_id=0, eos_token_id=1)
        self.pad_token_id, self.eos_token_id = 0, 1
        self.model = SimpleNamespace(training=True)
        self.state = SimpleNamespace(global_step=4)
        self.accelerator = SimpleNamespace(process_index=0)
        self.num_generations = 2
        self.reward_func_names, self.reward_weights = ["short"], torch.tensor([1.0])

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join({0: "<pad>", 5: "<think>\n", 6: "How many?"}.get(id, str(id)) for id in ids)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        return torch.tensor([[-1.0], [float("nan")]])

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        time.sleep(0.01)
        for row in inputs:  # as this version does with pictures: the rows themselves are changed
            row["prompt"][0]["content"] = [{"type": "image"}, {"type": "text", "text": row["prompt"][0]["content"]}]
        self._calculate_rewards(inputs, [], [], [[7, 8, 1], [9]])
        return {
            "prompt_ids": torch.tensor([[0, 6, 5], [0, 6, 5]]),
            "completion_ids": torch.tensor([[7, 8, 1], [9, 0, 0]]),
            "completion_mask": torch.tensor([[1, 1, 1], [0, 0, 0]]),
            "advantages": torch.tensor([0.5, -0.5]),
        }


def test_trl_0_20_is_captured_with_openings_and_times() -> None:
    trainer, found = TRL020(), []
    vr1z.GenerationCapture(trainer, found.append, vr1z.question_of_row, vr1z.opening)
    shown = Image.new("RGB", (2, 2))
    rows = [{"prompt": [{"role": "user", "content": "How many?"}], "image": shown, "answer": 3} for _ in range(2)]
    trainer._generate_and_score_completions(rows)
    (one,) = found
    assert (one.texts, one.lengths, one.truncated) == (["<think>\n78", "<think>\n9"], [3, 1], [False, True])
    assert (one.rewards, one.advantages) == ({"short": [-1.0, None]}, [0.5, -0.5])
    assert (one.step, one.group_size) == (5, 2) and one.generation_seconds >= 0.01
    assert one.rows[0].question == "How many?" and len(one.rows[0].images) == 1 and one.rows[0].gold == 3
