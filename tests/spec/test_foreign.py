"""A file of one's own is a normal module: what Python lets a file do, it may do here."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import typing
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest

from trainer.spec import foreign
from trainer.spec.config import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return folder


def load(path: Path, name: str = "pay") -> foreign.Foreign:
    return foreign.load(f"{path}:{name}", "rewards", "(completions, **columns)")


WAYS: dict[str, dict[str, str]] = {
    "a dataclass under postponed annotations": {
        "pay.py": "from __future__ import annotations\nfrom dataclasses import dataclass\n\n"
        "@dataclass\nclass Limits:\n    cap: float = 3.0\n\ndef pay(completions):\n    return Limits().cap\n"
    },
    "a helper": {
        "helper.py": "CAP = 3.0\n",
        "pay.py": "from helper import CAP\n\ndef pay(completions):\n    return CAP\n",
    },
    "a helper under another name": {
        "helper.py": "CAP = 3.0\n",
        "pay.py": "import helper as other\n\ndef pay(completions):\n    return other.CAP\n",
    },
    "a helper of a helper": {
        "values.py": "CAP = 3.0\n",
        "helper.py": "import values\n\nCAP = values.CAP\n",
        "pay.py": "import helper\n\ndef pay(completions):\n    return helper.CAP\n",
    },
    "a helper within a function": {
        "helper.py": "CAP = 3.0\n",
        "pay.py": "def pay(completions):\n    from helper import CAP\n    return CAP\n",
    },
    "a package": {
        "helpers/__init__.py": "",
        "helpers/caps.py": "CAP = 3.0\n",
        "pay.py": "import helpers.caps\n\ndef pay(completions):\n    return helpers.caps.CAP\n",
    },
    "a module of a package": {
        "helpers/__init__.py": "",
        "helpers/caps.py": "from .values import CAP\n",
        "helpers/values.py": "CAP = 3.0\n",
        "pay.py": "from helpers import caps\n\ndef pay(completions):\n    return caps.CAP\n",
    },
    "a folder without __init__": {
        "helpers/caps.py": "CAP = 3.0\n",
        "pay.py": "from helpers.caps import CAP\n\ndef pay(completions):\n    return CAP\n",
    },
    "a relative import": {
        "helper.py": "CAP = 3.0\n",
        "pay.py": "from .helper import CAP\n\ndef pay(completions):\n    return CAP\n",
    },
    "a file of a package": {
        "__init__.py": "CAP = 3.0\n",
        "pay.py": "from . import CAP\n\ndef pay(completions):\n    return CAP\n",
    },
    "a helper beside a file of a package": {
        "__init__.py": "",
        "helper.py": "CAP = 3.0\n",
        "pay.py": "from helper import CAP\n\ndef pay(completions):\n    return CAP\n",
    },
    "files that import each other": {
        "helper.py": "import pay\n\ndef cap():\n    return pay.CAP\n",
        "pay.py": "CAP = 3.0\nimport helper\n\ndef pay(completions):\n    return helper.cap()\n",
    },
    "a helper with a library's name": {
        "datasets.py": "CAP = 3.0\n",
        "pay.py": "from datasets import CAP\n\ndef pay(completions):\n    return CAP\n",
    },
    "a helper with a name of ours": {
        "trainer.py": "CAP = 3.0\n",
        "store/__init__.py": "TWO = 2.0\n",
        "pay.py": "import trainer, store\n\ndef pay(completions):\n    return trainer.CAP + store.TWO - 2\n",
    },
    "letters of other scripts": {
        "größe.py": "KAPPE = 3.0\n",
        "pay.py": "from größe import KAPPE\n\ndef pay(completions):\n    return KAPPE if 'é' else 0\n",
    },
    "a script's own end": {
        "pay.py": "def pay(completions):\n    return 3.0\n\nif __name__ == '__main__':\n    raise SystemExit(pay([]))\n"
    },
    "files to read beside it": {
        "cap.txt": "3.0",
        "pay.py": "from pathlib import Path\n\ndef pay(completions):\n"
        "    return float(Path(__file__).with_name('cap.txt').read_text())\n",
    },
    "a callable object": {
        "pay.py": "class Payer:\n    def __call__(self, completions):\n        return 3.0\n\npay = Payer()\n"
    },
    "a function from elsewhere": {"pay.py": "from math import fsum as pay\n"},
    "a future import and a byte order mark": {
        "pay.py": "\ufefffrom __future__ import annotations\n\ndef pay(completions):\n    return 3.0\n"
    },
}


@pytest.mark.parametrize("way", list(WAYS))
def test_what_a_file_may_do(tmp_path: Path, way: str) -> None:
    found = load(written(tmp_path, WAYS[way]) / "pay.py")
    assert found.call([3.0]) == 3.0
    kept = {"pay.py": found.source, **found.helpers}
    expected = {name: text.lstrip("\ufeff") for name, text in WAYS[way].items() if name.endswith(".py")}
    assert {Path(name).name: text for name, text in kept.items()} == {Path(n).name: t for n, t in expected.items()}
    assert not list(tmp_path.rglob("__pycache__"))


@pytest.mark.parametrize("name", ["trainer", "store", "app", "json", "random", "datasets", "test", "my-pay", "pay.v2"])
def test_the_name_of_the_file_is_free(tmp_path: Path, name: str) -> None:
    before = set(sys.modules)
    source = "import json, random\nimport datasets\n\ndef pay(completions):\n    return json.dumps(datasets.__name__)\n"
    found = load(written(tmp_path, {f"{name}.py": source}) / f"{name}.py")
    assert found.call([]) == '"datasets"'
    assert name in before or name not in sys.modules or name in sys.stdlib_module_names | {"datasets"}


def test_files_and_helpers_of_one_name_in_two_folders(tmp_path: Path) -> None:
    source = "def pay(completions):\n    from helper import CAP\n    return CAP\n"
    both = [
        load(written(tmp_path / name, {"pay.py": source, "helper.py": f"CAP = {cap}\n"}) / "pay.py")
        for name, cap in (("one", 1), ("two", 2))
    ]
    assert [each.call([]) for each in both] == [1, 2]
    assert both[0].sha256 != both[1].sha256


def test_two_functions_of_a_file_share_its_module(tmp_path: Path) -> None:
    folder = written(
        tmp_path, {"pay.py": "seen = []\n\ndef pay(c):\n    seen.append(c)\n\ndef told(c):\n    return seen\n"}
    )
    load(folder / "pay.py").call(1)
    assert load(folder / "pay.py", "told").call(None) == [1]


def test_objects_of_a_file_can_be_pickled_and_their_hints_read(tmp_path: Path) -> None:
    source = (
        "from __future__ import annotations\nfrom typing import NamedTuple\n\n"
        "class Limits(NamedTuple):\n    cap: int = 3\n    more: list[Limits] | None = None\n\n"
        "def pay(completions):\n    return Limits()\n"
    )
    found = load(written(tmp_path, {"pay.py": source}) / "pay.py")
    limits = found.call([])
    again = ForkingPickler.loads(ForkingPickler.dumps(limits))
    assert again == limits and type(again) is type(limits)
    assert ForkingPickler.loads(ForkingPickler.dumps(found.call)) is found.call
    assert typing.get_type_hints(type(limits))["cap"] is int


PARALLEL = """
import multiprocessing
from dataclasses import dataclass
from helper import double

@dataclass
class Job:
    n: int

def work(job):
    return Job(double(job.n))

def pay(start):
    with multiprocessing.get_context(start).Pool(1) as pool:
        return [job.n for job in pool.map(work, [Job(1), Job(2)])]
"""


@pytest.mark.parametrize(
    ("name", "start"),
    [("pay", "spawn"), ("pay", "fork"), ("pay", "forkserver"), ("trainer", "spawn"), ("my-pay", "spawn")],
)
def test_a_file_may_start_processes(tmp_path: Path, start: str, name: str) -> None:
    written(tmp_path, {f"{name}.py": PARALLEL, "helper.py": "def double(n):\n    return 2 * n\n"})
    code = (
        "from trainer.spec import foreign\n"
        f"found = foreign.load({str(tmp_path / name)!r} + '.py:pay', 'rewards', '()')\n"
        f"print(found.call({start!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "[2, 4]\n", done.stderr


def test_an_edited_helper_is_read_anew(tmp_path: Path) -> None:
    files = {"pay.py": "from helper import CAP\n\ndef pay(completions):\n    return CAP\n"}
    for cap in (1, 2):
        found = load(written(tmp_path, files | {"helper.py": f"CAP = {cap}\n"}) / "pay.py")
        assert found.call([]) == cap and found.helpers == {"helper.py": f"CAP = {cap}\n"}


def test_a_file_alone_is_known_by_its_own_hash(tmp_path: Path) -> None:
    source = "def pay(completions):\n    return 1\n"
    alone = load(written(tmp_path, {"pay.py": source, "unrelated.py": "x = 1\n"}) / "pay.py")
    assert alone.sha256 == hashlib.sha256(source.encode()).hexdigest() and alone.helpers == {}


def test_a_module_that_has_a_librarys_name_is_for_its_neighbours_alone(tmp_path: Path) -> None:
    files = {"yaml.py": "CAP = 1\n", "pay.py": "import yaml\n\ndef pay(completions):\n    return yaml.CAP\n"}
    assert load(written(tmp_path, files) / "pay.py").call([]) == 1
    import yaml

    assert yaml.safe_load("a: 1") == {"a": 1}


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"pay.py": "import nowhere\n"}, r"\(ModuleNotFoundError: No module named 'nowhere', at line 1 of .*pay\.py\)"),
        (
            {"pay.py": "import helper\n", "helper.py": "\n\n1 / 0\n"},
            r"\(ZeroDivisionError: division by zero, at line 3 of .*helper\.py\)\. Fix the file",
        ),
        (
            {"pay.py": "import helper\n", "helper.py": "def (\n"},
            r"\(SyntaxError: invalid syntax \(helper\.py, line 1\)",
        ),
        ({"pay.py": "import sys\nsys.exit('bye')\n"}, r"\(SystemExit: bye, at line 2 of .*pay\.py\)"),
        ({"pay.py": "import argparse\nargparse.ArgumentParser().parse_args(['-x'])\n"}, r"\(SystemExit: 2, at line 2"),
        ({"pay.py": "def pay(c):\n  x = '\u2028'\n y = 1\n"}, r"IndentationError"),
        ({"pay.py": "x = '\0'\n"}, r"null bytes"),
        ({"pay.py": "from ..up import x\n"}, r"ImportError: attempted relative import beyond top-level package"),
        ({"pay.py": "from helper import x\n", "helper.py": ""}, r"ImportError: cannot import name 'x'"),
        ({"pay.py": "# coding: nonsense\n"}, r"SyntaxError: unknown encoding"),
        ({"pay.py": "pay = 3\n"}, r"has no function pay\(completions, \*\*columns\)\. Define it in that file"),
        ({"pay.py": "class pay: ...\n"}, r"has no function pay"),
        ({"pay.py/__init__.py": ""}, r"cannot read .*pay\.py \(Is a directory\)"),
    ],
)
def test_the_fault_of_a_file_is_told_with_its_place(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as raised:
        load(written(tmp_path, files) / "pay.py")
    assert str(raised.value).startswith(
        f"rewards: {'cannot read ' if '/' in next(iter(files)) else ''}{tmp_path}/pay.py"
    )


def test_a_file_in_latin_letters_without_saying_so(tmp_path: Path) -> None:
    (tmp_path / "pay.py").write_bytes("x = 'größe'\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"cannot be imported \((SyntaxError|UnicodeDecodeError)"):
        load(tmp_path / "pay.py")


def test_a_dataset_file_may_have_helpers(tmp_path: Path) -> None:
    from trainer.datasets.python_file import PythonFile

    files = {
        "helper.py": "QUESTION = 'How many cats?'\n",
        "mine.py": "from helper import QUESTION\n\n"
        "def examples(split):\n    return [{'question': QUESTION, 'answer': 2, 'image': 'a.png'}]\n",
    }
    found: Any = next(PythonFile(f"{written(tmp_path, files)}/mine.py:examples").read("train"))
    assert (found.question, found.answer) == ("How many cats?", 2)
