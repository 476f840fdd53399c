"""From a runnable to one checked program per node. Pure: runs nothing, remembers nothing.

lower.py     runnable -> tasks by node -> programs; what changed since
check.py     which blobs a program reads and writes, and which of them it may not see
messages.py  nets and plans that are messages -> programs
compiled.py  CompiledRunnable: what `Session.compile` returns
"""
