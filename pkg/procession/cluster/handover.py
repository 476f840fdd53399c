"""What passes between the coordinator and a process that it starts.

The coordinator `describe`s what the process shall look like and packs that, with some
bytes, into an anonymous file, from which the process reads it as the very first thing
(see `command`, and `child.forked`). A file and not a pipe: the coordinator never waits for
anybody to read.

What comes back on a worker's control socket are two numbers: its pid, and when it has
ended its exit code (see `forkserver`; they are sent by `keeper`).
"""

from __future__ import annotations

import contextlib
import marshal
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.abc import InspectLoader
from multiprocessing.spawn import get_executable
from types import CodeType
from typing import Any, TextIO

from procession.blobs import segment
from procession.cluster import keeper
from procession.cluster.keeper import NUMBER

PIPED = ("utf-8", "backslashreplace")
"""Encoding and error handler of text that a worker writes to a pipe of ours (see `logs`)."""
CLOSE_ON_EXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def describe(
    target: str, environ: Mapping[str, str], stdout: int = 1, stderr: int = 2
) -> dict[str, Any]:
    """What a child shall look like: plain data, as it is in the coordinator now.

    `stdout` and `stderr` are what it is going to write to: our own files, or pipes to us.
    """
    module, _, function = target.partition(":")
    if not module or not function:
        raise ValueError(f"a target is written 'module:function', not {target!r}")
    try:
        directory = os.getcwd()
    except FileNotFoundError:
        directory = None  # removed under our feet; the child stays where it starts
    return {
        "target": (module, function),
        # Whatever else stands in sys.path or sys.argv (a Path, say) the importer ignores.
        "path": [str(entry) for entry in sys.path if isinstance(entry, str)],
        "argv": [str(word) for word in getattr(sys, "argv", [""])],
        "directory": directory,
        # What talks to a `multiprocessing.Manager` of the coordinator's has to know it.
        "authkey": bytes(multiprocessing.current_process().authkey),
        "environ": dict(environ),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        # Of the files themselves: sys.stdout may be a notebook cell or a StringIO.
        "stdout": _text_format(sys.__stdout__, "strict") if stdout == 1 else PIPED,
        "stderr": _text_format(sys.__stderr__, "backslashreplace") if stderr == 2 else PIPED,
    }


def pack(description: Mapping[str, Any], argument: bytes = b"") -> int:
    """A file descriptor from which these two are read again."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("procession-worker")
    else:
        with tempfile.TemporaryFile() as nameless:
            fd = os.dup(nameless.fileno())
    try:
        # marshal, because a child can read it before it has a sys.path to import from.
        described = marshal.dumps(dict(description))
        with open(fd, "wb", closefd=False) as file:
            file.write(described)
            file.write(argument)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException as error:
        os.close(fd)
        if isinstance(error, OSError) and error.errno in segment.NO_ROOM:
            raise segment.refusal(len(described) + len(argument), error) from error
        raise
    return fd


def unpack(fd: int) -> tuple[dict[str, Any], bytes]:
    """What was packed; closes `fd`."""
    with open(fd, "rb") as file:
        return marshal.load(file), file.read()


def command(function: str, packed: int, fd: int) -> list[str]:
    """The command line of a new interpreter that calls `function` of the package.

    It is called with the number `fd` and with what was packed.
    """
    return _command(packed, _call(function, fd))


def command_to_divide(function: str, packed: int, fd: int, control: int, last: str) -> list[str]:
    """The same, but the interpreter divides itself first: into a keeper, and who calls `function`.

    See `keeper.spawn`; the keeper calls `last` at its end, with the same, if there is need to.
    """
    return _command(
        packed,
        # Without the package around it, which takes long to import.
        "keeper = {'__name__': 'keeper'}",
        "exec(description['keeper'], keeper)",
        f"about = {control}, {fd}, description['coordinator'], description['owner']",
        "worker = keeper['spawn'](*about)",
        "del keeper, about, description['keeper']",
        f"if worker: {_call(function, fd)}",
        f"else: {_call(last, fd)}",
    )


def _call(function: str, fd: int) -> str:
    module, _, name = function.rpartition(".")
    return f"from {module} import {name}; {name}({fd}, description, argument)"


def _command(packed: int, *lines: str) -> list[str]:
    code = "\n".join(
        (
            # sys and marshal are built in: nothing is imported before sys.path is right.
            f"import marshal, sys; file = open({packed}, 'rb'); description = marshal.load(file)",
            "argument = file.read(); file.close(); sys.path[:] = description['path']",
            *lines,
        )
    )
    return [os.fsdecode(get_executable()), *interpreter_flags(), "-c", code]


@lru_cache(maxsize=1)
def keeper_code() -> CodeType:
    """What `keeper.py` says, for an interpreter that has not imported it."""
    assert keeper.__spec__ is not None
    loader = keeper.__spec__.loader
    assert isinstance(loader, InspectLoader)
    code = loader.get_code(keeper.__name__)
    assert code is not None
    return code


def interpreter_flags() -> list[str]:
    """The options with which this interpreter was started, as far as a child needs them."""
    letters = {
        "optimize": "O",
        "debug": "d",
        "dont_write_bytecode": "B",
        "no_site": "S",
        "verbose": "v",
        "bytes_warning": "b",
        "quiet": "q",
    }
    if sys.flags.isolated:
        letters["isolated"] = "I"
    else:
        letters |= {"ignore_environment": "E", "no_user_site": "s", "safe_path": "P"}
    flags = []
    for attribute, letter in letters.items():
        times = int(getattr(sys.flags, attribute, 0))
        if times > 0:
            flags.append("-" + letter * times)
    for option, value in sys._xoptions.items():
        flags += ["-X", option if value is True else f"{option}={value}"]
    if sys.flags.dev_mode and "dev" not in sys._xoptions:
        flags += ["-X", "dev"]
    return flags + [f"-W{option}" for option in sys.warnoptions]


def _text_format(stream: TextIO | None, errors: str) -> tuple[str, str]:
    return (
        getattr(stream, "encoding", None) or "utf-8",
        getattr(stream, "errors", None) or errors,
    )


@contextlib.contextmanager
def standard_files() -> Iterator[None]:
    """Files opened in here are no standard files; closed ones of these are /dev/null.

    A coordinator may run with 1 closed, say. A pipe of ours that got that number would be
    taken for the place where prints go.
    """
    with contextlib.ExitStack() as filled:
        while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
            filled.callback(os.close, fd)
        os.close(fd)
        yield


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Processes started in here have SIGINT blocked until they have seen to it.

    Otherwise a Ctrl-C while they start would print a traceback from the middle of an import.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def receive_pid(control: socket.socket) -> tuple[int | None, list[int]]:
    """What `send_pid` sent. The pid is None when there is none, and none will come."""
    data, fds, _, _ = socket.recv_fds(control, NUMBER.size, 1, CLOSE_ON_EXEC)
    for fd in fds:
        os.set_inheritable(fd, False)
    return _number(data), fds


def read_exitcode(control: socket.socket) -> int | None:
    """The exit code that was sent, or None when none will come. It can be read again."""
    return _number(control.recv(NUMBER.size, socket.MSG_PEEK))


def _number(data: bytes) -> int | None:
    return int(NUMBER.unpack(data)[0]) if len(data) == NUMBER.size else None
