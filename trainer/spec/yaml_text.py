"""Parse settings from YAML, keeping values as text until their field gives them a type, and write them in one line."""

from __future__ import annotations

from typing import Any, ClassVar

import yaml


class _TextLoader(yaml.SafeLoader):
    """Loads YAML with all plain scalars but null as text; the field's type decides what they are.

    In YAML 1.1, a run's uid of digits is a number, and `1234567890:50` is one in base 60.
    """

    yaml_implicit_resolvers: ClassVar = {
        first: [rule for rule in rules if rule[0] in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def parse(text: str) -> Any:
    """Parse a text. Raises ValueError whose message continues a sentence: where the text is not YAML, and why."""
    try:
        return _TextLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{place}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f": {str(error).splitlines()[0]}") from None


def line(value: Any) -> str:
    """Write a value as one line that `parse` can read."""
    text = _one_line(value, readable=True)
    return text if yaml.safe_load(text) == value else _one_line(value, readable=False)


def _one_line(value: Any, *, readable: bool) -> str:
    """Write a value as one line; `readable` keeps non-ASCII text, but loses rare line breaks (U+0085, U+2028)."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=readable, width=1_000_000)
    return text.removesuffix("\n").removesuffix("\n...")
