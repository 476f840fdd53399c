"""The graph: what a user declares. Plain data; building has no effect but the object built.

In the order in which one stands on the other:

    names.py     which names of nets and steps are taken: the only process-wide state
    source.py    which line of the user's script is building
    scope.py     `with` blocks that say where one is: NameScope, and what Node, Task, ... share
    blob.py      BlobReference: the name of a value, and the net that it came from
    operator.py  Operator: one line of a net
    gradient.py  from a net's operators to those that compute its gradients
    net.py       Net: operators, one after the other
    step.py      ExecutionStep and Plan: when, and how often, nets run
    task.py      Node, Cluster, Task, TaskGroup, TaskOutput: where steps run, what comes back
"""
