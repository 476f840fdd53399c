"""Make a virtual environment of this checkout, unless it is there: venv.py DIR [--lowest] [EXTRA].

The package goes in as editable, with the extras named; --lowest takes the lowest version
of each runtime dependency that setup.cfg allows. Further extras are added to an environment
that lacks them, without touching the rest. It is made anew when what is installed would no
longer be right: setup.cfg or the version changed, the checkout moved, or this runs in another
Python than it was made with.

DIR/procession.json is written last and taken away first, so an environment without it is
half-made. DIR.lock keeps two scripts from making it at the same time.
"""

from __future__ import annotations

import argparse
import configparser
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def read_config(root: Path) -> configparser.RawConfigParser:
    """setup.cfg, as setuptools reads it."""
    config = configparser.RawConfigParser()
    config.read_string((root / "setup.cfg").read_text(encoding="utf-8"))
    return config


def lines(text: str) -> list[str]:
    """The lines of a list in setup.cfg."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def lowest(config: configparser.RawConfigParser) -> list[str]:
    """The runtime dependencies, each pinned to the lowest version it allows."""
    return [
        re.sub(r"^([\w-]+)>=", r"\1==", requirement)
        for requirement in lines(config["options"]["install_requires"])
    ]


def requirements(config: configparser.RawConfigParser, extras: set[str]) -> list[str]:
    """What the extras ask for, with extras that name other extras followed."""
    found = []
    for extra in sorted(extras):
        for line in lines(config["options.extras_require"][extra]):
            nested = re.fullmatch(r"procession\[(\w+)\]", line)
            found += requirements(config, {nested[1]}) if nested else [line]
    return found


def recipe(root: Path) -> dict[str, str]:
    """All that decides what an environment has in it, but the extras."""
    config = read_config(root)
    kept = {name: dict(config[name]) for name in config if name.startswith(("metadata", "options"))}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    for file in ("setup.py", "pkg/procession/version.py", "scripts/lib/venv.py"):
        digest.update((root / file).read_bytes())
    return {
        "checkout": str(root),
        "python": f"{sys.version.split()[0]} in {sys.base_prefix}",
        "contents": digest.hexdigest(),
    }


def installed(venv: Path, root: Path) -> set[str] | None:
    """The extras in an environment that can be used as it is; None when it cannot."""
    try:
        stamp = json.loads((venv / "procession.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    extras = set(stamp.pop("extras"))
    usable = os.access(venv / "bin" / "python", os.X_OK)
    return extras if usable and stamp == recipe(root) else None


def make(venv: Path, root: Path, extras: set[str], *, at_lowest: bool) -> None:
    """Make the environment, or add the extras it lacks."""
    with open(f"{venv}.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another script, which is making {venv.name}...")
            fcntl.flock(lock, fcntl.LOCK_EX)

        def run(*command: str | Path) -> None:
            # The children hold the lock too: a pip that outlives this process is not disturbed.
            subprocess.run(
                command, cwd=root, stdout=sys.stderr, check=True, pass_fds=[lock.fileno()]
            )

        config = read_config(root)
        present = installed(venv, root)
        if present is not None and extras <= present:
            return  # somebody else made it while this one waited
        (venv / "procession.json").unlink(missing_ok=True)
        if present is None:
            version = ".".join(map(str, sys.version_info[:2]))
            say(f"making {venv.name} with Python {version} (once, about a minute)...")
            # Not sys.executable, which may be the one in the environment to be cleared; and a
            # half-made environment, without its pyvenv.cfg, takes that one for the base too.
            base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
            run(base, "-m", "venv", "--clear", venv)
            wanted = ["-e", ".", *requirements(config, extras)]
        else:
            say(f"adding to {venv.name}: {' '.join(sorted(extras - present))}...")
            wanted = requirements(config, extras - present)
        if at_lowest:
            pins = venv / "lowest.txt"
            pins.write_text("\n".join([*lowest(config), ""]), encoding="utf-8")
            wanted += ["-c", str(pins)]
        # -qq leaves the errors. Without --use-pep517 some releases of pip deprecate setup.py.
        pip = ("-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-qq")
        run(venv / "bin" / "python", *pip, "--use-pep517", *wanted)
        stamp = {**recipe(root), "extras": sorted(extras | (present or set()))}
        unfinished = venv / "procession.json.part"
        unfinished.write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(venv / "procession.json")


def say(text: str) -> None:
    """Tell the user; standard output belongs to the script's own work."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Do what the command line says; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir")
    parser.add_argument("extras", nargs="*")
    parser.add_argument("--lowest", action="store_true")
    options = parser.parse_intermixed_args()
    venv, extras = ROOT / options.dir, set(options.extras)
    present = installed(venv, ROOT)
    if present is not None and extras <= present:
        return 0
    try:
        make(venv, ROOT, extras, at_lowest=options.lowest)
    except subprocess.CalledProcessError:
        say(f"could not make {venv.name}, for the reason above")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
