"""The documentation: its examples run and print what it shows, its links and names lead somewhere.

The ```python blocks of a page are one script, run in order in a process of its own. What a block
prints stands in the ```text block that follows it; `...` there matches anything, as in doctest.
A line that is to fail ends in `# raises NameOfTheError`; the error is printed, and the script
goes on. What is not to be run is ```console.
"""

from __future__ import annotations

import builtins
import doctest
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import procession
from procession.caffe2 import finder

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pkg" / "procession"
README, ARCHITECTURE = ROOT / "README.md", ROOT / "docs" / "architecture.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

EXAMPLE = re.compile(r"^```python\n(.*?)^```\n(?:\n*```text\n(.*?)^```$)?", re.M | re.S)
FENCED = re.compile(r"^```.*?^```$", re.M | re.S)
RAISES = re.compile(r"^( *)(\S.*?)(  # raises (\w+))$", re.M)

PRELUDE = """\
from contextlib import contextmanager as _contextmanager


@_contextmanager
def _raises(name):
    try:
        yield
    except Exception as error:
        if type(error).__name__ != name:
            raise
        print(f"{name}: {error}")
    else:
        raise AssertionError(f"{name} was not raised")
"""
BETWEEN_BLOCKS = "\0"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def examples(page: Path) -> list[tuple[str, str]]:
    """(code, what it prints) of every example of a page."""
    return [(match[1], match[2] or "") for match in EXAMPLE.finditer(text_of(page))]


def run(blocks: list[str], directory: Path, name: str) -> list[str]:
    """Run blocks as one script; what each of them printed."""
    between = f"print({BETWEEN_BLOCKS!r}, end='', flush=True)\n"
    script = PRELUDE + between.join(RAISES.sub(r'\1with _raises("\4"): \2\3', b) for b in blocks)
    (directory / name).write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", name],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.replace(f"{directory}/", "").split(BETWEEN_BLOCKS)


def with_examples() -> list[Path]:
    return [page for page in PAGES if examples(page)]


@pytest.mark.parametrize("page", with_examples(), ids=name_of)
def test_examples_print_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    shown = examples(page)
    printed = run([code for code, _ in shown], tmp_path, f"{page.stem.lower()}.py")
    checker, flags = doctest.OutputChecker(), doctest.ELLIPSIS
    for (code, expected), actual in zip(shown, printed, strict=True):
        if not checker.check_output(expected, actual, flags):
            example = doctest.Example(code, expected)
            pytest.fail(code + checker.output_difference(example, actual, flags), pytrace=False)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_example_is_passed_over(page: Path) -> None:
    languages = re.findall(r"^ *```(\w+)", text_of(page), re.M)
    assert set(languages) <= {"python", "text", "console"}
    assert languages.count("python") == len(examples(page))


def test_a_wrong_example_is_found(tmp_path: Path) -> None:
    printed = run(["print(1)\n", "int('x')  # raises ValueError\n"], tmp_path, "page.py")
    assert printed == ["1\n", "ValueError: invalid literal for int() with base 10: 'x'\n"]
    for wrong in ("int('1')  # raises ValueError\n", "int('x')  # raises KeyError\n", "1 / 0\n"):
        with pytest.raises(AssertionError):
            run([wrong], tmp_path, "page.py")


def test_the_readme_shows_the_end_of_the_demo() -> None:
    shown = re.search(r"^```console\n\$ scripts/demo\n(.*?)^```$", text_of(README), re.M | re.S)
    assert shown is not None
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "train_digits.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    expected, actual = (re.sub(r"\d[\d.,]*\d|\d", "N", text) for text in (shown[1], done.stdout))
    # Numbers and the widths of columns may differ, the words may not.
    expected = "\n".join(line for line in expected.splitlines() if line != "...")
    assert actual.split()[-len(expected.split()) :] == expected.split()


# Links and names.


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text_of(page)), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", text_of(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        if not to.exists() or (anchor and anchor not in slugs(to)):
            broken.append(target)
    assert not broken


def mentioned(page: Path) -> Iterator[tuple[str, str]]:
    """(path, name or "") for every `path/file.py` and `path/file.py:name` in backticks."""
    yield from re.findall(
        r"`([\w./-]+(?:\.(?:py|md|cfg)|/))(?::([\w.]+))?`", FENCED.sub("", text_of(page))
    )


def found(path: str) -> Path | None:
    """The file of the package or of the checkout that a page means."""
    return next((base / path for base in (PACKAGE, ROOT) if (base / path).exists()), None)


@pytest.mark.parametrize("page", [ARCHITECTURE, ROOT / "docs" / "glossary.md"], ids=name_of)
def test_files_and_what_is_in_them_exist(page: Path) -> None:
    wrong = []
    for path, name in mentioned(page):
        file = found(path)
        last = re.escape(name.rpartition(".")[2])
        defined = rf"\b(?:def|class) {last}\b|^\s*(?:self\.)?{last}\b(?:: .*)? = "
        if file is None or (name and not re.search(defined, text_of(file), re.M)):
            wrong.append(f"{path}:{name}")
    assert not wrong


def test_the_map_has_every_room() -> None:
    rooms = {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")}
    assert {f"{room}/" for room in rooms} <= {path for path, _ in mentioned(ARCHITECTURE)}


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+)\)", text_of(README)))
    assert {name_of(page) for page in PAGES if page != README} <= linked


def test_the_page_about_caffe2_has_every_module() -> None:
    section = text_of(ROOT / "docs" / "caffe2.md").split("## What exists")[1].split("```")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.M)
    named = {name for cell in cells for name in re.findall(r"`([\w.]+)`", cell)}
    there = {name.removeprefix("caffe2.python.") for name in finder.existing()}
    assert named == there


# Errors.


def error_rows() -> dict[str, str]:
    """Error -> the builtin that the tables of README and architecture say it also is."""
    text = text_of(README) + text_of(ARCHITECTURE)
    return dict(re.findall(r"^\| `(\w+)` \| `?(\w*)`? *\|", text, re.M))


def test_every_error_is_in_a_table() -> None:
    public = {name: getattr(procession, name) for name in procession.__all__}
    errors = {
        name
        for name, value in public.items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert errors <= error_rows().keys()


@pytest.mark.parametrize(("error", "builtin"), sorted(error_rows().items()))
def test_errors_are_what_the_table_says(error: str, builtin: str) -> None:
    if hasattr(procession, error):
        assert issubclass(getattr(procession, error), getattr(builtins, builtin or "Exception"))
