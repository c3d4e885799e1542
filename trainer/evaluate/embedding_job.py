"""Embed a run's evaluation answers and the references with which they are compared.

Each text is embedded once per encoder. An interrupted job continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator

from store import embeddings
from store.db.engine import Store
from store.embeddings import add_embeddings, use_encoder
from store.evaluations.texts import read_prediction_texts
from store.examples import get_examples
from store.jobs import advance_job, list_jobs
from trainer.evaluate.similarity import Encoder
from trainer.jobs.activity import say
from trainer.spec import wording
from trainer.spec.config import EvaluationConfig
from trainer.spec.errors import Stopped

BATCH = 64
"""Texts embedded between checks for a stop request."""


def run_job(store: Store, job_id: int) -> None:
    """Run a job of kind `embed`. Raises Stopped after the batch in which a stop was requested."""
    job = next(job for job in list_jobs(store, open_only=True) if job.id == job_id)
    say(store, job_id, "loading the sentence encoder")
    encoder = Encoder(str(job.arguments.get("encoder") or EvaluationConfig().encoder))
    encoder_id = use_encoder(store, encoder.name, encoder.version, encoder.dimension)
    say(store, job_id, "reading the traces")
    texts = list(dict.fromkeys(texts_of(store, job.run_id)))
    # Whole traces come first, so that pages can show results early; texts of similar length make the cheapest batches.
    missing = embeddings.missing(store, encoder_id, texts)
    say(store, job_id, "embedding texts")
    done = len(texts) - len(missing)
    for start in range(0, len(missing), BATCH):
        part = missing[start : start + BATCH]
        add_embeddings(store, encoder_id, dict(zip(part, encoder(part), strict=True)))
        done += len(part)
        if advance_job(store, job_id, done, len(texts)):
            raise Stopped


def texts_of(store: Store, run_id: int) -> Iterator[str]:
    """Yield a run's answers and its examples' references, shortest first, and then the sentences of both.

    Sentences of sampled predictions are left out, because no page aligns them.
    """
    predictions = read_prediction_texts(store, [run_id])
    bodies = [wording.style_text(text, think) for text, think in zip(predictions.text, predictions.think, strict=True)]
    examples = get_examples(store, set(predictions.example_id.tolist())).values()
    references = [example.reference for example in examples if example.reference]
    seconds = [str(text) for example in examples if (text := example.meta.get("second_reference"))]
    yield wording.NULL
    yield from sorted({*bodies, *references, *seconds}, key=len)
    greedy = [body for body, sample in zip(bodies, predictions.sample.tolist(), strict=True) if sample == 0]
    yield from sorted({part for text in (*greedy, *references) for part in wording.sentences(text)}, key=len)
