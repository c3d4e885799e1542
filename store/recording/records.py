"""The records of a journal, version 1, with one JSON object per line. `docs/journal.md` describes them.

They may come from any script, so each record is checked before anything is stored. Unknown fields are ignored, because
a newer recorder may write more.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from store.db import checking
from store.db import schema as tables
from store.db.rows import TokenRow
from store.db.values import storable

VERSION = 1
"""The newest journal version that can be read; all earlier ones can be read as well."""
RECORDED = "(recorded)"
"""Dataset name for runs and examples of scripts."""
LINES, IMAGES = "journal.jsonl", "images"
PREFIX = "vr1z-"
"""Prefix of a journal's folder name, followed by the run's uid."""
TAIL = 2**16
"""Bytes first read from the end of a journal."""
LONGEST_LINE = 64 * 2**20

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Text = Annotated[str, StringConstraints(max_length=4_000_000)]
Number = Annotated[float, Field(ge=-1e100, le=1e100, allow_inf_nan=False)]
Step_ = Annotated[int, Field(ge=0, le=2**31 - 1)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Moment = Annotated[float, Field(ge=0, le=253402300799)]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Uid = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{1,16}$")]


def _stored_in(column: Any, wrap: str | None = None) -> AfterValidator:
    """Return a validator with the check of the column in which a value is stored, under the key `wrap` if given."""
    check = checking.check_of(column)

    def validate(value: Any) -> Any:
        fault = None if value is None else check(value if wrap is None else {wrap: value})
        if fault is not None:
            raise ValueError(fault)
        return value

    return AfterValidator(validate)


Config = Annotated[dict[str, Any], _stored_in(tables.Run.__table__.c.config, "recorded")]
Environment = Annotated[dict[str, Any], _stored_in(tables.Run.__table__.c.environment)]
Numbers = Annotated[dict[Name, Number | None], Field(max_length=10_000)]


class Damaged(ValueError):
    """Raised for a line that is not a valid record."""


class Newer(ValueError):
    """Raised for a journal of a newer version than this program can read."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Process(_Record):
    host: Name
    boot_id: Annotated[str, StringConstraints(max_length=64)] | None = None
    pid: Count
    started: Number | None = None
    namespace: Annotated[str, StringConstraints(max_length=100)] | None = None
    """The pid namespace, which distinguishes containers on one machine; they cannot see each other's processes."""


class RunColumns(_Record):
    """The script's description of its run."""

    name: Name
    method: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,16}$")] = "unknown"
    model: Annotated[str, StringConstraints(max_length=400)] = "unknown"
    grammar: Literal["ours", "boxed", "none"] = "none"
    config: Config = Field(default_factory=dict)
    reward_weights: Numbers = Field(default_factory=dict)
    lora_rank: Count | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None
    max_steps: Annotated[int, Field(le=2**31 - 1)] | None = None
    output_dir: Annotated[str, StringConstraints(max_length=1000)] | None = None
    tags: Annotated[tuple[Tag, ...], Field(max_length=100)] = ()
    note: Annotated[str, StringConstraints(max_length=20_000)] | None = None


class Begin(_Record):
    """Training starts, or continues after `step` updates. The process is a job of its own."""

    type: Literal["begin"] = "begin"
    version: Annotated[int, Field(ge=1)]
    uid: Uid
    at: Moment
    step: Step_ = 0
    run: RunColumns
    process: Process
    environment: Environment = Field(default_factory=dict)
    folder: Annotated[str, StringConstraints(max_length=1000)] | None = None
    """Path of the journal on the script's machine."""


class ExampleRecord(_Record):
    """A question; its images are next to the journal, named by their hashes."""

    type: Literal["example"] = "example"
    key: Name
    question: Text = ""
    prompt: Annotated[Any, _stored_in(tables.Example.__table__.c.prompt)] = None
    gold: Annotated[Any, _stored_in(tables.Example.__table__.c.gold)] = None
    columns: Annotated[dict[str, Any], _stored_in(tables.Example.__table__.c.columns)] = Field(default_factory=dict)
    images: Annotated[tuple[Hash, ...], Field(max_length=1000)] = ()


class _Said(_Record):
    text: Text
    example: Name | None = None
    """Key of an example recorded before."""
    tokens: Count | None = None
    truncated: bool = False
    rewards: Annotated[dict[Name, Number | None], Field(max_length=1000)] = Field(default_factory=dict)
    """Unweighted value of each component."""


class Sampled(_Said):
    """A completion sampled for an update."""

    generation: Count = 0
    group: Count | None = None
    index: Count = 0
    advantage: Number | None = None
    row: int | None = None
    """The example's number in the run's dataset, which our own trainer's spool has instead of a key."""
    truth: int | None = None
    """The example's true count, also in our own trainer's spool only."""


class RecordedAnswer(_Said):
    """An answer in an evaluation; sample 0 is greedy."""

    sample: Count = 0
    correct: bool | None = None
    """Correctness according to the script; None if it does not tell."""


class StepRecord(_Record):
    """The data of one update, or a part of it; metrics and completions are added to those that the step has."""

    type: Literal["step"] = "step"
    step: Step_
    at: Moment | None = None
    """Time in seconds since the epoch; None if there was no update, for example at an evaluation."""
    metrics: Numbers = Field(default_factory=dict)
    """By the trainer's own names."""
    completions: Annotated[tuple[Sampled, ...], Field(max_length=100_000)] = ()
    means: bool = False
    """Whether the means of rewards and lengths have to be computed, because no trainer logs them."""
    measured: dict[Count, TokenRow] = Field(default_factory=dict)
    """Per-token measurements by completion number."""


class EvaluationRecord(_Record):
    """Answers in an evaluation after `step` updates, beginning with number `first` of `total`."""

    type: Literal["evaluation"] = "evaluation"
    step: Step_
    name: Annotated[str, StringConstraints(max_length=200)] = ""
    """Name of the benchmark or evaluation set; empty if there is only one."""
    at: Moment | None = None
    greedy: bool = False
    first: Count = 0
    total: Count
    rows: Annotated[tuple[RecordedAnswer, ...], Field(max_length=100_000)]


class Columns(_Record):
    """Columns of a run that may be set later."""

    name: Name | None = None
    method: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,16}$")] | None = None
    grammar: Literal["ours", "boxed", "none"] | None = None
    style: Literal["cot", "direct"] | None = None
    config: Config | None = None
    """The whole configuration, which replaces the earlier one."""
    reward_weights: Numbers | None = None


class Describe(_Record):
    """Changes to the description of the run."""

    type: Literal["describe"] = "describe"
    columns: Columns = Field(default_factory=Columns)
    environment: Environment = Field(default_factory=dict)


class EventRecord(_Record):
    type: Literal["event"] = "event"
    kind: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,32}$")]
    message: Annotated[str, StringConstraints(max_length=20_000)]
    at: Moment | None = None


class End(_Record):
    """Training ended."""

    type: Literal["end"] = "end"
    state: Literal["finished", "stopped", "failed"]
    error: Annotated[str, StringConstraints(max_length=20_000)] | None = None
    at: Moment | None = None


Record = Begin | ExampleRecord | StepRecord | EvaluationRecord | Describe | EventRecord | End
_NUMBERED = re.compile(r'\s*\{"seq": ?(\d{1,15})\b')
_READER: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="type")])


def to_line(record: Record, number: int | None = None) -> str:
    """Return the record as a line of ASCII without a line end; `number` is its place in the journal."""
    place = {} if number is None else {"seq": number}
    return json.dumps(place | record.model_dump(exclude_defaults=True) | {"type": record.type})


def from_line(line: str | bytes) -> tuple[int | None, Record]:
    """Parse a line; return its number, if it has one, and the record. Raises Damaged, or Newer."""
    number: int | None = None
    try:
        values = storable(json.loads(line))
        sequence = values.get("seq")
        number = sequence if isinstance(sequence, int) and not isinstance(sequence, bool) else None
        version = values.get("version") if values.get("type") == "begin" else None
        if isinstance(version, int) and version > VERSION:
            raise Newer(
                f"This journal has version {version}, but this program reads versions up to {VERSION}. Upgrade the "
                "dashboard, then import the journal with `python -m store sync`."
            )
        return number, _READER.validate_python(values)
    except Newer:
        raise
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Damaged(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(str(error)) from None


def number_of(line: bytes | str) -> int | None:
    """Return the number of a line, whether or not it is a valid record."""
    text = line[:40].decode("ascii", "replace") if isinstance(line, bytes) else line[:40]
    match = _NUMBERED.match(text)
    return int(match[1]) if match else None


def last_line(path: Path) -> bytes | None:
    """Return a journal's last complete line without reading the others; None if it has none. Raises OSError."""
    with path.open("rb") as file:
        end = place = file.seek(0, os.SEEK_END)
        tail = b""
        while place and tail.count(b"\n") < 2:
            place = max(0, place - TAIL)
            file.seek(place)
            tail = file.read(end - place)
    lines = tail[: tail.rfind(b"\n") + 1].splitlines()
    return lines[-1] if lines else None


def last_number(path: Path) -> int | None:
    """Return the number of a journal's last complete line; None if it has none."""
    line = last_line(path)
    return None if line is None else number_of(line)


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the complete lines of a journal, without an incomplete last line that a killed writer left."""
    with path.open("rb") as file:
        while (line := file.readline(LONGEST_LINE)).endswith(b"\n"):
            yield line
