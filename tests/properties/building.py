"""Random programs as tasks, through names that Caffe2 and Procession share.

Run by itself, in an interpreter that has real Caffe2, it reads a JSON list of programs and prints
the list of what their variables hold in the end.
"""

import json
import sys


def build(house, program, names, node="local", name="task"):
    """A task that runs a program; its outputs are the variables. `house` has the modules."""
    with house.task.Node(node), house.task.Task(name=name) as task:
        known = {each: house.ops.Const(0) for each in names}
        add(house, program, known)
        outputs = [task.add_output(known[each]) for each in names]
    return task, outputs


def add(house, body, known):
    """Add a body to the builder one is in; `known` has the blobs by name."""
    ops = house.ops
    for statement in body:
        kind, rest = statement[0], statement[1:]
        if kind == "set":
            ops.Const(rest[1], blob_out=known[rest[0]])
        elif kind == "do":
            getattr(ops, rest[1])([known[rest[2]], known[rest[3]]], [known[rest[0]]])
        elif kind == "new":
            known[rest[0]] = getattr(ops, rest[1])([known[rest[2]], known[rest[3]]])
        elif kind == "loop":
            with ops.loop(rest[0]):
                add(house, rest[1], dict(known))
        elif kind == "count":
            with ops.loop(rest[0]) as loop:
                out = known[rest[1]]
                ops.Add([out, loop.iter()], [out])
                add(house, rest[2], dict(known))
        elif kind == "step":
            with house.net_builder.NetBuilder("step") as inner:
                add(house, rest[1], dict(known))
            step = house.core.execution_step(
                "repeat", house.core.to_execution_step(inner), num_iter=rest[0]
            )
            house.net_builder.NetBuilder.current().add(step)
        elif kind == "scope":
            with house.core.NameScope(rest[0]):
                add(house, rest[1], dict(known))
        elif kind == "stop":
            ops.stop_if(test(ops, rest[0], known))
        elif kind == "if":
            condition = None
            for each, then in rest[0]:
                if condition is None:
                    block = ops.If(test(ops, each, known))
                else:
                    block = condition.Elif(test(ops, each, known))
                with block as condition:
                    add(house, then, dict(known))
            if rest[1]:
                with condition.Else():
                    add(house, rest[1], dict(known))


def test(ops, comparison, known):
    """The blob of a test."""
    kind, a, b = comparison
    return getattr(ops, kind)([known[a], known[b]])


def main():
    """Run programs in real Caffe2; see above."""
    from caffe2.python import core, net_builder, session, task
    from caffe2.python.net_builder import ops

    class House:
        pass

    house = House()
    house.core, house.net_builder, house.task, house.ops = core, net_builder, task, ops
    request = json.load(sys.stdin)
    results = []
    for program in request["programs"]:
        with task.TaskGroup() as group:
            _, outputs = build(house, program, request["names"])
        session.LocalSession().run(group)
        results.append([int(output.fetch()) for output in outputs])
    print(json.dumps(results))


if __name__ == "__main__":
    main()
