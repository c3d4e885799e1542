"""Somebody's GRPO script, run in an environment of its own beside a `trainer.py` of its own.

`python script.py MODEL OUTPUT yes|no`: whether it is recorded; prints what it logged.
"""

import json
import os
import sys
import warnings

warnings.filterwarnings("ignore")
os.environ["HF_HUB_OFFLINE"] = "1"

import trl  # noqa: E402
from datasets import Dataset  # noqa: E402
from PIL import Image  # noqa: E402
from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402

import trainer as theirs  # noqa: E402

assert theirs.mine
folder, output, recorded = sys.argv[1:4]
rows = [
    {
        "prompt": [{"role": "user", "content": f"How many in picture {i}?"}],
        "image": Image.new("RGB", (64, 64), (i * 9, 0, 0)),
        "answer": str(i),
        "box": [i, 2, 3, 4],
    }
    for i in range(8)
]


def short(completions, **columns):
    return [-float(len(each[0]["content"])) for each in completions]


def right(completions, answer, **columns):
    return [float(gold in each[0]["content"]) for gold, each in zip(answer, completions, strict=True)]


trainer = GRPOTrainer(
    model=AutoModelForImageTextToText.from_pretrained(folder),
    reward_funcs=[short, right],
    args=GRPOConfig(
        output_dir=output,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        num_generations=4,
        max_completion_length=8,
        max_steps=3,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=2,
        report_to=[],
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        beta=0.0,
        seed=3,
        disable_tqdm=True,
    ),
    train_dataset=Dataset.from_list(rows),
    eval_dataset=Dataset.from_list(rows[:1]),
    processing_class=AutoProcessor.from_pretrained(folder, padding_side="left"),
)
if recorded == "yes":
    import vr1z

    vr1z.record(trainer, name=f"theirs {trl.__version__}")
trainer.train()
assert trainer.args.report_to == []
kept = ("step", "loss", "reward", "rewards/short/mean", "grad_norm", "eval_reward")
log = [{name: entry[name] for name in kept if name in entry} for entry in trainer.state.log_history]
print(json.dumps({"version": trl.__version__, "log": log}))
