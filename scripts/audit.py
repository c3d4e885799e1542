"""Check installed packages for known vulnerabilities: `python -m scripts.audit PIP-AUDIT` (that program's path).

Exits with 0 if none are known, 1 if some are, and 2 if the database cannot be reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from typing import Any

NOBODY = (
    "The database of known vulnerabilities cannot be reached{why}, so nothing was checked. Run this where it can be."
)
NONE_KNOWN, SOME_KNOWN, NOT_ASKED = range(3)


def main(program: str) -> int:
    command = [program, "--format", "json", "--progress-spinner", "off", "--path", sysconfig.get_path("purelib")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        print(NOBODY.format(why=f" ({last[:300]})"), file=sys.stderr)
        return NOT_ASKED
    return print_vulnerabilities(answer["dependencies"])


def print_vulnerabilities(packages: list[dict[str, Any]]) -> int:
    """Print the known vulnerabilities; packages unknown to the database, such as local builds, were not checked."""
    checked = [each for each in packages if "vulns" in each]
    if not checked:
        print(NOBODY.format(why=""), file=sys.stderr)
        return NOT_ASKED
    vulnerable = [(each, vulnerability) for each in checked for vulnerability in each["vulns"]]
    for each, vulnerability in vulnerable:
        fixed_in = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        print(f"{each['name']} {each['version']}: {vulnerability['id']}, fixed in {fixed_in}")
    skipped = [each["name"] for each in packages if "vulns" not in each]
    print(f"{len(checked)} packages checked, {len(vulnerable)} vulnerabilities known.", end=" " if skipped else "\n")
    if skipped:
        print(f"Not checked: {', '.join(skipped)}.")
    return SOME_KNOWN if vulnerable else NONE_KNOWN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
