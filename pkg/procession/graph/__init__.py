"""The graph: what a user declares. Plain data; building has no effect but the object built.

In the order in which one stands on the other:

    names.py     which names of nets and steps are taken
    source.py    which line of the user's script is building
    scope.py     `with` blocks that say where one is: NameScope, and what Node, Task, ... share
    blob.py      BlobReference: the name of a value, and the net that it came from
    message.py, proto.py, wire.py
                 messages: how they behave; NetDef, OperatorDef, ...; their bytes and text
    device.py    where operators are to run, which is the CPU; DeviceScope
    schema/      records: columns with names and types, and the blobs that hold them
    operator.py  Operator: one line of a net
    gradient_makers.py, gradient_values.py, gradient_reads.py, ir.py, gradient.py
                 one operator's gradient; gradients as values; what control operators read; the
                 walk back through a list of operators; GradientRegistry
    net_gradient.py, control_gradient.py, loop_gradient.py
                 gradients of the nets in operators; If and Do; While
    net.py, net_blobs.py, cloning.py, ssa.py
                 Net: operators, one after the other; its blobs; its copies; its blobs' versions
    step.py      ExecutionStep and Plan: when, and how often, nets run
    control.py   steps for sequences, loops and conditions
    properties.py  what a node's process is to have: threads, CPUs, priority
    cluster.py   Node, Cluster, WorkspaceType: where tasks run
    output.py    TaskOutput: what comes back
    setup.py     what hangs on nets to be run before and after
    builder.py   NetBuilder: nets and steps in the order in which they run
    task.py      Task, TaskGroup: steps on nodes, and what is before, beside and after them
    job.py       Job: groups of tasks, by when they run in a training
    control_ops.py, blocks.py, ops.py
                 nets inside If and While; loops and conditions as builders; `ops`
"""
