"""Running a program against a workspace, in whatever process that is.

program.py    what can be run: plain, immutable, picklable
workspace.py  Workspace: names to blobs, with a parent to look into
monitor.py    how a run is called off, and how others see what it is doing
run.py        one run: what its threads share, and each task has to know
operation.py  one operator of a program, ready to run: kernel, buffers, errors
items.py      what a prepared net is a list of: operations, checks, calls
flow.py       nets and steps, opened up into items
net.py        a net, ready to run: first item by item, then as one function
binding.py    that function for one workspace, and the blobs that it relies upon
draft.py      that function for blobs that look a certain way
generated.py  its text
threads.py    several jobs at once
executor.py   Executable: a whole program, ready to run
"""
