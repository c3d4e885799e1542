"""RunConfig: the complete configuration of a run, shared by the command line, the launch form and the database.

Torch-free, because the dashboard imports it. A field's docstring is its help text in the launch form.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from store.db.redaction import redact
from store.db.values import flat
from trainer.spec import faults, paths, presets, yaml_text

BUILT_IN_REWARDS = ("format", "accuracy", "steps", "keyword", "cosine", "random")
NEEDS_THINKING = ("steps", "keyword", "cosine")
HUB_DATASETS = {
    "tallyqa-test": ("vikhyatk/tallyqa-test", "data/*.parquet"),
    "countqa": ("Jayant-Sravan/CountQA", "data/*.parquet"),
    "quantity-23k": ("dutta18/Quantity-Reasoning-VQA-23K", "data/*.parquet"),
    "cauldron": ("HuggingFaceM4/the_cauldron", "tallyqa/*.parquet"),
}
"""Repository on the Hugging Face Hub, and the files in it that make up the dataset."""
FOLDER_DATASETS = ("tdiuc", "vqav2", "tallyqa", "folder")
REAL_DATASETS = (*FOLDER_DATASETS, *HUB_DATASETS)
BENCHMARKS = ("tallyqa-test", "countqa")
"""Datasets with a test split only."""
DRAWN_DATASETS = (
    *("shapes-simple", "shapes-complex", "shapes-hard"),
    *("board-simple", "board-complex", "board-hard"),
)
DATASETS = (*DRAWN_DATASETS, *REAL_DATASETS)
TINY = "tiny"
TINY_BOARD = "tiny-board"
EMBEDDED = {TINY: "shapes", TINY_BOARD: "board"}
"""Base models included in the project, and the drawn world on which each was pre-trained."""


class ConfigError(Exception):
    """The configuration is invalid. The message names the field and what to do; secrets in it are redacted."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class ModelConfig(Section):
    id: str = TINY
    """`tiny` or `tiny-board` (included), a local folder, or the Hugging Face id of an image-text-to-text model."""
    revision: str | None = None
    """Hub revision (commit, tag or branch) to pin; empty uses the repository's default branch."""
    quantization: Literal["none", "nf4", "int8"] = "none"
    """Quantization of the frozen base model: none, nf4 (4-bit with double quantization) or int8."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto uses bfloat16 on GPUs that support it, float16 on GPUs that do not (T4, V100), and float32 on the CPU."""
    longest_edge: Annotated[int, Field(ge=32)] | None = None
    """SmolVLM and Idefics3: resize images so that their longest edge has this many pixels."""
    min_pixels: Annotated[int, Field(ge=784)] | None = None
    """Qwen2-VL: smallest image area, in pixels."""
    max_pixels: Annotated[int, Field(ge=784)] | None = None
    """Qwen2-VL: largest image area, in pixels."""
    adapter: str | None = None
    """Adapter to start from: a run's name or uid (its best checkpoint), `RUN:STEP`, or a folder; empty for none."""


class LoraConfig(Section):
    rank: Annotated[int, Field(ge=1, le=1024)] = 32
    """Rank of the LoRA adapter."""
    alpha: Annotated[int, Field(ge=1)] | None = None
    """LoRA alpha, the scaling of the adapter; empty uses twice the rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout of the adapter; 0 keeps on-policy probability ratios exact."""
    vision: bool = False
    """Also adapt the layers of the vision tower. A frozen tower encodes each image once, so updates are faster."""


class DataConfig(Section):
    dataset: str = "shapes-simple"
    """Dataset for training and held-out examples: one of the known datasets, or your own as `FILE.py:function`."""
    path: str | None = None
    """Folder with the dataset's files; empty downloads a dataset from the hub. Drawn datasets need none."""
    revision: str | None = None
    """Revision of a dataset downloaded from the hub; empty uses the newest, whose commit is recorded."""
    split_rule: Literal["image", "row"] = "image"
    """image puts no image into two splits. row is the original split of quantity-23k, whose splits share images."""
    references_only: bool = False
    """In every split, keep only rows with an accepted reference reasoning (rejection sampling)."""
    traces: str | None = None
    """JSONL file with quantity-23k's reasoning traces; empty looks for it in the dataset's folder."""
    train_examples: Annotated[int, Field(ge=1)] = 2000
    """Number of training examples to draw; all of them if the dataset has fewer."""
    val_examples: Annotated[int, Field(ge=1)] = 200
    """Number of validation examples, the only ones evaluated during training."""
    test_examples: Annotated[int, Field(ge=0)] = 400
    """Number of test examples, evaluated once at the end; 0 skips the test."""
    seed: Seed = 0
    """Seed that decides which examples are drawn for each split."""

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.dataset not in DATASETS and paths.is_dir(self.dataset):
            raise ValueError(f"data.dataset: {self.dataset} is a folder. Use `folder`, with data.path={self.dataset}.")
        if self.dataset not in DATASETS and ".py:" not in self.dataset:
            raise ValueError(
                f"data.dataset: unknown dataset {self.dataset!r}. Choose one of {', '.join(DATASETS)} "
                "or name a function of your own as FILE.py:function."
            )
        if self.dataset in FOLDER_DATASETS and not self.path:
            raise ValueError(
                f"data.path: {self.dataset} is read from local files. Set data.path to the folder that holds them."
            )
        if self.split_rule == "row" and self.dataset != "quantity-23k":
            raise ValueError("data.split_rule: row is for quantity-23k only. Choose image.")
        return self


class RewardConfig(Section):
    name: str
    """`format`, `accuracy`, `steps`, `keyword`, `cosine`, `random`, or `FILE.py:function` with TRL's signature."""
    weight: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    """Weight in the total reward; 0 logs the component without rewarding it."""

    @property
    def label(self) -> str:
        """The component's name in curves, tables and exports."""
        return self.name.rpartition(":")[2]


class OptimizationConfig(Section):
    steps: Annotated[int, Field(ge=1)] = 170
    """Number of weight updates."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 3e-4
    """Peak learning rate (AdamW)."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate schedule after the warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] = 5
    """Number of updates over which the learning rate rises from zero."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of AdamW."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Norm to which gradients are clipped."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Sequences per update: completions for GRPO (prompts times group size), examples for SFT."""
    accumulation: Annotated[int, Field(ge=1)] = 1
    """Number of forward passes into which each batch is split to save memory; the update stays the same."""
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of processes on one host, one per GPU, that share each batch; the update stays the same."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads per process; empty uses `VR1Z_THREADS` or, if that is unset, chooses by model and machine."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass, which is slower but uses less memory."""
    retry_on_oom: bool = False
    """When out of memory, resume from the last checkpoint with double accumulation, down to one sequence per pass."""


class GrpoConfig(Section):
    group_size: Annotated[int, Field(ge=2)] = 8
    """Completions sampled for each prompt (G)."""
    temperature: Annotated[float, Field(gt=0, le=5)] = 1.0
    """Sampling temperature."""
    beta: Annotated[float, Field(ge=0)] = 0.02
    """Weight of the KL penalty against the model that the run starts from; 0 turns it off."""
    loss: Literal["dapo", "dr_grpo", "grpo", "bnpo"] = "dapo"
    """Loss normalization, by TRL's names. bnpo equals dapo here, because each update has its own generation."""
    scale: Literal["group", "batch", "none"] = "group"
    """Divide advantages by the standard deviation of rewards in the group, in the batch, or not at all."""
    importance: Literal["token", "sequence"] = "token"
    """Importance ratio per token (GRPO), or per completion (GSPO, arXiv 2507.18071), which needs loss grpo."""
    mask_truncated: bool = False
    """Exclude completions that were cut off at max_tokens from the loss (DAPO's overlong filtering)."""
    entropy_coef: Annotated[float, Field(ge=0)] = 0.0
    """Weight of an entropy bonus, averaged over all tokens of an update."""
    vllm: Literal["off", "colocate", "server"] = "off"
    """Sample with vLLM on a server (`trl vllm-serve`). colocate (in the training process) is refused with TRL 1.16."""
    vllm_server: str = "http://127.0.0.1:8000"
    """Address of the vLLM server."""
    token_samples: Annotated[int, Field(ge=0)] = 8
    """Completions per step whose tokens are measured (entropy, change since the start); 0 measures none."""


class EvaluationConfig(Section):
    probe_every: Annotated[int, Field(ge=1)] = 10
    """Updates between probes, in which a few validation examples are answered, greedily and sampled, and rewarded."""
    probe_examples: Annotated[int, Field(ge=1)] = 24
    """Number of validation examples in a probe."""
    probe_samples: Annotated[int, Field(ge=0)] = 4
    """Sampled answers per probe example, in addition to the greedy one."""
    val_every: Annotated[int, Field(ge=1)] = 50
    """Updates between evaluations on the whole validation split, which select the best checkpoint."""
    batch_size: Annotated[int, Field(ge=1)] = 100
    """Number of answers generated at once."""
    encoder: str = "all-MiniLM-L6-v2"
    """Sentence encoder for the similarity to reference reasoning; empty turns similarity off."""
    seed: Seed = 0
    """Seed for sampled answers in evaluations."""


class RunConfig(Section):
    """One run: a method, a base model, data, rewards and its length."""

    name: str = ""
    """Name of the run; empty composes one from method, model and rank."""
    method: Literal["grpo", "sft", "none"] = "grpo"
    """grpo learns from rewards alone, sft imitates reference reasoning, and none only evaluates."""
    imitate: Literal["references", "rejection samples"] = "references"
    """What sft with style cot imitates: annotated reference reasoning, or correct samples of the base model itself."""
    style: Literal["cot", "direct"] = "cot"
    """cot asks the model to think before it answers; direct asks for the answer alone."""
    instruction: str | None = None
    """Instruction after the question, in place of the style's own; empty keeps the style's own."""
    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 112
    """Longest completion in tokens, in training and evaluation."""
    seed: Seed = 0
    """Seed for adapter weights, order of examples, and sampling."""
    model: ModelConfig = ModelConfig()
    lora: LoraConfig = LoraConfig()
    data: DataConfig = DataConfig()
    rewards: tuple[RewardConfig, ...] = (
        RewardConfig(name="format", weight=1.0),
        RewardConfig(name="accuracy", weight=2.0),
        RewardConfig(name="steps", weight=0.5),
    )
    try_rewards: bool = True
    """Call each reward of your own once before the model loads, to catch errors early; turn off for paid judges."""
    visual_words: tuple[str, ...] = presets.VISUAL_WORDS
    """Words that the keyword reward looks for."""
    optimization: OptimizationConfig = OptimizationConfig()
    grpo: GrpoConfig = GrpoConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @field_validator("imitate", mode="before")
    def _renamed(cls, value: Any) -> Any:
        return "rejection samples" if value == "own samples" else value  # its former name

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        batch, group = self.optimization.batch_size, self.grpo.group_size * self.optimization.processes
        if self.method == "grpo" and batch % group:
            nearest = max(group, batch // group * group)
            each = "" if self.optimization.processes == 1 else f" for each of {self.optimization.processes} processes"
            raise ValueError(
                f"optimization.batch_size {batch} is not a multiple of grpo.group_size {self.grpo.group_size}{each}: a "
                f"group cannot be split across updates. Try {nearest}."
            )
        accumulation, processes = self.optimization.accumulation, self.optimization.processes
        if batch % (accumulation * processes):
            times = "" if processes == 1 else f" times optimization.processes {processes}"
            raise ValueError(
                f"optimization.batch_size {batch} is not a multiple of optimization.accumulation {accumulation}{times}."
            )
        if self.grpo.importance == "sequence" and self.grpo.loss != "grpo":
            raise ValueError(
                f"grpo.importance sequence has one ratio per completion, which grpo.loss {self.grpo.loss} would weight "
                "by the number of tokens only. Set grpo.loss=grpo."
            )
        if self.imitate == "rejection samples" and (self.method, self.style) != ("sft", "cot"):
            raise ValueError("imitate: rejection samples need method sft and style cot. Choose references.")
        labels = [reward.label for reward in self.rewards]
        for label in labels:
            if labels.count(label) > 1:
                same = " and ".join(reward.name for reward in self.rewards if reward.label == label)
                raise ValueError(f"rewards: {same} would share the name {label}. Remove one, or rename a function.")
        if self.method == "grpo" and not any(reward.weight for reward in self.paid):
            raise ValueError(
                f"rewards: GRPO with style {self.style} needs at least one component with a weight other than 0."
            )
        for reward in self.rewards:
            if reward.name not in BUILT_IN_REWARDS and ".py:" not in reward.name:
                raise ValueError(
                    f"rewards: unknown reward {reward.name!r}. Choose one of {', '.join(BUILT_IN_REWARDS)} "
                    "or name a function of your own as FILE.py:function."
                )
        if self.method != "none" and self.data.dataset in BENCHMARKS:
            raise ValueError(
                f"data.dataset: {self.data.dataset} is a benchmark with a test split only. Train on another dataset "
                "and evaluate on this one."
            )
        return self

    @property
    def title(self) -> str:
        """The run's name, or one made from its distinguishing settings."""
        return self.name or f"{self.method}-{self.model.id.rstrip('/').rpartition('/')[2].lower()}-r{self.lora.rank}"

    @property
    def paid(self) -> tuple[RewardConfig, ...]:
        """Reward components that apply to the run's style; `direct` leaves out those that need thinking."""
        return tuple(r for r in self.rewards if self.style == "cot" or r.name not in NEEDS_THINKING)

    @property
    def imitates(self) -> bool:
        """Whether training needs reference reasoning."""
        return self.method == "sft" and self.style == "cot" and self.imitate == "references"

    @property
    def micro_batch(self) -> int:
        """Sequences in one forward pass of an update, in one process."""
        return self.optimization.batch_size // (self.optimization.accumulation * self.optimization.processes)

    @property
    def prompts_per_step(self) -> int:
        """Number of distinct examples per update."""
        return self.optimization.batch_size // (self.grpo.group_size if self.method == "grpo" else 1)


PRESETS: dict[str, dict[str, Any]] = presets.DEMOS | presets.SHAPES | presets.PRESETS
PRESET_HELP: dict[str, str] = presets.DEMO_HELP | presets.SHAPES_HELP | presets.HELP


def from_dict(values: dict[str, Any]) -> RunConfig:
    """Return a validated RunConfig. Raises ConfigError with one line per error."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(faults.sentence(fault, _fields) for fault in error.errors())) from None


def _fields() -> list[str]:
    """Return the dotted path of every field."""
    return list(flat(RunConfig().model_dump(mode="json")))


def preset(name: str) -> RunConfig:
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}. Choose one of {', '.join(PRESETS)}.")
    return from_dict(PRESETS[name])


def load(path: Path) -> RunConfig:
    """Read a YAML file. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text file in UTF-8.") from None
    values = _parsed(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must contain a mapping of fields to values, such as `method: grpo`.")
    return from_dict(values)


def _parsed(text: str, where: str) -> Any:
    try:
        return yaml_text.parse(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not valid YAML{error}.") from None


def override(config: RunConfig, settings: dict[str, str]) -> RunConfig:
    """Return a copy with dotted fields replaced; values are YAML (`optimization.steps=20`, `rewards.steps=0`)."""
    return replaced(config, {key: _parsed(text, f"{key}={text}") for key, text in settings.items()})


def alternatives(text: str) -> tuple[str, tuple[Any, ...]]:
    """Split `KEY=VALUE, VALUE` into field and values, which are parsed as YAML without types. Raises ConfigError."""
    key, equals, listed = text.partition("=")
    values = _parsed(f"[{listed}]", text) if equals else []
    if not values:
        raise ConfigError(f"{text}: write KEY=VALUE,VALUE, for example grpo.beta=0,0.02.")
    return key.strip(), tuple(values)


def replaced(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Return a copy with dotted fields replaced by values; `rewards.NAME` is the weight of a reward."""
    values = config.model_dump(mode="json")
    for key, value in settings.items():
        if key.startswith("rewards."):
            _set_weight(values["rewards"], key.removeprefix("rewards."), value)
        else:
            _set_field(values, key, value)
    return from_dict(values)


def _set_field(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    target: Any = values
    for section in sections:
        target = target.get(section) if isinstance(target, dict) else None
    if not isinstance(target, dict) or name not in target:
        raise ConfigError(faults.no_such_field(key, _fields()))
    target[name] = value


def _set_weight(rewards: list[dict[str, Any]], name: str, weight: Any) -> None:
    for reward in rewards:
        if name in (reward["name"], reward["name"].rpartition(":")[2]):
            reward["weight"] = weight
            return
    rewards.append({"name": name, "weight": weight})
