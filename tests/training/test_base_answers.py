"""The base is probed and validated after the first update as it was before, and its answers serve other runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peft import get_peft_model
from peft.tuners.lora import LoraLayer

from store.db.engine import Store
from store.db.rows import RunDetail
from store.evaluations.predictions import iter_predictions_of
from store.evaluations.records import list_evaluations
from tests.training.conftest import Train
from trainer import datasets
from trainer.datasets import shapes
from trainer.evaluate import generation
from trainer.evaluate.base_answers import FOLDER, MOST_FILES, BaseAnswers
from trainer.evaluate.generation import Decoding, GeneratedAnswer
from trainer.evaluate.harness import harness_for
from trainer.models import adapters, loading
from trainer.spec import config
from trainer.spec.config import LoraConfig, ModelConfig

pytestmark = pytest.mark.training
FAST = {"optimization.learning_rate": "0.02", "optimization.warmup_steps": "0"}


def answers_at_start(store: Store, run: RunDetail, kind: str) -> list[tuple[int, int, str]]:
    """Example, number of the sample and text of what was answered at step 0."""
    (found,) = [each for each in list_evaluations(store, run.id) if (each.kind, each.step) == (kind, 0)]
    assert found.ended_at is not None
    return sorted((row.example_id, row.sample, row.text) for row in iter_predictions_of(store, found.id))


def test_the_base_answers_as_it_was_after_the_first_update(store: Store, train: Train) -> None:
    run = train("shapes-grpo", FAST)
    settings = config.from_dict(run.config)
    base = loading.load_base(settings.model)
    harness = harness_for(settings, base.model, base.processor, (), None)
    val = datasets.load_run(settings.data, imitates=False).examples["val"]
    said = [answer.text for group in harness.predict(val, harness.decoding) for answer in group]
    assert sorted(text for _, _, text in answers_at_start(store, run, "val")) == sorted(said)
    later = [each for each in list_evaluations(store, run.id) if each.kind == "probe" and each.step == 2]
    moved = sorted((row.example_id, row.sample, row.text) for row in iter_predictions_of(store, later[0].id))
    assert moved != answers_at_start(store, run, "probe"), "training changed nothing: nothing is proven"


def test_a_second_run_of_the_same_base_does_not_answer_again(
    store: Store, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train("shapes-grpo", FAST)
    asked: list[Any] = []
    answer = generation._answer_batch

    def counting(*arguments: Any) -> list[GeneratedAnswer]:
        asked.append(arguments)
        return answer(*arguments)

    monkeypatch.setattr(generation, "_answer_batch", counting)
    for settings, batches in (({}, 0), ({"evaluation.seed": "4"}, 3)):
        asked.clear()
        second = train("shapes-sft", FAST | settings)
        later = sum(each.kind != "probe" for each in list_evaluations(store, second.id) if each.step)
        probes = sum(each.kind == "probe" for each in list_evaluations(store, second.id) if each.step)
        assert len(asked) == later + 2 * probes + batches
        if not settings:
            for kind in ("probe", "val"):
                assert answers_at_start(store, second, kind) == answers_at_start(store, first, kind)


@pytest.fixture
def kept(tmp_path: Path) -> BaseAnswers:
    return BaseAnswers(tmp_path, loading.load_base(ModelConfig()).model, ModelConfig(), {"style": "cot"})


def same(kept: BaseAnswers, described: ModelConfig | None = None, style: str = "cot") -> BaseAnswers:
    model = loading.load_base(ModelConfig()).model
    return BaseAnswers(kept.path.parents[1], model, described or ModelConfig(), {"style": style})


def test_answers_come_back_for_the_same_question_only(kept: BaseAnswers) -> None:
    examples = shapes.examples("simple", "val", 3, 0)
    greedy, sampled = Decoding(20), Decoding(20, temperature=1.0)
    answers = [GeneratedAnswer(f"<think>{i}</think>", (i, 7), False, 0.5) for i in range(4)]
    kept.keep(examples[:2], sampled, answers)
    again = same(kept)
    assert again.find(examples[0], sampled, 2) == answers[:2] and again.find(examples[1], sampled, 2) == answers[2:]
    assert again.find(examples[1], sampled, 1) == answers[2:3]
    others = [(examples[0], greedy, 1), (examples[2], sampled, 1), (examples[0], sampled, 3)]
    others += [(replace(examples[0], question="How many?"), sampled, 1)]
    others += [(replace(examples[0], pictures=examples[1].pictures), sampled, 1)]
    others += [(examples[0], replace(sampled, max_tokens=21), 1)]
    assert [again.find(*each) for each in others] == [None] * len(others)
    for other in (same(kept, style="direct"), same(kept, ModelConfig(dtype="bfloat16"))):
        assert other.find(examples[0], sampled, 1) is None


def test_a_torn_line_and_a_full_disk_change_nothing(kept: BaseAnswers, tmp_path: Path) -> None:
    example, decoding, answer = (
        shapes.examples("simple", "val", 1, 0)[0],
        Decoding(20),
        GeneratedAnswer("a", (1,), False, 0.5),
    )
    kept.keep([example], decoding, [answer])
    kept.path.write_text(kept.path.read_text() + '["torn", {"te\n[1, 2]\n7\n')
    assert same(kept).find(example, decoding, 1) == [answer]
    kept.path.unlink()
    kept.path.mkdir()
    kept.keep([example], decoding, [answer])
    assert kept.find(example, decoding, 1) == [answer]


def test_the_oldest_files_go(kept: BaseAnswers, tmp_path: Path) -> None:
    example = shapes.examples("simple", "val", 1, 0)[0]
    (tmp_path / FOLDER).mkdir()
    for number in range(MOST_FILES + 3):
        (tmp_path / FOLDER / f"{number}.jsonl").touch()
    kept.keep([example], Decoding(20), [GeneratedAnswer("a", (1,), False, 0.5)])
    assert len([*(tmp_path / FOLDER).iterdir()]) == MOST_FILES and kept.path.is_file()


def test_a_policy_can_be_as_it_started_within_itself() -> None:
    base = loading.load_base(ModelConfig())
    model = get_peft_model(base.model, loading.adapter(LoraConfig(rank=4)))
    with adapters.as_started(model, None):
        with adapters.as_started(model, None):
            pass
        assert all(off(model)), "the inner block turned the adapter on"
    assert not any(off(model))


def off(model: Any) -> Sequence[bool]:
    return [module.disable_adapters for module in model.modules() if isinstance(module, LoraLayer)]
