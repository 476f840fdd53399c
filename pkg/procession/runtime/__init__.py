"""Running a program against a workspace, in whatever process that is.

program.py    what can be run: plain, immutable, picklable
workspace.py  Workspace: names to blobs, with a parent to look into
monitor.py    how a run is called off, and how others see what it is doing
operation.py  one operator of a program, ready to run: kernel, buffers, errors
net.py        a net, ready to run: first operation by operation, then as one function
generated.py  that function's text
executor.py   Executable: steps, loops, threads, stopping
"""
