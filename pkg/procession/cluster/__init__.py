"""Worker processes: starting them, talking to them, seeing them die. Only ProcessSession's.

blas.py        how many threads a worker's linear algebra may use
placement.py   what a node's process is given: CPUs, priority, threads
inside.py      whether this process is itself a worker
handover.py    what a process that is being started is told, and tells
keeper.py      a worker's parent: sees how it ends, and ends what it has started
child.py       a started process, from its first instruction to the worker's `main`
forkserver.py  a process with NumPy loaded, of which workers are forks
launch.py      start_worker: by fork server, or by a new interpreter
serial.py      objects and exceptions as bytes
datatypes.py   dtypes as text or bytes
protocol.py    the messages, and the board of shared memory beside them
channel.py     whole messages over a socket, with a deadline
worker.py      the child's loop
memory.py      NodeMemory: the shared memory that the coordinator owns for a node
estate.py      what a dead worker leaves to the next one of its node
node.py        NodeHandle: the coordinator's side of one worker
supervisor.py  Supervisor: a run on several at once, failures, time, the end
"""
