"""Make environments with other versions of TRL for tests of recording: `python -m scripts.trl_environments`.

Each is a virtual environment in .venv/trl/VERSION with that version and those dependencies of which it needs other
versions; everything else, especially PyTorch, comes from .venv.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

PLACE = Path(sys.prefix) / "trl"
OLDER = ("tokenizers==0.21.4", "huggingface_hub==0.34.4", "peft==0.17.1", "accelerate==1.10.1", "datasets==4.0.0")
VERSIONS: dict[str, tuple[str, ...]] = {
    "1.0.0": (),
    "0.24.0": ("transformers==4.55.4", *OLDER),
    "0.20.0": ("transformers==4.55.4", *OLDER),
}
"""Packages to install for each version; the first takes little time."""


def python_of(version: str) -> Path:
    return PLACE / version / "bin" / "python"


def make(version: str) -> str | None:
    """Create an environment unless it exists; return the reason if that fails."""
    folder = PLACE / version
    done = folder / "complete"
    if done.exists():
        return None
    venv.create(folder, clear=True, symlinks=True)
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (packages / "zz_shared.pth").write_text(f"{Path(sysconfig.get_path('purelib')).resolve()}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    requirements = (f"trl=={version}", *VERSIONS[version])
    tried = subprocess.run(
        [*command, "--target", str(packages), *requirements], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        return f"TRL {version} cannot be installed: {tried.stderr.strip().splitlines()[-1:] or 'pip printed no reason'}"
    done.touch()
    return None


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.trl_environments", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="make only the one that takes a few seconds")
    options = parser.parse_args()
    problems = [make(version) for version in list(VERSIONS)[: 1 if options.quick else None]]
    for problem in filter(None, problems):
        print(problem, file=sys.stderr)
    return 1 if any(problems) else 0


if __name__ == "__main__":
    sys.exit(main())
