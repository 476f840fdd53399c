"""Where the bytes of a blob live, and who may still be looking at them.

datatypes.py   what a tensor can be made of
segment.py     a piece of shared memory: made and unlinked by the coordinator, mapped by a worker
heap.py        buffers in this process's own memory
shared.py      buffers inside segments, pooled: the worker's side
snapshot.py    read-only arrays over memory that is not to be written while they live
plain.py       which objects are data, and mean the same in every process
journal.py     what a worker's workspace holds, written so that it outlives the worker
unfinished.py  arrays that are filled in place before a blob has them
blob.py        Blob: one named value, and the rule that what was fetched never changes
"""
