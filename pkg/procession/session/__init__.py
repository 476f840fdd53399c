"""Sessions: they pick where each node's program runs, and hand results back.

base.py      Session: what both do alike - compile, cache, check, outputs, closing
local.py     LocalSession: in this process
process.py   ProcessSession: a worker process per node
workspace.py Workspace: running things among blobs without a session
serialize.py values as Caffe2's messages
"""
