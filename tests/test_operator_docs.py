"""The reference of the operators: made from the registry, and up to date."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from procession.operators import REGISTRY, operator

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """scripts/operator_docs.py, which is in no package."""
    spec = importlib.util.spec_from_file_location(
        "operator_docs", ROOT / "scripts/operator_docs.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def registered():
    @operator("TestOfTheReference")
    def kernel(x, scale_=None, *, factor: float = 2.0):
        """X times something. Caffe2: nothing.

        A second paragraph
        of two lines.

        Args:
            factor: What it is,
                at length.

        Raises:
            ValueError: Always.
            TypeError: Never.
        """

    yield REGISTRY["TestOfTheReference"]
    REGISTRY.remove("TestOfTheReference")


def test_the_page_is_up_to_date(generator: ModuleType) -> None:
    stale = "docs/operators.md is not what the registry says: run scripts/make_operator_docs"
    assert (ROOT / "docs/operators.md").read_text(encoding="utf-8") == generator.page(), stale


def test_every_operator_is_there_once(generator: ModuleType) -> None:
    text = generator.page()
    for name, definition in REGISTRY.items():
        if definition.kernel.__module__.startswith("procession.operators."):
            assert text.count(f"\n### {name}\n") + text.count(f"\n- `{name}(") == 1, name


def test_operators_of_others_are_not(generator: ModuleType, registered) -> None:
    assert "TestOfTheReference" not in generator.page()


def test_an_entry(generator: ModuleType, registered) -> None:
    assert generator.entry(registered) == (
        "### TestOfTheReference\n\n"
        "`TestOfTheReference(x, [scale]; factor=2.0)`: 1 output. Gradient: no.\n\n"
        "X times something. Caffe2: nothing.\n\nA second paragraph\nof two lines.\n\n"
        "- `factor`: What it is, at length.\n\n"
        "Raises `ValueError`: Always. `TypeError`: Never."
    )


@pytest.mark.parametrize(
    ("name", "outputs", "gradient"),
    [
        ("Relu", "1 output", "yes"),
        ("EQ", "1 output", "stops"),
        ("Print", "no output", "stops"),
        ("Unique", "1 or 2 outputs", "no"),
        ("Split", "1 or more outputs", "yes"),
        ("Reshape", "2 outputs", "yes"),
        ("Python", "any number of outputs", "yes"),
        ("SparseLengthsSum", "1 output", "yes, sparse"),
    ],
)
def test_outputs_and_gradient(
    generator: ModuleType, name: str, outputs: str, gradient: str
) -> None:
    assert generator.outputs(REGISTRY[name]) == outputs
    assert generator.gradient(REGISTRY[name]) == gradient


def test_check_finds_what_is_out_of_date(generator: ModuleType, tmp_path: Path, capsys) -> None:
    page = tmp_path / "operators.md"
    assert generator.main(["--check"], page) == 1
    assert "is not up to date" in capsys.readouterr().err
    assert not page.exists()
    assert generator.main([], page) == 0
    assert generator.main(["--check"], page) == 0
    page.write_text(page.read_text() + "more")
    assert generator.main(["--check"], page) == 1
    assert page.read_text().endswith("more")
