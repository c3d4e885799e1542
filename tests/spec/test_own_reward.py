"""A reward of one's own: called by name, whatever it asks for and returns, and blamed where it fails."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.spec import foreign
from trainer.spec.errors import TrainerError, classify
from trainer.spec.own_reward import await_values, wrap

HANDED: dict[str, Any] = {
    "prompts": [[{"role": "user", "content": "?"}]] * 2,
    "completions": [[{"role": "assistant", "content": "a"}], [{"role": "assistant", "content": ""}]],
    "completion_ids": [[5, 2], [2]],
    "images": [["picture"], ["picture"]],
    "answer": [3, 3],
    "question": ["?", "?"],
    "reference": [None, None],
    "trainer_state": "state",
    "log_extra": print,
    "log_metric": print,
}


def written(folder: Path, source: str) -> foreign.Foreign:
    path = folder / "mine.py"
    path.write_text(source, encoding="utf-8")
    return foreign.load(f"{path}:pay", "rewards", "(completions, **columns)")


def called(folder: Path, source: str, *, strict: bool = False) -> list[float | None]:
    return await_values(wrap(written(folder, source), "pay", strict=strict)(**HANDED))


@pytest.mark.parametrize("name", list(HANDED))
@pytest.mark.parametrize(
    "parameters",
    [
        "{name}, **others",
        "*, {name}, **others",
        "{name}",
        "{name}=None, **others",
        "*, {name}=None",
        "first=None, {name}=None, *rest, **others",
    ],
)
def test_every_name_that_trl_hands_in_every_place(tmp_path: Path, name: str, parameters: str) -> None:
    source = f"seen = []\n\ndef pay({parameters.format(name=name)}):\n    seen.append({name})\n    return [1.0, 2.0]\n"
    assert called(tmp_path, source) == [1.0, 2.0]
    found = written(tmp_path, source)
    assert found.call.__globals__["seen"] == [HANDED[name]]


@pytest.mark.parametrize(
    "source",
    [
        "def pay(prompts, completions, **kwargs):\n    return [1.0, 2.0]\n",
        "def pay(trainer_state, images, completion_ids, completions):\n    return [1.0, 2.0]\n",
        "async def pay(completions, **columns):\n    return [1.0, 2.0]\n",
        "import asyncio\n\nasync def pay(completions, **columns):\n    await asyncio.sleep(0)\n    return [1.0, 2.0]\n",
        "class Pay:\n    def __call__(self, completions, **columns):\n        return [1.0, 2.0]\n\npay = Pay()\n",
        "class Pay:\n    async def __call__(self, completions):\n        return [1.0, 2.0]\n\npay = Pay()\n",
        "from functools import partial\n\ndef any(completions, more, **columns):\n    return [more, 2.0]\n\n"
        "pay = partial(any, more=1.0)\n",
        "pay = lambda **columns: [1.0, 2.0]\n",
        "def pay(completions, **columns):\n    yield 1\n    yield 2\n",
    ],
)
def test_the_shapes_of_a_function(tmp_path: Path, source: str) -> None:
    assert called(tmp_path, source) == [1.0, 2.0]


def test_coroutines_of_all_calls_share_one_loop(tmp_path: Path) -> None:
    """A client that was opened in the first call can be used in the second."""
    source = (
        "import asyncio\nlock = None\nloops = set()\n\nasync def pay(completions, **columns):\n    global lock\n"
        "    lock = lock or asyncio.Lock()\n    loops.add(asyncio.get_running_loop())\n"
        "    async with lock:\n        await asyncio.sleep(0)\n    return [len(loops)] * 2\n"
    )
    function = wrap(written(tmp_path, source), "pay")
    assert [await_values(function(**HANDED)) for _ in range(3)] == [[1.0, 1.0]] * 3


RETURNED: list[tuple[Any, list[float | None]]] = [
    ([1, 0], [1.0, 0.0]),
    ((0.5, None), [0.5, None]),
    ([None, None], [None, None]),
    ([True, False], [1.0, 0.0]),
    (np.array([1, 2], dtype=np.float16), [1.0, 2.0]),
    (np.array([True, False]), [1.0, 0.0]),
    ([np.float32(0.5), np.int64(2)], [0.5, 2.0]),
    (torch.tensor([0.5, 1.0]), [0.5, 1.0]),
    ([torch.tensor(0.5, requires_grad=True), torch.tensor([2])], [0.5, 2.0]),
    (range(2), [0.0, 1.0]),
]


@pytest.mark.parametrize(("returned", "expected"), RETURNED)
def test_what_counts_as_a_list_of_numbers(tmp_path: Path, returned: Any, expected: list[float | None]) -> None:
    found = written(tmp_path, "def pay(returned, **columns):\n    return returned\n")
    values = wrap(found, "pay")(**HANDED, returned=returned)
    assert values == expected and all(value is None or type(value) is float for value in values)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("return 1.0", r"returned 1\.0 \(float\) instead of a list\. Return one number per completion"),
        ("return None", r"returned None \(NoneType\) instead of a list"),
        ("return 'good'", r"returned 'good' \(str\) instead of a list"),
        ("return {'a': 1, 'b': 2}", r"returned \{'a': 1, 'b': 2\} \(dict\) instead of a list"),
        ("return {1, 2}", r"returned \{1, 2\} \(set\) instead of a list"),
        ("import numpy\n    return numpy.array(1.0)", r"returned array\(1\.\) \(ndarray\) instead of a list"),
        ("return [1.0]", r"returned 1 numbers for 2 completions\. Return one per completion"),
        ("return []", r"returned 0 numbers for 2 completions"),
        ("return ['1', '2']", r"returned '1' \(str\) for a completion\. Return a number, or None"),
        ("return [[1.0], [2.0]]", r"returned \[1\.0\] \(list\) for a completion"),
        ("return [1j, 2]", r"returned 1j \(complex\) for a completion"),
        ("import numpy\n    return numpy.ones((2, 2))", r"returned array\(\[1\., 1\.\]\) \(ndarray\) for a completion"),
        ("return [float('nan'), 1]", r"returned NaN for a completion\. Return None where the reward does not apply"),
        ("return [float('inf'), 1]", r"returned inf \(float\) for a completion\. Return a finite number"),
        ("return [1e39, 1]", r"returned 1e\+39 \(float\) for a completion\. Return a finite number"),
        ("return [10**400, 1]", r"\.\.\. \(int\) for a completion\. Return a finite number"),
        (
            "return 1 / 0",
            r"failed \(ZeroDivisionError: division by zero, at line 2 of .*mine\.py\)\. Fix the function",
        ),
        ("import asyncio; raise asyncio.CancelledError", r"failed \(CancelledError, at line 2 of .*mine\.py\)"),
        ("raise SystemExit(3)", r"failed \(SystemExit: 3, at line 2 of .*mine\.py\)"),
        ("import json\n    json.loads('')", r"failed \(JSONDecodeError: .*, at line 3 of .*mine\.py\)"),
        (
            "[].strip()",
            r"no attribute 'strip', at line 2 of .*\)\. Completions are lists of messages; their text is",
        ),
        ("import re\n    re.search('a', [])", r"\)\. Completions are lists of messages; their text is"),
    ],
)
@pytest.mark.parametrize("beginning", ["def", "async def"])
def test_faults_are_the_functions(tmp_path: Path, beginning: str, source: str, sentence: str) -> None:
    with pytest.raises(TrainerError, match=sentence) as raised:
        called(tmp_path, f"{beginning} pay(completions, **columns):\n    {source}\n", strict=True)
    kind, told = classify(raised.value)
    assert kind == "reward" and told.startswith(f"rewards: pay in {tmp_path}/mine.py ")


def test_the_fault_of_a_generator_is_the_functions(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"failed \(ZeroDivisionError: division by zero, at line 2 of"):
        called(tmp_path, "def pay(**columns):\n    yield 1 / 0\n")


def test_a_name_that_nobody_hands(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="requires image and solution, but only answer, completion_ids, "):
        called(tmp_path, "def pay(completions, image, *, solution, more=1):\n    return [1, 2]\n")


def test_the_line_is_that_of_the_users_file_however_deep_it_failed(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("def deep(x):\n    return int(x)\n", encoding="utf-8")
    source = "from helper import deep\n\ndef pay(completions, **columns):\n    return [deep('x')]\n"
    with pytest.raises(TrainerError, match=r"ValueError: invalid literal.*, at line 2 of .*helper\.py\)"):
        called(tmp_path, source)


def test_nan_is_none_in_training_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    function = wrap(written(tmp_path, "def pay(**columns):\n    return [float('nan'), 1]\n"), "pay")
    with caplog.at_level(logging.WARNING):
        assert [function(**HANDED) for _ in range(3)] == [[None, 1.0]] * 3
    assert [record.getMessage() for record in caplog.records] == [
        f"rewards: pay in {tmp_path}/mine.py returned NaN, which is treated as None: the reward does not apply."
    ]


@given(
    st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.lists(st.one_of(st.none(), st.floats()), max_size=3))
)
def test_whatever_is_returned_is_numbers_or_told(returned: Any) -> None:
    try:
        values = wrap(RETURNS, "pay")(completions=["a", "b"], returned=returned)
    except TrainerError as error:
        assert error.kind == "reward" and error.message.startswith("rewards: pay in ")
    else:
        assert len(values) == 2 and all(value is None or abs(value) < 3.5e38 for value in values)


@pytest.fixture(scope="module", autouse=True)
def _returning(tmp_path_factory: pytest.TempPathFactory) -> None:
    global RETURNS
    RETURNS = written(tmp_path_factory.mktemp("own"), "def pay(completions, returned):\n    return returned\n")


RETURNS: foreign.Foreign
