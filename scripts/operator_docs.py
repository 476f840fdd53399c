"""Write docs/operators.md, the reference of all operators, from what the registry knows.

    scripts/make_operator_docs [--check]

With --check nothing is written, and the exit code is 1 if the page is not up to date.
"""

from __future__ import annotations

import argparse
import enum
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from procession.operators import REGISTRY, Definition
from procession.operators.registry import REQUIRED

PAGE = Path(__file__).resolve().parents[1] / "docs" / "operators.md"
HOUSE = "procession.operators."

HEAD = """\
# Operators

Every operator that a net can be built of, family by family. This page is made from the code by
`scripts/make_operator_docs`; what is to be read here stands in the docstrings of the kernels.

An entry begins with the operator's inputs, behind the semicolon its arguments with their
defaults, and how many outputs it has. An input in brackets may be left out, `*` stands for any
number of them. *Gradient* says what AddGradientOperators makes of it:

- *yes*: the gradient flows through. *Yes, sparse*: it is some rows of the input's gradient.
- *stops*: nothing flows back, and asking for it is no error.
- *no*: asking for it is an error.

Names and defaults are those of Caffe2's operator that a text names. How to add an operator:
[Adding an operator](adding_an_operator.md).
"""


def family(definition: Definition) -> str:
    """The module that an operator is declared in."""
    return definition.kernel.__module__.removeprefix(HOUSE)


def value(default: Any) -> str:
    """A default, as a call would have it."""
    if isinstance(default, enum.Enum):
        return f"{type(default).__name__}.{default.name}"
    return repr(default)


def heading(definition: Definition) -> str:
    """Name, inputs and arguments."""
    inputs = []
    for number, name in enumerate(definition.input_names):
        optional = number >= definition.min_inputs and not name.startswith("*")
        inputs.append(f"[{name.rstrip('_')}]" if optional else name.rstrip("_"))
    arguments = [
        name if default is REQUIRED else f"{name}={value(default)}"
        for name, default in definition.arguments.items()
    ]
    if definition.prefix:
        arguments.append(f"{definition.prefix}...")
    return f"{definition.name}({'; '.join(filter(None, map(', '.join, (inputs, arguments))))})"


def outputs(definition: Definition) -> str:
    """How many outputs there are."""
    least, most = definition.min_outputs, definition.max_outputs
    if most is None:
        return f"{least} or more outputs" if least else "any number of outputs"
    if least != most:
        return f"{least} or {most} outputs" if most == least + 1 else f"{least} to {most} outputs"
    return {0: "no output", 1: "1 output"}.get(least, f"{least} outputs")


def gradient(definition: Definition) -> str:
    """One of the answers that the head of the page explains."""
    rules = definition.gradient
    if rules is None:
        return "no"
    if callable(rules):
        return "yes"
    if not rules:
        return "stops"
    return "yes, sparse" if rules[-1].type is None and len(rules[-1].inputs) == 2 else "yes"


def sections(text: str) -> dict[str, str]:
    """The parts of a docstring: "" is what stands before "Args:" and "Raises:"."""
    parts = re.split(r"^(Args|Raises|Returns):\n", text, flags=re.M)
    return {"": parts[0].strip(), **dict(zip(parts[1::2], parts[2::2], strict=True))}


def listed(section: str) -> Iterator[tuple[str, str]]:
    """(name, text) of every entry of a section."""
    for entry in re.split(r"^ {4}(?=\S)", section, flags=re.M):
        name, _, text = entry.partition(":")
        if text:
            yield name.strip(), " ".join(text.split())


def entry(definition: Definition) -> str:
    """All that the page says of one operator."""
    parts = sections(definition.documentation)
    lines = [
        f"### {definition.name}",
        f"`{heading(definition)}`: {outputs(definition)}. Gradient: {gradient(definition)}.",
        parts[""],
    ]
    arguments = [f"- `{name}`: {text}" for name, text in listed(parts.get("Args", ""))]
    lines.append("\n".join(arguments))
    errors = [f"`{name}`: {text}" for name, text in listed(parts.get("Raises", ""))]
    lines.append(f"Raises {' '.join(errors)}" if errors else "")
    return "\n\n".join(filter(None, lines))


def helper(definition: Definition) -> bool:
    """Whether it is there for the gradient of another one only."""
    return "Gradient" in definition.name and definition.name.removesuffix("Gradient") != "Stop"


def page() -> str:
    """The page as the registry has it; operators that are not the house's own are left out."""
    own = [each for each in REGISTRY.values() if each.kernel.__module__.startswith(HOUSE)]
    own.sort(key=lambda each: (family(each), each.name))
    families = {name: list(group) for name, group in groupby(own, key=family)}
    texts = [HEAD + "\n" + "\n".join(contents(families))]
    for name, definitions in families.items():
        module = importlib.import_module(HOUSE + name)
        texts.append(f"## {name}\n\n{inspect.getdoc(module)}")
        texts += [entry(each) for each in definitions if not helper(each)]
        helpers = [
            f"- `{heading(each)}`: {outputs(each)}. Gradient: {gradient(each)}. "
            f"{each.documentation.partition(chr(10) * 2)[0]}"
            for each in definitions
            if helper(each)
        ]
        if helpers:
            texts.append("What the gradients of this family are made of:\n\n" + "\n".join(helpers))
    return "\n\n".join(texts) + "\n"


def contents(families: dict[str, list[Definition]]) -> Iterator[str]:
    """The lines of the table of contents."""
    for name, definitions in families.items():
        links = (f"[{each.name}](#{each.name.lower()})" for each in definitions if not helper(each))
        yield f"- [{name}](#{name}): {', '.join(links)}"


def main(arguments: list[str] | None = None, path: Path = PAGE) -> int:
    """Write the page, or check it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if out of date")
    checking = parser.parse_args(arguments).check
    text = page()
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return 0
    if checking:
        print(f"{path} is not up to date: run scripts/make_operator_docs", file=sys.stderr)
        return 1
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
