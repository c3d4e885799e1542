"""What breaks a rule of WCAG 2.2 A or AA, by axe-core and by checks of our own; and what is not ours to mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

from scripts import browsing

HERE = Path(__file__).parent
CHECKS = (HERE / "audit.js").read_text(encoding="utf-8")
Theme = Literal["light", "dark"]
LEVELS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
STRUCTURE = ("heading-order", "page-has-heading-one", "landmark-one-main", "empty-heading", "empty-table-header")
"""Rules beyond WCAG that we keep, too: screen readers go from heading to heading."""
COLOURS = ("color-contrast", "link-in-text-block")
"""Rules whose result depends on the theme."""
DRAWN = "() => [...document.querySelectorAll('.live-chart')].every(chart => chart.querySelector('.main-svg'))"
WORN = {
    "light": "() => parseInt(getComputedStyle(document.querySelector('.stApp')).backgroundColor.slice(4)) > 200",
    "dark": "() => parseInt(getComputedStyle(document.querySelector('.stApp')).backgroundColor.slice(4)) < 60",
}


class Left(NamedTuple):
    """Markup of a library that breaks a rule; `where` is a CSS selector of its elements."""

    rule: str
    where: str
    why: str


LEFT: tuple[Left, ...] = ()


class Finding(NamedTuple):
    address: str
    theme: str
    rule: str
    why: str
    html: str
    within: str


def audit(page: Page, address: str, theme: Theme, *, only: tuple[str, ...] = ()) -> tuple[list[Finding], set[Left]]:
    """Return what breaks a rule on the page as it stands, and the entries of LEFT that it needs; `only` names rules."""
    rules: dict[str, Any] = {"runOnly": {"type": "rule", "values": list(only)}}
    if not only:
        kept = {name: {"enabled": True} for name in (*STRUCTURE, "target-size")}
        rules = {"runOnly": {"type": "tag", "values": list(LEVELS)}, "rules": kept}
    page.evaluate(AXE_SCRIPT)
    told = page.evaluate(CHECKS, {"rules": rules, "left": [each._asdict() for each in LEFT]})
    found = [
        Finding(address, theme, each["rule"], each["why"], each["html"], each["within"])
        for each in told
        if each["left"] < 0
    ]
    return found, {LEFT[each["left"]] for each in told if each["left"] >= 0}


def wear(page: Page, theme: Theme) -> None:
    """Let the system prefer a theme, and wait until the page and its charts have it."""
    page.emulate_media(color_scheme=theme)
    page.wait_for_function(WORN[theme])
    browsing.wait_until_idle(page)
    page.wait_for_function(DRAWN)
