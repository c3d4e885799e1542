"""`python -m app.report RUN [RUN ...] FILE.html`: export runs as one HTML file that opens offline."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path

from streamlit import logger

from store.db.engine import StoreError, open_store
from store.runs import get_run, resolve_run
from store.terminal import shown


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m app.report",
        description="Export runs with curves, milestones, traces and conditions as one HTML file.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="uid of a run, or its name if unique")
    parser.add_argument("file", metavar="FILE", type=Path, help="a new HTML file")
    parser.add_argument("--db", metavar="URL", help="database URL or path (default: $VR1Z_DATABASE_URL, else data/)")
    options = parser.parse_args(argv)
    logger.set_log_level("ERROR")  # the pages' caches would warn that no page is open
    from app.report.document import document

    if options.file.exists():
        return _refuse(f"{options.file} already exists: choose another file.")
    try:
        with closing(open_store(options.db)) as store:
            runs = [get_run(store, resolve_run(store, name)) for name in options.runs]
            text = document(store, runs)
    except StoreError as error:
        return _refuse(str(error))
    try:
        options.file.write_text(text, encoding="utf-8")
    except OSError as error:
        return _refuse(f"{options.file} cannot be written ({error.strerror}): choose another file.")
    print(shown(f"Wrote {options.file}: {len(text.encode()) / 1e6:.1f} MB."))
    return 0


def _refuse(sentence: str) -> int:
    print(shown(sentence), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
