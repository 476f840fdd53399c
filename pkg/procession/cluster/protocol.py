"""The messages between the coordinator and a worker.

The coordinator asks, the worker answers, one question at a time:

    Run         -> Ran            run a program; ship it along if it is new
    Fetch       -> Value          a blob's value
    Feed        -> Done           a small value, or an object
    Reserve     -> Reserved       memory to write a blob's next value into
    Commit      -> Done           it is written
    Lend        -> Lent           buffers that no blob owns, to write anything into
    Adopt       -> Done           a lent buffer becomes a blob's value
    Call        -> Returned       call a function; its large arguments lie in lent buffers
    Remove      -> Done
    Tidy        -> Done           hand back what lies idle
    Stop                          and the worker ends

All but Run, Call and Stop may be answered by Failed. In the middle of a question the worker may
itself ask, once or several times, for NeedSegment, which is answered by Granted or Failed.
A worker begins with Ready.

Every question carries `ended`: the leases whose arrays have become garbage since the last. Every
Done, Ran and Returned carries `returned`: segments in which nothing is in use, for the
coordinator to unlink.

All that a worker says carries the number of the message that it has heard last. So a coordinator
that was interrupted while it waited knows what is still to come (an answer to what it sent last)
and what is not meant for it any more (all else). What it was in the middle of taking in, it takes
in again.

A lent buffer is one that is leased before anybody owns it. It goes back to the pool like any
other when its lease ends, unless a blob has adopted it by then.

On its way a message is a tuple of plain values, the first of which is the number of its kind
(`packed`, `unpacked`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from procession.blobs.journal import Torn
from procession.cluster.channel import GarbledMessage
from procession.runtime.workspace import Workspace

# Values.


class Located(NamedTuple):
    """A tensor in shared memory, leased."""

    segment: str
    offset: int
    shape: tuple[int, ...]
    dtype: str | bytes
    lease: int


class Inline(NamedTuple):
    """A small tensor."""

    data: bytes
    shape: tuple[int, ...]
    dtype: str | bytes


class Pickled(NamedTuple):
    """An object."""

    data: bytes


Payload = Located | Inline | Pickled


def payload(packed: tuple[Any, ...]) -> Payload:
    """What was a payload before it travelled; these differ in length."""
    kind: Any = {5: Located, 3: Inline, 1: Pickled}.get(len(packed))
    if kind is None:
        raise GarbledMessage
    made: Payload = kind._make(packed)
    return made


class Place(NamedTuple):
    """A buffer in shared memory, leased."""

    segment: str
    offset: int
    nbytes: int
    lease: int


# What the worker is started with. Goes by pickle, to our own child.


class Start(NamedTuple):
    """What a worker is told on its command line, so to speak."""

    node: str
    board: str
    threads: int | None
    """The cap on BLAS threads; None leaves them alone."""
    properties: Any
    """What else its process is to have, a NodeProperties; None if nothing was said."""
    workspace: type[Workspace]
    """Of what kind its workspace is."""
    journal: tuple[str, int] | None = None
    """The name and the size of the segment for its journal, if it is to keep one."""
    estate: Any = None
    """The Estate that its predecessor left; None for the first."""


# From the coordinator.


class Run(NamedTuple):
    """Run a program."""

    run: int
    plan: int
    program: bytes | None
    """The plan's program by cloudpickle, the first time."""
    forgotten: tuple[int, ...]
    """Plans that will not be run again."""
    threads: int | None
    """The cap on BLAS threads from here on; None leaves them alone."""
    worlds: tuple[Any, ...] = ()
    """The common worlds that may be joined in it: each a plain `worlds.Offer`."""


class Fetch(NamedTuple):
    """Lease and describe a blob's value."""

    name: str


class Feed(NamedTuple):
    """Give a blob a value that travels in the message."""

    name: str
    value: tuple[Any, ...]
    """Inline or Pickled."""


class Reserve(NamedTuple):
    """Find memory for a blob's next value, to be written by the coordinator."""

    name: str
    shape: tuple[int, ...]
    dtype: str | bytes


class Commit(NamedTuple):
    """Only after Reserved, and the next question after it; any other gives the memory back."""


class Lend(NamedTuple):
    """Lend buffers of so many bytes."""

    sizes: tuple[int, ...]


class Adopt(NamedTuple):
    """Make a lent buffer a blob's value. Its lease goes on."""

    name: str
    lease: int
    shape: tuple[int, ...]
    dtype: str | bytes


class Call(NamedTuple):
    """Call a function. The leases of its arguments' buffers go over to the worker."""

    run: int
    function: bytes
    arguments: bytes
    leases: tuple[int, ...]


class Remove(NamedTuple):
    """Remove a blob."""

    name: str


class Tidy(NamedTuple):
    """Hand back what lies idle, if it is much."""


class Stop(NamedTuple):
    """End."""


class Granted(NamedTuple):
    """A segment to map."""

    name: str
    size: int


# From the worker.


class Ready(NamedTuple):
    """The worker listens."""

    pid: int


class Ran(NamedTuple):
    """How a run went."""

    run: int
    outputs: tuple[tuple[Any, ...], ...]
    """Payloads, in the order of the program's `outputs`."""
    failure: tuple[Any, ...] | None
    """A packed Report."""
    cancelled: bool
    loaded: bool
    """Whether the worker has the plan and can run it again by its number."""
    appeared: tuple[str, ...]
    vanished: tuple[str, ...]
    returned: tuple[str, ...]


class Returned(NamedTuple):
    """What a function returned, or raised."""

    data: bytes
    places: tuple[tuple[Any, ...], ...]
    """Where its large parts lie."""
    failure: tuple[Any, ...] | None
    """A packed Report."""
    returned: tuple[str, ...]


class Value(NamedTuple):
    """A blob's value."""

    value: tuple[Any, ...]


class Reserved(NamedTuple):
    """Where to write."""

    segment: str
    offset: int
    in_place: bool
    """Whether that is the memory of the blob's present value."""


class Lent(NamedTuple):
    """The buffers, in the order of their sizes."""

    places: tuple[tuple[Any, ...], ...]


class Done(NamedTuple):
    """It is done. What appeared and vanished are blobs of the global workspace."""

    appeared: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()


class Failed(NamedTuple):
    """It could not be done."""

    report: tuple[Any, ...]


class NeedSegment(NamedTuple):
    """The worker has no memory left; what it hands back can be unlinked."""

    least: int
    preferred: int
    returned: tuple[str, ...]
    world: str = ""
    """Of which common world the members may look at it."""


FEED_INTERRUPTED = Torn("the feed of it was interrupted")
"""Why a blob is torn that was reserved in place and not committed. Both sides know of it."""

_KINDS: tuple[Any, ...] = (
    *(Run, Fetch, Feed, Reserve, Commit, Lend, Adopt, Call, Remove, Tidy, Stop, Granted),
    *(Ready, Ran, Returned, Value, Reserved, Lent, Done, Failed, NeedSegment),
)
_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}


NONSENSE = (AttributeError, LookupError, TypeError, ValueError, OverflowError)
"""What is raised when a message that is well-formed has parts that make no sense."""


def packed(message: Any, beside: Any = ()) -> tuple[Any, ...]:
    """A message as it travels. Nested ones have to be plain tuples already.

    Args:
        message: One of the above.
        beside: What it carries: a question, the leases that ended; all that a worker says, the
            number of what it heard last.
    """
    return (_NUMBERS[type(message)], beside, *message)


def unpacked(travelled: tuple[Any, ...]) -> tuple[Any, Any]:
    """(the message again, what it carries).

    Raises:
        GarbledMessage: It is none of ours.
    """
    try:
        return _KINDS[travelled[0]]._make(travelled[2:]), travelled[1]
    except (TypeError, IndexError, ValueError):
        raise GarbledMessage from None
