"""The house around the code: one version, three dependencies, scripts, layers, data."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from packaging.requirements import Requirement

import procession.version

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pkg" / "procession"
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


@pytest.fixture(scope="module")
def config() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string((ROOT / "setup.cfg").read_text(encoding="utf-8"))
    return parser


@pytest.fixture(scope="module")
def venv() -> ModuleType:
    """scripts/lib/venv.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("venv_script", ROOT / "scripts/lib/venv.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The version, and the Pythons.


def test_the_version_is_in_one_place(config: configparser.RawConfigParser) -> None:
    assert config["metadata"]["version"] == "attr: procession.version.__version__"
    version = procession.version.__version__
    mentions = [
        path.relative_to(ROOT).as_posix()
        for path in [*PACKAGE.rglob("*.py"), ROOT / "setup.cfg", ROOT / "setup.py"]
        if re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.])", path.read_text(encoding="utf-8"))
    ]
    assert mentions == ["pkg/procession/version.py"]


def test_setuptools_can_read_the_version_without_importing_the_package() -> None:
    tree = ast.parse((PACKAGE / "version.py").read_text(encoding="utf-8"))
    [assignment] = [node for node in tree.body if isinstance(node, ast.Assign)]
    assert ast.literal_eval(assignment.value) == procession.version.__version__


def test_the_installed_version_is_the_one_in_the_checkout() -> None:
    try:
        installed = importlib.metadata.version("procession")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("procession is on the path, but not installed")
    assert installed == procession.version.__version__


def test_the_changelog_knows_the_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert headings[0] == "Unreleased"
    assert procession.version.__version__ in headings


def test_the_pythons_are_the_same_everywhere(config: configparser.RawConfigParser) -> None:
    classifiers = re.findall(r":: Python :: (3\.\d+)", config["metadata"]["classifiers"])
    assert classifiers == PYTHONS
    oldest = PYTHONS[0]
    assert config["options"]["python_requires"] == f">={oldest}"
    assert f'"py{oldest.replace(".", "")}"' in (ROOT / "ruff.toml").read_text("utf-8")
    assert f"({oldest.replace('.', ', ')})" in (ROOT / "scripts/lib/venv.sh").read_text("utf-8")


# The dependencies.


@pytest.mark.parametrize("python", [*PYTHONS, "3.14"])
def test_dependencies_are_three_with_one_lowest_version_each(
    config: configparser.RawConfigParser, venv: ModuleType, python: str
) -> None:
    declared = [
        requirement
        for line in venv.lines(config["options"]["install_requires"])
        if (requirement := Requirement(line)).marker is None
        or requirement.marker.evaluate({"python_version": python})
    ]
    assert [requirement.name for requirement in declared] == ["numpy", "cloudpickle", "psutil"]
    assert all(re.fullmatch(r">=[\d.]+", str(requirement.specifier)) for requirement in declared)


def test_lowest_pins_what_is_declared(
    config: configparser.RawConfigParser, venv: ModuleType
) -> None:
    declared = [Requirement(line) for line in venv.lines(config["options"]["install_requires"])]
    pinned = [Requirement(line) for line in venv.lowest(config)]
    assert [(one.name, str(one.marker), str(one.specifier)) for one in pinned] == [
        (one.name, str(one.marker), str(one.specifier).replace(">=", "==")) for one in declared
    ]


def test_dev_has_all_of_test(config: configparser.RawConfigParser, venv: ModuleType) -> None:
    test, dev = (venv.requirements(config, {extra}) for extra in ("test", "dev"))
    assert set(test) < set(dev)
    assert not any("procession" in line for line in dev)


# The environments that the scripts make.


@pytest.fixture
def checkout(tmp_path: Path, venv: ModuleType) -> Path:
    """The files that decide what an environment has in it, with one that looks ready."""
    root = tmp_path / "check out"
    for name in ("setup.cfg", "setup.py", "pkg/procession/version.py", "scripts/lib/venv.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".venv/bin/python").symlink_to(sys.executable)
    stamp = {**venv.recipe(root), "extras": ["test"]}
    (root / ".venv/procession.json").write_text(json.dumps(stamp), encoding="utf-8")
    return root


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_an_environment_is_used_again(venv: ModuleType, checkout: Path) -> None:
    assert venv.installed(checkout / ".venv", checkout) == {"test"}


def test_an_environment_outlives_a_change_that_installs_nothing(
    venv: ModuleType, checkout: Path
) -> None:
    edit(checkout / "setup.cfg", "[mypy]\nstrict = True", "[mypy]\nstrict = False")
    assert venv.installed(checkout / ".venv", checkout) == {"test"}


def test_an_environment_is_stale_when_a_dependency_changed(
    venv: ModuleType, checkout: Path
) -> None:
    edit(checkout / "setup.cfg", "cloudpickle>=", "cloudpickle>=2.3,>=")
    assert venv.installed(checkout / ".venv", checkout) is None


def test_an_environment_is_stale_when_the_version_changed(venv: ModuleType, checkout: Path) -> None:
    edit(checkout / "pkg/procession/version.py", procession.version.__version__, "99.0")
    assert venv.installed(checkout / ".venv", checkout) is None


def test_an_environment_is_stale_when_the_checkout_moved(venv: ModuleType, checkout: Path) -> None:
    moved = checkout.rename(checkout.with_name("moved"))
    assert venv.installed(moved / ".venv", moved) is None


def test_an_environment_is_stale_in_another_python(
    venv: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venv.sys, "version", "3.99.0 (made up)")
    assert venv.installed(checkout / ".venv", checkout) is None


def test_an_environment_whose_python_is_gone_is_stale(venv: ModuleType, checkout: Path) -> None:
    (checkout / ".venv/bin/python").unlink()
    (checkout / ".venv/bin/python").symlink_to(checkout / "gone")
    assert venv.installed(checkout / ".venv", checkout) is None


@pytest.mark.parametrize("stamp", [None, "", "{"])
def test_a_half_made_environment_is_not_used(
    venv: ModuleType, checkout: Path, stamp: str | None
) -> None:
    (checkout / ".venv/procession.json").unlink()
    if stamp is not None:
        (checkout / ".venv/procession.json").write_text(stamp, encoding="utf-8")
    assert venv.installed(checkout / ".venv", checkout) is None


# The scripts.


def commands() -> list[Path]:
    found = [path for path in (ROOT / "scripts").iterdir() if path.is_file()]
    return sorted([*found, *(ROOT / "scripts/lib").glob("*.*"), ROOT / ".ci/run"])


@pytest.mark.parametrize("path", commands(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_script_says_in_its_first_lines_what_it_does(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        assert ast.get_docstring(ast.parse(text))
        return
    lines = text.splitlines()
    if lines[0].startswith("#!"):
        lines.pop(0)
    assert re.match(r"# \S", lines[0])


@pytest.mark.parametrize("path", commands(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_to_be_run_can_be_run(path: Path) -> None:
    starts_itself = path.read_text(encoding="utf-8").startswith("#!")
    assert os.access(path, os.X_OK) == starts_itself
    assert starts_itself or path.suffix in (".py", ".sh")


# The layers.

# Lowest first: a room imports itself and the rooms below it.
ROOMS = [
    "errors",
    "version",
    "blobs",
    "operators",
    "graph",
    "runtime",
    "compiler",
    "cluster",
    "session",
    "testing",
]
# Below, and yet out of reach: a program is all that the runtime knows of a graph.
OUT_OF_REACH = {("runtime", "graph")}
# Above the rooms: the package's public face, which imports what it likes and which no room
# imports, and the floors, which stand on the face alone; but caffe2 is a second face, of the rooms
# and of the floors.
FACE = "the face"
FLOORS = ["data", "train", "observe", "caffe2"]
SECOND_FACE = "caffe2"
FOR_EVERYBODY = ["errors", "version"]


def place(module: str) -> str:
    """The room or floor that a module of the package is in, or the face."""
    name = [*module.split("."), ""][1]
    return name if name in [*ROOMS, *FLOORS] else FACE


def imports(source: str, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a module imports from the package, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "procession")


def may_import(importer: str, imported: str) -> bool:
    if importer in (imported, FACE) or imported in FOR_EVERYBODY:
        return importer == imported or importer not in FOR_EVERYBODY
    if importer in FLOORS:
        return imported == FACE or (importer == SECOND_FACE and imported in [*ROOMS, *FLOORS])
    return (
        imported in ROOMS
        and ROOMS.index(imported) < ROOMS.index(importer)
        and (importer, imported) not in OUT_OF_REACH
    )


def violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    importer = place(module)
    return [
        f"{module}:{line} imports {name}: {importer} may not import {place(name)}"
        for line, name in imports(source, module, is_package=is_package)
        if not may_import(importer, place(name))
    ]


def modules() -> Iterator[tuple[Path, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield path, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_imports_run_downward() -> None:
    found = [
        complaint
        for path, module in modules()
        for complaint in violations(
            path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py"
        )
    ]
    assert not found, "\n".join(["", *found])


def test_every_directory_is_a_package_with_a_place() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").is_file()]
    assert {folder.relative_to(PACKAGE).parts[0] for folder in folders} <= {*ROOMS, *FLOORS}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("procession.graph.net", "from procession.session import local"),
        ("procession.graph.net", "import procession.session.local"),
        ("procession.graph.net", "def f():\n    from procession.session import local"),
        ("procession.graph.net", "from ..session import local"),
        ("procession.graph.net", "from .. import session"),
        ("procession.graph.net", "from procession import session"),
        ("procession.graph.net", "from procession import Net"),
        ("procession.graph.net", "from procession import *"),
        ("procession.graph.net", "import procession"),
        ("procession.graph.net", "from procession.core import Net"),
        ("procession.graph.net", "from procession.train import optimizer"),
        ("procession.runtime.executor", "from procession.graph import net"),
        ("procession.errors", "from procession.version import __version__"),
        ("procession.train.loop", "from procession.graph.net import Net"),
        ("procession.data.reader", "from procession.graph.net import Net"),
        ("procession.data.reader", "from procession.caffe2.python import core"),
        ("procession.session.local", "from procession.data import Reader"),
        ("procession.session.local", "from procession.caffe2 import place"),
    ],
)
def test_an_import_upward_is_found(module: str, source: str) -> None:
    assert violations(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("procession.graph.net", "import numpy, processional"),
        ("procession.graph.net", "from procession.errors import GraphError"),
        ("procession.graph.net", "from procession import blobs, errors"),
        ("procession.graph.net", "from .blob import Blob"),
        ("procession.graph.net", "from . import blob"),
        ("procession.graph.net", "from ..operators import registry"),
        ("procession.testing.gradcheck", "from procession.session import local"),
        ("procession.core", "from procession.session import local"),
        ("procession", "from procession.graph.net import Net"),
        ("procession.train.loop", "from procession import Net, errors"),
        ("procession.data.reader", "from procession.core import DataType"),
        ("procession.caffe2.place", "from procession.data.reader import Reader"),
        ("procession.caffe2.place", "from procession.graph.net import Net"),
    ],
)
def test_an_import_downward_is_fine(module: str, source: str) -> None:
    assert not violations(source, module)


def test_relative_imports_of_a_package_start_in_it() -> None:
    assert not violations("from . import net", "procession.graph", is_package=True)
    assert not violations("from .net import Net", "procession.graph", is_package=True)
    assert violations("from .. import session", "procession.graph", is_package=True)


# The data.


def test_digits() -> None:
    with np.load(ROOT / "scripts/data/digits.npz", allow_pickle=False) as digits:
        assert set(digits) == {"images", "labels"}
        images, labels = digits["images"], digits["labels"]
    assert (images.shape, images.dtype) == ((1797, 8, 8), np.uint8)
    assert (labels.shape, labels.dtype) == ((1797,), np.uint8)
    assert (images.min(), images.max()) == (0, 16)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
