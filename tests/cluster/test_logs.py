from __future__ import annotations

import contextlib
import contextvars
import errno
import io
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import procession
from procession.cluster import logs
from procession.cluster.launch import METHODS, WorkerProcess, start_worker
from procession.cluster.logs import LogPump
from procession.errors import SessionClosedError

HERE = Path(__file__).parent
PACKAGES = Path(procession.__file__).parents[1]
DEADLINE = 30

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class Stream(io.StringIO):
    """Remembers what was written; somebody may wait for that."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()
        self.largest = 0

    def write(self, text: str) -> int:
        with self.changed:
            self.largest = max(self.largest, len(text))
            self.changed.notify_all()
            return super().write(text)

    def wait_for(self, text: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: text in self.getvalue(), DEADLINE), self.getvalue()


@pytest.fixture(autouse=True)
def streams(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands for `sys` in the pump: pytest sets the real one's streams anew for each test."""
    streams = SimpleNamespace(stdout=Stream(), stderr=Stream())
    monkeypatch.setattr(logs, "sys", streams)
    return streams


@pytest.fixture
def out(streams: SimpleNamespace) -> Stream:
    return streams.stdout


@pytest.fixture
def err(streams: SimpleNamespace) -> Stream:
    return streams.stderr


@pytest.fixture
def pump() -> Iterator[LogPump]:
    pump = LogPump()
    yield pump
    pump.close()
    assert pump._thread is None or not pump._thread.is_alive()


@pytest.fixture
def writer(pump: LogPump) -> Iterator[Callable[..., Callable[[bytes], None]]]:
    """Adds a node that is nobody but us; gives what writes to its stdout or stderr."""
    with contextlib.ExitStack() as files:

        def writer(node: str, error: bool = False) -> Callable[[bytes], None]:
            with pump.add(node) as ends:
                fd = os.dup(ends[error])
            file = files.enter_context(open(fd, "wb", buffering=0))

            def write(data: bytes) -> None:
                while data:
                    data = data[file.write(data) :]

            return write

        yield writer


class TestLines:
    def test_each_has_its_nodes_name(self, pump, writer, out, err) -> None:
        trainer, reader = writer("trainer"), writer("reader", error=True)
        trainer(b"one\ntwo\n\n")
        reader(b"three\n")
        pump.drain("trainer", "reader")
        assert out.getvalue() == "[trainer] one\n[trainer] two\n[trainer] \n"
        assert err.getvalue() == "[reader] three\n"

    def test_an_unfinished_one_waits_for_its_end(self, pump, writer, out) -> None:
        a, b = writer("a"), writer("b")
        a(b"be")
        b(b"other\n")
        out.wait_for("other\n")
        a(b"gin\n")
        out.wait_for("gin\n")
        assert out.getvalue() == "[b] other\n[a] begin\n"

    def test_an_unfinished_one_is_out_after_the_run(self, pump, writer, out) -> None:
        a, b = writer("a"), writer("b")
        a(b"x = ")
        pump.drain("a")
        assert out.getvalue() == "[a] x = "
        a(b"3\ny = ")
        pump.drain("a")
        assert out.getvalue() == "[a] x = 3\n[a] y = "
        b(b"now me\n")
        pump.drain("b")
        a(b"4\n")
        pump.drain("a")
        assert out.getvalue() == "[a] x = 3\n[a] y = \n[b] now me\n[a] 4\n"

    def test_an_unfinished_one_is_ended_on_its_own_stream(self, pump, writer, out, err) -> None:
        a, b = writer("a"), writer("b", error=True)
        a(b"x = ")
        pump.drain("a")
        b(b"warning\n")
        pump.drain("b")
        assert (out.getvalue(), err.getvalue()) == ("[a] x = \n", "[b] warning\n")

    def test_an_unfinished_one_when_the_stream_is_another(self, pump, writer, out, streams) -> None:
        a = writer("a")
        a(b"x = ")
        pump.drain("a")
        streams.stdout = second = Stream()
        a(b"3\n")
        pump.drain("a")
        assert (out.getvalue(), second.getvalue()) == ("[a] x = ", "[a] 3\n")

    def test_of_many_nodes_never_mix(self, pump, writer, out) -> None:
        names = [f"n{i}" for i in range(40)]
        writers = [writer(name) for name in names]

        def talk(number: int) -> None:
            for line in range(50):
                text = b"%d %d %s\n" % (number, line, b"x" * (line * 37 % 2000))
                # In two parts: the others get between.
                writers[number](text[: len(text) // 2])
                writers[number](text[len(text) // 2 :])

        threads = [threading.Thread(target=talk, args=(i,)) for i in range(len(names))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        pump.drain(*names)
        seen: dict[str, list[str]] = {name: [] for name in names}
        for line in out.getvalue().splitlines():
            prefix, rest = line.split(" ", 1)
            seen[prefix[1:-1]].append(rest)
        assert seen == {
            name: [f"{i} {line} {'x' * (line * 37 % 2000)}" for line in range(50)]
            for i, name in enumerate(names)
        }

    def test_a_very_long_one_comes_in_pieces(self, pump, writer, out) -> None:
        a, b = writer("a"), writer("b")
        a(b"0123456789" * 300_000)
        pump.drain("a")
        assert out.getvalue() == "[a] " + "0123456789" * 300_000
        assert out.largest <= 4 * logs.LONGEST
        b(b"at last\n")
        pump.drain("b")
        a(b"end\n")
        pump.drain("a")
        assert out.getvalue().endswith("789\n[b] at last\n[a] end\n")

    def test_a_progress_bar_is_shown_as_it_moves(self, pump, writer, out) -> None:
        a = writer("a")
        a(b"\r 10%")
        out.wait_for("10%")
        a(b"\r 20%")
        out.wait_for("20%")
        a(b"\n")
        pump.drain("a")
        assert out.getvalue() == "\r[a]  10%\r[a]  20%\n"
        assert pump.last_lines("a") == [" 20%"]

    def test_carriage_returns_of_line_ends(self, pump, writer, out) -> None:
        a = writer("a")
        for part in (b"one\r\ntwo\r", b"\n"):
            a(part)
            pump.drain("a")
        assert out.getvalue() == "[a] one\r\n[a] two\r\n"
        assert pump.last_lines("a") == ["one", "two"]

    def test_characters_in_parts_and_bytes_that_are_none(self, pump, writer, out) -> None:
        a = writer("a")
        text = "grün €"
        for byte in text.encode():
            a(bytes([byte]))
            pump.drain("a")
        a(b"\xff\n\xe2\x82\n")
        pump.drain("a")
        assert out.getvalue() == "[a] grün €\\xff\n[a] \\xe2\\x82\n"

    def test_last_ones_are_remembered(self, pump, writer, out, err) -> None:
        a = writer("a")
        a(b"".join(b"%d\n" % i for i in range(1000)))
        pump.drain("a")
        assert pump.last_lines("a") == [str(i) for i in range(990, 1000)]
        assert pump.last_lines("a", 2) == ["998", "999"]
        assert pump.last_lines("a", 1000) == [str(i) for i in range(1000 - logs.KEPT, 1000)]
        assert pump.last_lines("a", 0) == pump.last_lines("nobody") == []
        a(b"y" * 1000 + b"\nunfin")
        pump.drain("a")
        a(b"ished")
        pump.finish("a")
        assert pump.last_lines("a", 2) == ["y" * logs.WIDTH + "...", "unfinished"]


class TestStreams:
    def test_closed_missing_and_broken_ones_take_nothing(self, pump, writer, err, streams) -> None:
        class Broken(Stream):
            def write(self, text: str) -> int:
                super().write("")
                raise BrokenPipeError(errno.EPIPE, "nobody reads")

        class Cruel(Stream):
            def write(self, text: str) -> int:
                raise KeyboardInterrupt

        closed = Stream()
        closed.close()
        a, e = writer("a"), writer("e", error=True)
        for stream in (None, closed, Broken(), Cruel(), object()):
            streams.stdout = stream
            a(b"lost\n" * 10_000)
            e(b"not lost\n")
            pump.drain("a", "e")
        streams.stdout = out = Stream()
        a(b"good again\n")
        pump.drain("a")
        assert out.getvalue() == "[a] good again\n"
        assert err.getvalue() == "[e] not lost\n" * 5

    def test_whose_encoding_has_not_all_characters(self, pump, writer, streams) -> None:
        raw = io.BytesIO()
        streams.stdout = io.TextIOWrapper(raw, encoding="ascii")
        writer("größe")("5 €\n".encode())
        pump.drain("größe")
        assert raw.getvalue() == b"[gr\\xf6\\xdfe] 5 \\u20ac\n"

    def test_are_told_in_the_context_of_who_runs(self, pump, writer, streams) -> None:
        cell: contextvars.ContextVar[str] = contextvars.ContextVar("cell", default="none")
        seen = []

        class Notebook(Stream):
            def write(self, text: str) -> int:
                seen.append((cell.get(), text))
                return len(text)

        streams.stdout = Notebook()
        a = writer("a")

        def run(name: str) -> None:
            cell.set(name)
            pump.follow()
            a(b"hello\n")
            pump.drain("a")

        for name in ("first", "second"):
            contextvars.copy_context().run(run, name)
        assert seen == [("first", "[a] hello\n"), ("second", "[a] hello\n")]

    def test_that_are_stuck_keep_nobody_for_ever(self, pump, writer, streams, monkeypatch) -> None:
        goes_on = threading.Event()

        class Stuck(Stream):
            def write(self, text: str) -> int:
                assert goes_on.wait(DEADLINE)
                return super().write(text)

        monkeypatch.setattr(logs, "PATIENCE", 0.05)
        streams.stdout = out = Stuck()
        a, b = writer("a"), writer("b")
        a(b"one\n")
        pump.drain("a")
        b(b"two")
        pump.drain("b")
        pump.finish("b")
        pump.close()
        assert out.getvalue() == ""
        goes_on.set()
        pump._thread.join(DEADLINE)
        assert out.getvalue() == "[a] one\n[b] two\n"


class TestDraining:
    def test_is_complete(self, pump, writer, out) -> None:
        a = writer("a")
        for i in range(300):
            a(b"%d\n" % i)
            pump.drain("a")
            assert out.getvalue().endswith(f"[a] {i}\n")

    def test_waits_for_what_was_read_and_is_not_written(self, pump, writer, streams) -> None:
        entered, goes_on, returned = threading.Event(), threading.Event(), threading.Event()

        class Slow(Stream):
            def write(self, text: str) -> int:
                entered.set()
                assert goes_on.wait(DEADLINE)
                return super().write(text)

        def go_on() -> None:
            while not pump._orders and not returned.is_set():
                pass
            goes_on.set()

        streams.stdout = Slow()
        writer("a")(b"one\n")
        assert entered.wait(DEADLINE)
        helper = threading.Thread(target=go_on)
        helper.start()
        pump.drain("a")
        seen = streams.stdout.getvalue()
        returned.set()
        helper.join(DEADLINE)
        assert seen == "[a] one\n"

    def test_ends_when_each_line_makes_another(self, pump, writer, streams) -> None:
        class Echo(Stream):
            count = 0

            def write(self, text: str) -> int:
                self.count += 1
                if self.count < 10_000:
                    a(b"another\n")
                return super().write(text)

        a = writer("a")
        streams.stdout = out = Echo()
        a(b"first\n")
        pump.drain("a")
        assert "first" in out.getvalue()
        assert out.count < 10_000
        out.count = 10_000

    def test_takes_all_that_fits_into_the_pipe(self, pump, writer, out) -> None:
        a = writer("a")
        for i in range(20):
            a(b"x" * 60_000 + b"\n%d\n" % i)
            pump.drain("a")
            assert out.getvalue().endswith(f"x\n[a] {i}\n")

    def test_is_not_kept_by_others_nor_by_one_that_never_ends(self, pump, writer, out) -> None:
        a, flood = writer("a"), writer("flood")
        stop = threading.Event()

        def talk() -> None:
            while not stop.is_set():
                flood(b"and another thing\n" * 1000)

        talker = threading.Thread(target=talk)
        talker.start()
        try:
            for i in range(20):
                a(b"%d\n" % i)
                pump.drain("a", "flood")
                assert f"[a] {i}\n" in out.getvalue()
            pump.drain("flood")
        finally:
            stop.set()
            while talker.is_alive():
                pump.drain("flood")
                talker.join(0.01)

    def test_of_nobody(self, pump, out) -> None:
        pump.drain()
        pump.drain("nobody")
        pump.finish("nobody")
        with pump.add("a"):
            pass
        pump.drain("nobody")
        assert out.getvalue() == ""

    def test_its_thread_is_started_while_others_can_be_closed(self, pump, monkeypatch) -> None:
        # Garbage may be collected in the new thread before it is known to run, and with it a
        # session, whose pump is closed there.
        other, start, closed = LogPump(), threading.Thread.start, threading.Event()

        def close() -> None:
            other.close()
            closed.set()

        def starting(thread: threading.Thread) -> None:
            if thread.name == "procession-logs":
                start(threading.Thread(target=close, daemon=True))
                assert closed.wait(DEADLINE)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", starting)
        with pump.add("n"):
            pass
        assert closed.is_set()

    def test_in_several_threads(self, pump, writer, out) -> None:
        names = [f"n{i}" for i in range(4)]
        writers = {name: writer(name) for name in names}
        missing = []

        def run(name: str) -> None:
            for i in range(100):
                writers[name](b"%d\n" % i)
                pump.drain(name)
                if f"[{name}] {i}\n" not in out.getvalue():
                    missing.append((name, i))

        threads = [threading.Thread(target=run, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert missing == []


class TestTheEnd:
    def test_of_a_node_that_others_keep_open(self, pump, writer, out) -> None:
        a = writer("a")  # holds the write end, as a child of a worker would
        a(b"whole\nhalf")
        pump.finish("a")
        assert out.getvalue() == "[a] whole\n[a] half\n"
        with pytest.raises(BrokenPipeError):
            a(b"after all")
        pump.finish("a")
        pump.drain("a")

    def test_of_a_pipe_whose_node_lives(self, pump, out) -> None:
        with pump.add("a") as (stdout, _):
            os.write(stdout, b"half")
            kept = os.dup(_)
        out.wait_for("half\n")
        os.write(kept, b"")
        os.close(kept)
        pump.finish("a")
        assert out.getvalue() == "[a] half\n"

    def test_when_a_line_was_shown_half(self, pump, writer, out) -> None:
        a = writer("a")
        a(b"half")
        pump.drain("a")
        pump.finish("a")
        assert out.getvalue() == "[a] half\n"

    def test_when_the_start_fails(self, pump, out) -> None:
        def fail() -> None:
            with pump.add("a") as (stdout, _):
                os.write(stdout, b"I tried")
                raise LookupError

        with pytest.raises(LookupError):
            fail()
        assert out.getvalue() == "[a] I tried\n"
        assert pump.last_lines("a") == ["I tried"]

    @linux
    def test_closes_every_file(self, out) -> None:
        def files() -> set[str]:
            return set(os.listdir("/proc/self/fd"))

        before = len(files())
        pump = LogPump()
        with contextlib.ExitStack() as ends:
            for i in range(256):
                fds = ends.enter_context(pump.add(f"n{i}"))
                os.write(fds[0], b"hello")
        assert len(files()) - before <= 4 + 256 * 2
        pump.close()
        assert len(files()) == before
        assert sorted(out.getvalue().splitlines()) == sorted(f"[n{i}] hello" for i in range(256))
        pump.close()
        with pytest.raises(SessionClosedError), pump.add("late"):
            pass

    def test_nobody_was_added(self) -> None:
        pump = LogPump()
        pump.close()
        pump.close()

    def test_in_the_thread_itself(self, pump, writer, streams) -> None:
        # As a finalizer may do that happens to run there.
        class Closing(Stream):
            def write(self, text: str) -> int:
                pump.drain("a")
                pump.finish("b")
                pump.close()
                return super().write(text)

        streams.stdout = out = Closing()
        a, b = writer("a"), writer("b")
        b(b"half")
        a(b"whole\n")
        pump._thread.join(DEADLINE)
        assert sorted(out.getvalue().splitlines()) == ["[a] whole", "[b] half"]


@pytest.fixture
def start(pump: LogPump, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., WorkerProcess]]:
    monkeypatch.syspath_prepend(str(HERE))
    with contextlib.ExitStack() as workers:

        def start(target: str, argument: bytes = b"", method: str | None = None) -> WorkerProcess:
            with pump.add("w") as (stdout, stderr):
                worker = start_worker(
                    f"targets:{target}", argument, method=method, stdout=stdout, stderr=stderr
                )
            workers.callback(worker.close)
            workers.callback(worker.join, DEADLINE)
            workers.callback(worker.kill)
            return worker

        yield start


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return request.param


class TestWorkers:
    def test_whatever_writes(self, pump, start, method, out, err) -> None:
        worker = start("talk", "grün \udcff €".encode(errors="surrogatepass"), method)
        assert worker.connection.poll(DEADLINE)
        worker.connection.recv()
        pump.drain("w")
        assert out.getvalue() == "[w] grün \\udcff €\n[w] native\n[w] from a child\n"
        assert err.getvalue() == "[w] grün \\udcff €\n"

    @pytest.mark.parametrize("how", [b"kill", b"exit", b"segv"])
    def test_nothing_is_lost_at_a_crash(self, pump, start, method, out, err, how) -> None:
        worker = start("crash", how, method)
        assert worker.join(DEADLINE)
        pump.finish("w")
        assert out.getvalue() == "".join(f"[w] {i}\n" for i in range(3000)) + "[w] half a line\n"
        assert err.getvalue() == "[w] help\n"
        assert pump.last_lines("w")[-1] in ("half a line", "help")

    def test_killed_in_the_middle_of_a_flood(self, pump, start, out, err) -> None:
        worker = start("flood")
        assert worker.connection.poll(DEADLINE)
        said = worker.connection.recv()
        worker.kill()
        assert worker.join(DEADLINE)
        pump.finish("w")
        lines = out.getvalue().splitlines()
        assert len(lines) >= said
        # The last one may be cut.
        assert lines[:-1] == [f"[w] line {i}" for i in range(len(lines) - 1)]
        assert f"[w] line {len(lines) - 1}".startswith(lines[-1])

    def test_a_child_that_outlives_its_worker_a_little(self, pump, start, out, err) -> None:
        worker = start("leave_a_child")
        assert worker.connection.poll(DEADLINE)
        children = []
        with contextlib.suppress(psutil.NoSuchProcess):  # gone already, with its worker
            children.append(psutil.Process(worker.connection.recv()))
        try:
            assert worker.join(DEADLINE)
            pump.finish("w")
            assert out.getvalue() == "[w] the worker's\n"
        finally:
            assert psutil.wait_procs(children, DEADLINE)[1] == []

    def test_that_cannot_start_tells_why(self, pump, out, err, method) -> None:
        with pump.add("w") as (stdout, stderr):
            worker = start_worker("not_there:f", b"", method=method, stdout=stdout, stderr=stderr)
        assert worker.join(DEADLINE)
        worker.close()
        pump.finish("w")
        assert "[w] ModuleNotFoundError: No module named 'not_there'\n" in err.getvalue()
        assert "not_there" in pump.last_lines("w", 1)[0]


IMPORTS = """
    import os, signal, sys, threading
    from procession.cluster.launch import start_worker
    from procession.cluster.logs import LogPump
    pump = LogPump()
    def start(name, target, argument=b""):
        with pump.add(name) as (stdout, stderr):
            target = "targets:" + target
            return start_worker(target, argument, stdout=stdout, stderr=stderr)
"""


@contextlib.contextmanager
def script(
    tmp_path: Path, text: str, imports: str = IMPORTS, **keywords: object
) -> Iterator[subprocess.Popen[str]]:
    """A coordinator of its own, with `start`, which starts a node."""
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(imports) + textwrap.dedent(text))
    process = subprocess.Popen(
        [sys.executable, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(PACKAGES)])},
        **keywords,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


class TestTheCoordinator:
    def test_killed_while_workers_wait_for_it_to_read(self, tmp_path) -> None:
        text = """
            workers = [start(f"w{i}", "flood") for i in range(2)]
            for worker in workers:
                worker.connection.recv()
            print(*[worker.pid for worker in workers], file=sys.stderr, flush=True)
            sys.stdin.read()
        """
        # Its standard output nobody reads: all pipes fill up.
        with script(tmp_path, text) as process:
            processes = [psutil.Process(int(pid)) for pid in process.stderr.readline().split()]
            assert len(processes) == 2
            process.kill()
            _, alive = psutil.wait_procs(processes, timeout=DEADLINE)
        assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in alive)

    def test_whose_output_nobody_reads(self, tmp_path) -> None:
        text = """
            worker = start("w", "crash", b"exit")
            worker.join(30)
            pump.finish("w")
            print("alive", file=sys.stderr)
        """
        with script(tmp_path, text) as process:
            process.stdout.close()
            errors = process.stderr.read()
            process.wait(DEADLINE)
        assert errors.startswith("[w] help\nalive\n")

    def test_leaves_nothing_unwritten_at_its_end(self, tmp_path) -> None:
        text = """
            worker = start("w", "crash", b"exit")
            worker.join(30)
            # In one piece: `print` writes the line's end by itself, and lines may come in between.
            sys.stdout.write("the end\\n")
        """
        with script(tmp_path, text) as process:
            out, err = process.communicate(timeout=DEADLINE)
        assert (err, process.returncode) == ("[w] help\n", 0)
        lines = out.splitlines()
        lines.remove("the end")
        assert lines == [f"[w] {i}" for i in range(3000)] + ["[w] half a line"]

    def test_with_closed_standard_files(self, tmp_path) -> None:
        text = """
            for fd in (0, 1):
                os.close(fd)
            worker = start("w", "crash", b"exit")
            assert worker.join(30)
            pump.finish("w")
        """
        with script(tmp_path, text) as process:
            out, err = process.communicate(timeout=DEADLINE)
        assert err.startswith("[w] help\n")
        assert out == ""

    @linux
    def test_a_forked_copy_takes_no_line(self, tmp_path) -> None:
        text = """
            worker = start("w", "echo_lines")
            worker.connection.recv()
            read, write = os.pipe()
            copy = os.fork()
            if copy == 0:
                worker.close()
                links = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                         if int(fd) > 2 and os.path.islink(f"/proc/self/fd/{fd}")}
                assert len([link for link in links if link.startswith("pipe:")]) == 1, links
                os.close(write)
                os.read(read, 1)  # until the original has read all
                pump.drain("w")
                pump.finish("w")
                pump.close()
                print("copy", flush=True)
                os._exit(0)
            for i in range(1000):
                worker.connection.send(i)
                worker.connection.recv()
                pump.drain("w")
            os.close(write)
            os.waitpid(copy, 0)
            worker.connection.send(None)
            worker.join(30)
            pump.close()
        """
        with script(tmp_path, text) as process:
            out, _ = process.communicate(timeout=DEADLINE)
            assert process.returncode == 0
        assert out.splitlines() == [f"[w] {i}" for i in range(1000)] + ["copy"]

    def test_copies_made_while_lines_come_can_print(self, tmp_path) -> None:
        text = """
            worker = start("w", "flood")
            for i in range(20):
                copy = os.fork()
                if copy == 0:
                    print("copy", flush=True)
                    os._exit(0)
                os.waitpid(copy, 0)
            worker.kill()
            worker.join(30)
            worker.close()
        """
        with script(tmp_path, text) as process:
            out, _ = process.communicate(timeout=DEADLINE)
            assert process.returncode == 0
        assert out.count("copy") == 20

    def test_is_not_forked_in_the_middle_of_a_write(self, tmp_path) -> None:
        text = """
            import os, sys, threading
            forking, entered = threading.Event(), threading.Event()
            class Stream:
                def __init__(self):
                    self.lock = threading.Lock()
                def write(self, text):
                    with self.lock:
                        entered.set()
                        assert forking.wait(30)
                        for _ in range(10_000):
                            pass
                def flush(self):
                    pass
            def look():
                print("writing" if stream.lock.locked() else "not writing", file=sys.stderr)
            # The first to be registered is the last to be called.
            os.register_at_fork(before=look)
            from procession.cluster.logs import LogPump
            os.register_at_fork(before=forking.set)
            sys.stdout = stream = Stream()
            pump = LogPump()
            with pump.add("w") as (stdout, _):
                os.write(stdout, b"hello")
            assert entered.wait(30)
            copy = os.fork()
            if copy == 0:
                os._exit(0)
            os.waitpid(copy, 0)
        """
        with script(tmp_path, text, imports="") as process:
            _, err = process.communicate(timeout=DEADLINE)
        assert err.startswith("not writing\n")

    def test_is_interrupted_and_the_pump_is_not(self, tmp_path) -> None:
        text = """
            worker = start("w", "echo_lines")
            worker.connection.recv()
            armed = False
            def interrupted(number, frame):
                global armed
                if armed:
                    armed = False
                    raise KeyboardInterrupt
            signal.signal(signal.SIGINT, interrupted)
            def interrupt():
                while times < 50:
                    os.kill(os.getpid(), signal.SIGINT)
            times = 0
            threading.Thread(target=interrupt, daemon=True).start()
            while times < 50:
                try:
                    worker.connection.send(times)
                    worker.connection.recv()
                    armed = True
                    while armed:
                        pump.drain("w")
                except KeyboardInterrupt:
                    times += 1
            worker.connection.send("still there")
            worker.connection.recv()
            pump.drain("w")
            worker.connection.send(None)
            worker.join(30)
        """
        with script(tmp_path, text, start_new_session=True) as process:
            out, err = process.communicate(timeout=DEADLINE)
        assert (err, process.returncode) == ("", 0)
        assert out.splitlines() == [f"[w] {i}" for i in [*range(50), "still there"]]
