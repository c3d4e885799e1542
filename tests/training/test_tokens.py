"""What policy and base think of each token: recorded while training, measured later, compared with a plain pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from store.completions.rows import list_completions, list_groups
from store.completions.tokens import get_tokens
from store.db.engine import Store
from store.db.rows import StoredCompletion, StoredTokens
from store.events import list_checkpoints, set_checkpoint
from store.jobs import add_job, get_job
from store.runs import get_run
from tests.training.conftest import Train
from trainer import launch
from trainer.evaluate import decoding, generation, tokens
from trainer.evaluate.tokens_job import example_of
from trainer.jobs.job import FINISHED, execute
from trainer.models import adapters, loading
from trainer.models.checkpoints import Checkpoints
from trainer.models.loading import Base
from trainer.spec import config
from trainer.spec.config import RunConfig

pytestmark = pytest.mark.training
SAMPLES = 3


@pytest.fixture(scope="module")
def base() -> Base:
    return loading.load_base(config.ModelConfig())


def by_hand(base: Base, store: Store, settings: RunConfig, row: StoredCompletion, ids: list[int]) -> torch.Tensor:
    """Entropy, log-probability and the base's, (3, tokens), by transformers alone: the adapter is merged, or absent."""
    run = get_run(store, row.run_id)
    folder = Checkpoints(store, run.id, Path(str(run.output_dir))).get("last").path
    example = example_of(store, row)
    prompt = generation.render(base.processor, example, settings.style, settings.instruction)
    inputs = base.processor(text=[prompt], images=[list(example.images)], return_tensors="pt")
    length = inputs["input_ids"].shape[1]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    chosen = torch.tensor(ids).unsqueeze(1)

    def thought(model: torch.nn.Module) -> torch.distributions.Categorical:
        with torch.no_grad():
            return torch.distributions.Categorical(logits=model.eval()(**inputs).logits[0, length - 1 : -1].float())

    before = thought(base.model).log_prob(chosen.squeeze(1))
    fresh = loading.load_base(settings.model)
    after = thought(adapters.with_adapter(fresh, settings.lora, folder).merge_and_unload())
    return torch.stack([after.entropy(), after.log_prob(chosen.squeeze(1)), before])


def figures(found: StoredTokens) -> torch.Tensor:
    return torch.tensor(found.tokens[1:])


def test_tokens_are_measured_while_training_and_again_later(store: Store, train: Train, base: Base) -> None:
    run = train("shapes-grpo", {"grpo.token_samples": str(SAMPLES), "optimization.learning_rate": "0.01"})
    settings = config.from_dict(run.config)
    for step in (1, 3):
        rows = [row for group in list_groups(store, run.id, step) for row in group.completions]
        known = {row.id: found for row in rows if (found := get_tokens(store, row.id))}
        assert list(known) == [row.id for row in rows[:SAMPLES]]
        for row in rows[:SAMPLES]:
            found = known[row.id]
            assert (found.step, found.exact) == (step - 1, True)
            assert {len(values) for values in found.tokens} == {row.tokens}
            assert found.tokens.ends[-1] == len(row.text)
    first = list_completions(store, run.id, steps=(1, 1), limit=1)[0]
    last = list_completions(store, run.id, steps=(3, 3), limit=50)[-1]
    sampled = get_tokens(store, first.id)
    assert sampled is not None
    assert torch.equal(figures(sampled)[1], figures(sampled)[2])  # before the first update the policy is the base

    job = add_job(store, run.id, "tokens", {"completion": last.id})
    assert execute(store, get_job(store, job.uid)) == 0
    again = get_tokens(store, last.id)
    assert again is not None
    assert (again.step, again.exact) == (3, False)
    ids = tokens.tokenize(base.processor.tokenizer, last.text, is_whole=not last.truncated)
    expected = by_hand(base, store, settings, last, ids)
    torch.testing.assert_close(figures(again), expected, atol=2e-4, rtol=1e-3)
    assert (figures(again)[1] - figures(again)[2]).abs().max() > 0.01


def test_what_cannot_be_measured_says_why(store: Store, train: Train) -> None:
    run = train("shapes-grpo", {"grpo.token_samples": "0"})
    row = list_completions(store, run.id, limit=1)[0]
    assert get_tokens(store, row.id) is None
    other, _ = launch.create(store, config.preset("shapes-grpo"))
    for run_id, sentence in ((other.id, "belongs to another run"), (run.id, "has no checkpoint")):
        for checkpoint in list_checkpoints(store, run.id):
            set_checkpoint(store, run.id, kind=checkpoint.kind, step=checkpoint.step, path="gone")
        job = add_job(store, run_id, "tokens", {"completion": row.id})
        assert execute(store, get_job(store, job.uid)) != FINISHED
        assert sentence in str(get_job(store, job.uid).error)


@pytest.mark.parametrize("text", ["<think>1. réd — 😀</think>", " 木の中\u202e", "<image><|im_start|>", "\x00\ufffd"])
def test_every_character_belongs_to_one_token(base: Base, text: str) -> None:
    tokenizer = base.processor.tokenizer
    for is_whole in (True, False):
        ids = tokens.tokenize(tokenizer, text, is_whole=is_whole)
        ends = tokens.ends(tokenizer, ids, text)
        assert list(ends) == sorted(ends) and len(ends) == len(ids) and ends[-1] == len(text)
        assert not set(ids) & set(decoding.placeholder_ids(base.model))
        assert generation.decode(tokenizer, ids, {tokenizer.eos_token_id}) == text
