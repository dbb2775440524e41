"""YAML and JSON files, read so that no slip in them passes in silence."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import yaml

from dee_es.errors import InvalidInput

_TAG: Final = "tag:yaml.org,2002:"
# The core schema of YAML 1.2. By the rules of 1.1, which the library has, `on` and `no` would be
# truth values, 12:30 a number of base 60, and 2025-03-01 no text.
_CORE: Final = (
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", tuple("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+",
     tuple("-+.0123456789")),
)  # fmt: skip
# Far more than the largest plan that is allowed; a few lines of aliases come to billions.
_MOST_VALUES: Final = 1_000_000


class _Loader(yaml.SafeLoader):
    """A safe loader by the core schema that refuses a key given twice, and aliases without end."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def get_single_node(self) -> yaml.Node | None:
        """The document as nodes, each of which is there once however many aliases lead to it."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _measured(node, {})
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Read 007 as seven and 0o17 as octal, as version 1.2 has it."""
        text = str(self.construct_scalar(node)).lower()
        base = 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10
        return int(text, base)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are all different."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != f"{_TAG}merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value[:64]!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _measured(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """How many values the node comes to once its aliases are followed; raises for too many."""
    if node not in known:
        known[node] = _MOST_VALUES  # what leads back into itself has no end
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        known[node] = 1 + sum(_measured(part, known) for part in parts)
    if known[node] > _MOST_VALUES:
        problem = f"comes to more than {_MOST_VALUES} values once its aliases are followed"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return known[node]


for _kind, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"(?:{_pattern})\\Z"), list(_first))
_Loader.add_implicit_resolver(f"{_TAG}merge", re.compile(r"<<\Z"), ["<"])
_Loader.add_constructor(f"{_TAG}int", _Loader.construct_yaml_int)


def read_document(path: str) -> Any:
    """The values of a JSON or YAML file: JSON by its suffix, or if it begins like it and is it.

    Raises `InvalidInput` with file, line and column of what cannot be read.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InvalidInput(path, f"cannot be read: {error.strerror}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(path, "is not UTF-8 text") from None
    if path.lower().endswith(".json"):
        return _json(path, text)
    if text.lstrip().startswith("{"):
        try:
            return _json(path, text)
        except InvalidInput:
            # A mapping in YAML's flow style begins like JSON.
            return _yaml(path, text)
    return _yaml(path, text)


def _json(path: str, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{path}:{error.lineno}:{error.colno}", error.msg) from None
    except (ValueError, RecursionError) as error:
        problem = "is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidInput(path, problem) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name[:64]!r} is given twice")
        found[name] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _yaml(path: str, text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a safe loader, made stricter
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
        parts = (error.context, error.problem)
        raise InvalidInput(where, "; ".join(part for part in parts if part)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        raise InvalidInput(
            f"{path}:{line}:{column}", "holds a character that YAML refuses"
        ) from None
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
        yaml.YAMLError,
    ) as error:
        # The library looks at a value as its tag says, whether it is such a value or not.
        problem = "is nested too deeply" if isinstance(error, RecursionError) else "cannot be read"
        raise InvalidInput(path, problem) from None
