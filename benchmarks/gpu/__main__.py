"""Compare the trainer with stock TRL on a GPU, with the real shapes of SmolVLM and Qwen2-VL and random weights.

    python -m benchmarks.gpu --out FOLDER                  all parts, the most important ones first
    python -m benchmarks.gpu --out FOLDER --part NAME      one part
    python -m benchmarks.gpu --out FOLDER --check          everything small, on a CPU, to check the script

Each part runs in a separate process and writes a JSON file; parts whose file exists are skipped. `gpu.md` and
`gpu.json` have all results so far. Nothing is downloaded. Models are written once to FOLDER/models (about 6 GB).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="folder of the models (default: OUT/models)")
    parser.add_argument("--part", action="append", metavar="NAME", help="run only this part; repeatable")
    parser.add_argument("--check", action="store_true", help="use small models and sizes")
    parser.add_argument("--seconds", type=float, default=150, help="time limit of a part (default: 150)")
    parser.add_argument("--budget", type=float, default=3600, help="start no further part after this many seconds")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.inside:
        do(options)
    else:
        do_all(options)


def file_of(out: Path, part: str) -> Path:
    return out / f"{''.join(c if c.isalnum() or c == '-' else '_' for c in part)}.json"


def do_all(options: argparse.Namespace) -> None:
    """Run the parts without results, each in a process, and write the table after each."""
    from benchmarks.gpu import table
    from benchmarks.gpu.parts import PARTS

    unknown = set(options.part or ()) - PARTS.keys()
    if unknown:
        raise SystemExit(f"Unknown part {', '.join(sorted(unknown))}. Choose from: {'; '.join(PARTS)}.")
    started_at = time.monotonic()
    for part in options.part or PARTS:
        if not file_of(options.out, part).exists() and time.monotonic() - started_at < options.budget:
            print(f"{part} ...", flush=True)
            start_part(options, part)
        figures = {
            name: json.loads(file.read_text()) for name in PARTS if (file := file_of(options.out, name)).exists()
        }
        text = table.write(options.out, figures)
    print(text)
    failed = [name for name, results in figures.items() if "failed" in results]
    if failed:
        raise SystemExit(
            f"Failed: {', '.join(failed)}. Their JSON files say why. Delete these files to repeat the parts."
        )


def start_part(options: argparse.Namespace, part: str) -> None:
    """Run one part in a process; if it dies or takes too long, write a file that says so."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--inside", "--out", str(options.out), "--part", part]
    command += ["--models", str(options.models or options.out / "models"), *(["--check"] if options.check else [])]
    seconds = time.monotonic()
    try:
        code = subprocess.run(command, timeout=options.seconds, env=os.environ | {"HF_HUB_OFFLINE": "1"}).returncode
        reason = f"the process ended with exit code {code}"
    except subprocess.TimeoutExpired:
        reason = f"it took more than {options.seconds:.0f} s"
    file = file_of(options.out, part)
    if not file.exists():
        file.write_text(json.dumps({"failed": reason}))
    print(f"{part}: {time.monotonic() - seconds:.0f} s", flush=True)


def do(options: argparse.Namespace) -> None:
    from benchmarks.gpu.parts import PARTS

    (part,) = options.part
    started_at = time.monotonic()
    try:
        results: dict[str, Any] = PARTS[part](options.models, options.check)
    except Exception as error:  # a failing part must not affect the others
        traceback.print_exc()
        results = {"failed": f"{type(error).__name__}: {error}"}
    results["wall_s"] = time.monotonic() - started_at
    partial = file_of(options.out, part).with_suffix(".part")
    partial.write_text(json.dumps(results, indent=1))
    partial.replace(file_of(options.out, part))


if __name__ == "__main__":
    main()
