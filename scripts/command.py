"""The command `vr1z` of an installed wheel, for the dashboard and the commands of store and trainer.

It puts the project's folders on the Python path of itself and of the processes that it starts.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

INSIDE = Path(__file__).with_name("inside")
STORE = (
    *("runs", "metrics", "completions", "predictions", "copy", "import", "follow", "sync", "backup", "restore"),
    *("export-run", "export-experiment", "import-run", "delete", "orphans"),
)
TRAINER = (
    *(
        "run",
        "eval",
        "embed",
        "tokens",
        "experiment",
        "sweep",
        "stop",
        "export",
        "preflight",
        "data",
        "queue",
        "machine",
    ),
)
HELP = f"""usage: vr1z COMMAND [ARGUMENTS]; see `vr1z COMMAND --help`

  serve   the dashboard on your runs
  demo    the dashboard with a demo
  report  write runs to one HTML file that opens offline
  {", ".join(STORE)}
          the same as `python -m store …` in the repository
  {", ".join(TRAINER)}
          the same as `python -m trainer …`; needs `pip install vision-r1-zero[trainer]`
"""


def main() -> None:
    command, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if command in ("serve", "demo"):
        module, arguments = "app", [*(["--demo"] if command == "demo" else []), *arguments]
    elif command == "report":
        module = "app.report"
    elif command in STORE or command in TRAINER:
        module, arguments = "store" if command in STORE else "trainer", [command, *arguments]
    else:
        print(HELP, file=sys.stdout if command in ("-h", "--help") else sys.stderr)
        sys.exit(0 if command in ("-h", "--help") else 2)
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(INSIDE)]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(INSIDE), *others])
    sys.path.insert(0, str(INSIDE))
    sys.argv = [f"vr1z {command}", *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
