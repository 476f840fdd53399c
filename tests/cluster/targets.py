"""What the workers of these tests do; imported by them, from this folder."""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from procession.cluster import blas


def echo(connection: Connection, argument: bytes) -> None:
    connection.send(argument)
    while (message := connection.recv()) is not None:
        connection.send(message)


def size(connection: Connection, argument: bytes) -> None:
    connection.send(len(argument))


def leave(connection: Connection, argument: bytes) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    how, _, what = argument.decode().partition(" ")
    print("on my way", end="")
    if how == "signal":
        os.kill(os.getpid(), int(what))
        signal.pause()
    if how == "exit":
        sys.exit(int(what))
    if how == "message":
        sys.exit(what)
    if how == "raise":
        raise LookupError(what)


def busy(connection: Connection, argument: bytes) -> None:
    connection.send("ready")
    if argument == b"loop":
        while True:
            pass
    elif argument == b"sleep":
        threading.Event().wait(1000)
    elif argument == b"holding the GIL":
        ctypes.PyDLL(None).sleep(1000)


def say(connection: Connection, argument: bytes) -> None:
    connection.recv()
    print(argument.decode(), "from print", 1)
    print(argument.decode(), "from stderr", file=sys.stderr)
    subprocess.run(["echo", "from a child"], check=True)


def long_line(connection: Connection, argument: bytes) -> None:
    print("a", "b", 3)
    print("c" * 30_000)


def describe(connection: Connection, argument: bytes) -> None:
    if argument:
        sys.modules.pop("unheard_of", None)
        import unheard_of

        found = unheard_of.__file__
    else:
        found = None
    connection.send(
        {
            "environ": dict(os.environ),
            "cwd": os.getcwd(),
            "path": sys.path,
            "argv": sys.argv,
            "found": found,
            "flags": (sys.flags.optimize, sys.flags.dev_mode, list(sys.warnoptions)),
            "main": getattr(sys.modules["__main__"], "__file__", None),
            "null": [os.fstat(fd).st_rdev == os.stat(os.devnull).st_rdev for fd in (0, 1, 2)],
            "group": os.getpgrp(),
            "stdin": sys.stdin.read(),
            "inheritable": [
                int(fd.name)
                for fd in Path("/proc/self/fd").iterdir()
                if fd.exists() and int(fd.name) > 2 and os.get_inheritable(int(fd.name))
            ],
            "files": [
                os.readlink(fd)
                for fd in Path("/proc/self/fd").iterdir()
                if fd.is_symlink() and int(fd.name) > 2
            ],
        }
    )


def numbers(connection: Connection, argument: bytes) -> None:
    connection.send((random.random(), float(np.random.random())))


def threads(connection: Connection, argument: bytes) -> None:
    a = np.ones((1000, 1000))
    a @ a
    tasks = len(list(Path("/proc/self/task").iterdir()))
    connection.send((blas.blas_threads(), tasks - threading.active_count()))


def interrupt_a_child(connection: Connection, argument: bytes) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    done = subprocess.run(["sh", "-c", "kill -INT $$; echo survived"], capture_output=True)
    connection.send((done.returncode, done.stdout))


def talk(connection: Connection, argument: bytes) -> None:
    text = argument.decode(errors="surrogatepass")
    print(text)
    print(text, file=sys.stderr)
    os.write(1, b"native\n")
    subprocess.run(["echo", "from a child"], check=True)
    connection.send("said")
    connection.recv()


def crash(connection: Connection, argument: bytes) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for i in range(3000):
        print(i)
    print("half a line", end="", flush=True)
    print("help", file=sys.stderr)
    if argument == b"exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL if argument == b"kill" else signal.SIGSEGV)
    signal.pause()


def flood(connection: Connection, argument: bytes) -> None:
    for i in itertools.count():
        print("line", i)
        if i == 2000:
            connection.send(i)


def echo_lines(connection: Connection, argument: bytes) -> None:
    connection.send("ready")
    while (message := connection.recv()) is not None:
        print(message)
        connection.send(None)


def leave_a_child(connection: Connection, argument: bytes) -> None:
    print("the worker's")
    connection.send(subprocess.Popen(["sleep", "1000"]).pid)


def share_the_connection(connection: Connection, argument: bytes) -> None:
    child = subprocess.Popen(["sleep", "1000"], pass_fds=[connection.fileno()])
    connection.send(child.pid)
    threading.Event().wait(1000)


def drop_the_connection(connection: Connection, argument: bytes) -> None:
    fd = connection.fileno()
    del connection
    gc.collect()
    os.fstat(fd)
    sys.exit(7)
