"""Running a program against a workspace, in whatever process that is.

program.py    what can be run: plain, immutable, picklable
workspace.py  Workspace: names to blobs, with a parent to look into
operation.py  one operator of a program, ready to run: kernel, buffers, errors
executor.py   Executable: steps, loops, threads, stopping
"""
