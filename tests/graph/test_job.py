"""Jobs: what runs first, in each epoch, and last."""

from __future__ import annotations

from typing import Any

import pytest

from procession import (
    BlobReference,
    ContextError,
    Job,
    LocalSession,
    Net,
    Node,
    ProcessSession,
    Task,
    TaskGroup,
    ops,
)


def counting() -> Job:
    """A job that counts how often each of its groups runs."""
    with Job() as job:
        with job.init_group, Task():
            for name in ("epochs", "downloads", "exits"):
                ops.Const(0, blob_out=name)
        groups = {
            "epochs": job.epoch_group,
            "downloads": job.download_group,
            "exits": job.exit_group,
        }
        for name, group in groups.items():
            with group, Task():
                ops.Add([name, ops.Const(1)], [name])
    return job


def counts(session: Any) -> list[int]:
    workspace = session.workspace()
    return [int(workspace.fetch_blob(name)) for name in ("epochs", "downloads", "exits")]


@pytest.mark.parametrize("kind", [LocalSession, ProcessSession])
def test_a_job_runs_until_a_condition_is_true(kind: Any) -> None:
    job = counting()
    net = Net("look")
    finished = net.GE(["epochs", net.Const(3)])
    task = Task(step=net, outputs=[finished], group=job.epoch_group)
    job.add_stop_condition(task.outputs()[0])
    with kind() as session:
        epochs = job.run(session)
        assert counts(session) == [epochs, 1, 1]
    # Tasks of a group run at once: the look may be before or behind the count.
    assert epochs in (3, 4)


def test_a_blob_is_a_condition() -> None:
    job = counting()
    with job.init_group, Task():
        ops.Const(True, blob_out="enough")
    job.add_stop_condition(BlobReference("enough"))
    with LocalSession() as session:
        assert job.run(session) == 1
        assert counts(session) == [1, 1, 1]


@pytest.mark.parametrize("number", [1, 4])
def test_epochs_are_limited(number: int) -> None:
    job = counting()
    job.limit_epochs(number)
    with LocalSession() as session:
        for _ in range(2):
            assert job.run(session) == number
            assert counts(session) == [number, 1, 1]


def test_a_job_is_compiled_before_it_runs() -> None:
    job = counting()
    job.limit_epochs(2)
    job.compile(LocalSession)
    assert job.nodes_to_checkpoint() == ["local"]
    with LocalSession() as session:
        assert job.run(session) == 2


def test_nodes_to_save_are_those_of_the_beginning() -> None:
    job = Job()
    for node in ("n1", "n2"):
        with job.init_group, Node(node), Task():
            ops.Const(1)
    assert job.nodes_to_checkpoint() == ["n1", "n2"]
    assert Job(nodes_to_checkpoint=["n3"]).nodes_to_checkpoint() == ["n3"]


def test_groups_may_be_given() -> None:
    groups = [TaskGroup() for _ in range(4)]
    job = Job(*groups)
    assert [job.init_group, job.epoch_group, job.download_group, job.exit_group] == groups
    with job:
        assert Job.current() is job
        assert TaskGroup.current() is job.epoch_group
    with pytest.raises(ContextError):
        Job.current()


def test_what_is_no_condition_is_refused() -> None:
    with pytest.raises(ValueError, match="a blob or a task's output, not 42"):
        Job().add_stop_condition(42)
