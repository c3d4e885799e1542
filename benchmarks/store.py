"""How fast and how safe is the store? Beside bare sqlite3, in one run, on this machine: `python -m benchmarks.store`.

Both sides write the same rows with the same commits under the same pragmas, in alternating blocks, so that a busy
machine slows both; only the ratios mean something. Exits 1 when a target is missed.
"""

from __future__ import annotations

STEPS, BLOCKS = 2000, 10
METRICS = [f"metric/{number}" for number in range(40)]
COMPLETIONS, COMPLETION_CHARACTERS = 8, 1500
POINTS, KEPT, SPIKES, READS = 100_000, 2000, 20, 9
KILLS = 5
PRAGMAS = (
    *("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"),
    *("temp_store = MEMORY", "cache_size = -20000", "journal_size_limit = 67108864"),
)
