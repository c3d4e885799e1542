"""Write the results of all parts as a JSON file and a Markdown table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HEAD = (
    "part",
    "update, s",
    "stock TRL, s",
    "ratio",
    "tokens/s",
    "stock",
    "ratio",
    "peak, GiB",
    "estimate",
    "Δ loss",
    "Δ gradient norm",
    "Δ of two stock runs",
)


def write(out: Path, figures: dict[str, dict[str, Any]]) -> str:
    """Write `gpu.json` and `gpu.md` into `out` and return the table's text."""
    Path(out, "gpu.json").write_text(json.dumps(figures, indent=1))
    text = render(figures)
    Path(out, "gpu.md").write_text(text)
    return text


def render(figures: dict[str, dict[str, Any]]) -> str:
    timed = [_row(name, results) for name, results in figures.items() if "ours" in results and "stock" in results]
    lines = [HEAD, tuple("---" for _ in HEAD), *timed]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n"
    rest = [
        _sentence(name, results) for name, results in figures.items() if not ("ours" in results and "stock" in results)
    ]
    return table + "\n".join(rest) + "\n"


def _row(name: str, results: dict[str, Any]) -> tuple[str, ...]:
    ours, stock = results["ours"], results["stock"]
    same, others = results["on_the_same_completions"], results.get("stock_with_other_accumulation", {})
    return (
        name,
        _number(ours["update_s"]),
        _number(stock["update_s"]),
        _number(results["ratio_of_updates"]),
        _number(ours.get("tokens_per_second")),
        _number(stock.get("tokens_per_second")),
        _number(results.get("ratio_of_tokens_per_second")),
        _number(ours["peak_reserved_gib"]),
        _number(results["expected"]["peak_gib"]),
        f"{same['loss_difference']:.1e}",
        f"{same['gradient_norm_difference']:.1e}",
        f"{others['gradient_norm_difference']:.1e}" if others else "",
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _sentence(name: str, results: dict[str, Any]) -> str:
    plain = {key: value for key, value in results.items() if not isinstance(value, dict)}
    text = ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in plain.items()
    )
    return f"- {name}: {text or json.dumps(results)}"
