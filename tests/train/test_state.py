"""Going on where one was, and predicting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from procession import (
    BlobNotFoundError,
    GraphError,
    LocalSession,
    ProcessSession,
    Workspace,
)
from procession.train import (
    Initializer,
    ModelHelper,
    brew,
    build_adam,
    build_sgd,
    data_parallel,
    load,
    predictor_net,
    save,
    state_blobs,
)


def adam(model: ModelHelper) -> None:
    build_adam(model, 0.05, policy="step", gamma=0.5, stepsize=4)


def test_training_goes_on_as_if_it_had_not_ended(training: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    model = training.model()
    adam(model)
    training.begin(model)
    training.steps(model, 5)
    save(path, training.workspace, model)
    expected = training.steps(model, 5)
    again = type(training)()
    model = again.model()
    adam(model)
    again.begin(model)
    load(path, again.workspace, model)
    assert again.steps(model, 5) == expected
    assert [each.name for each in tmp_path.iterdir()] == ["state.npz"]
    assert "optimizer_iteration" in state_blobs(model)
    assert "out_w_second_moment" in state_blobs(model)
    assert "iteration_mutex" not in state_blobs(model)


def test_running_means_are_part_of_it() -> None:
    model = ModelHelper("m")
    brew.spatial_bn(model, "x", "y", 3, is_test=False)
    assert state_blobs(model) == ["y_s", "y_b", "y_rm", "y_riv"]


@pytest.mark.parametrize("session_type", [LocalSession, ProcessSession])
def test_sessions_are_workspaces_too(session_type: Any, training: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    model = training.model()
    build_sgd(model, 0.5)
    with session_type() as session:
        workspace = session.workspace()
        workspace.feed_blob("x", training.points)
        workspace.feed_blob("label", training.labels)
        session.run(model.param_init_net)
        session.run(model.net)
        save(path, workspace, model)
        before = np.array(workspace.fetch_blob("out_w"))
        session.run(model.net)
        load(path, workspace, model)
        assert (workspace.fetch_blob("out_w") == before).all()


def test_a_file_of_another_model(training: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    model = training.model()
    training.begin(model)
    save(path, training.workspace, model)
    before = training.fetch("out_w")
    training.begin(model)
    other = training.model()
    adam(other)
    with pytest.raises(GraphError, match=r"is of another model: it has no \['optimizer_iteration'"):
        load(path, training.workspace, other)
    load(path, training.workspace, model)
    assert (training.fetch("out_w") == before).all()
    with pytest.raises(BlobNotFoundError):
        save(path, Workspace(), model)
    with np.load(path) as kept:
        assert set(kept) == {"hidden_w", "hidden_b", "out_w", "out_b"}
    wider = ModelHelper("wider")
    brew.fc(wider, brew.fc(wider, "x", "hidden", 4, 8), "out", 8, 3)
    with pytest.raises(GraphError, match=r"'hidden_w' has the shape \(6, 4\) there, not \(8, 4\)"):
        load(path, training.workspace, wider)
    assert (training.fetch("out_w") == before).all()


def test_what_is_no_file_of_a_state(training: Any, tmp_path: Path) -> None:
    path, model = tmp_path / "state.npz", training.model()
    training.begin(model)
    save(path, training.workspace, model)
    whole = path.read_bytes()
    at = whole.index(training.fetch("hidden_w").tobytes())
    for wrong in (b"hello", b"", whole[:-30], whole[:at] + b"?" + whole[at + 1 :]):
        path.write_bytes(wrong)
        with pytest.raises(GraphError, match=r"state\.npz' is no file that save has written"):
            load(path, training.workspace, model)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz", training.workspace, model)


def test_what_is_no_workspace_and_what_no_model(training: Any, tmp_path: Path) -> None:
    path, model = tmp_path / "state.npz", training.model()
    parallel = data_parallel(lambda m: brew.fc(m, "x", "y", 4, 1), ["n1"], adam)
    with LocalSession() as session:
        for go in (save, load):
            with pytest.raises(GraphError, match=r"not LocalSession; .* session\.workspace\(\)"):
                go(path, session, model)
            with pytest.raises(GraphError, match="in a workspace, not dict"):
                go(path, {}, model)
            with pytest.raises(GraphError, match=r"not DataParallel; it has one, \.model"):
                go(path, session.workspace(), parallel)
        model.net.Copy("hidden_w", "seen")
        model.param_init_net.ConstantFill([], "seen", shape=[1])
        session.run(model.param_init_net)
        session.workspace().feed_blob("seen", np.array(["a", None], object))
        with pytest.raises(GraphError, match="numbers: 'seen' is not"):
            save(path, session.workspace(), model)
    assert not path.exists()


def test_blobs_of_any_name_are_saved(tmp_path: Path) -> None:
    path, workspace = tmp_path / "state.npz", Workspace()
    model = ModelHelper("names")
    names = ["file", "allow_pickle", "args", "a/b", "../up", "x.npy", "\u00e9"]
    for number, name in enumerate(names):
        model.create_param(name, [2], Initializer("ConstantFill", value=float(number)))
    workspace.run(model.param_init_net)
    save(path, workspace, model)
    with np.load(path) as stored:
        assert stored["file"].tolist() == [0, 0]
    fresh = Workspace()
    load(path, fresh, model)
    assert [fresh.fetch_blob(name)[0] for name in names] == [*range(len(names))]


def test_what_else_changes_has_a_shape_too(tmp_path: Path) -> None:
    path, workspace = tmp_path / "state.npz", Workspace()

    def counting(length: int) -> ModelHelper:
        model = ModelHelper("counting")
        seen = model.param_init_net.ConstantFill([], "seen", shape=[length])
        model.net.Relu(seen, seen)
        return model

    workspace.run(counting(3).param_init_net)
    save(path, workspace, counting(3))
    load(path, workspace, counting(3))
    with pytest.raises(GraphError, match=r"'seen' has the shape \(3,\) there, not \(4,\)"):
        load(path, workspace, counting(4))


def test_the_part_that_predicts(training: Any) -> None:
    model = training.model()
    build_sgd(model, 0.5)
    training.begin(model)
    training.steps(model, 30)
    net = predictor_net(model.net, ["x"], ["out"], {"out": "score"}, disabled_inputs=["label"])
    assert [op.type for op in net.Proto().op] == ["FC", "Tanh", "FC"]
    assert {*map(str, net.external_inputs)} == {"x", "hidden_w", "hidden_b", "out_w", "out_b"}
    assert list(net.Proto().external_output) == ["score"]
    training.workspace.run(net)
    assert (training.fetch("score").argmax(1) == training.labels).mean() > 0.9


def test_what_cannot_predict(training: Any) -> None:
    model = training.model()
    with pytest.raises(BlobNotFoundError, match="does not make 'nothing'"):
        predictor_net(model.net, ["x"], ["nothing"])
    with pytest.raises(GraphError, match=r"cannot be predicted without \['label'\]"):
        predictor_net(model.net, ["x"], ["loss"], disabled_inputs=["label"])
    brew.dropout(model, "out", "dropped", is_test=False)
    with pytest.raises(GraphError, match=r"Dropout of net .* behaves as in training"):
        predictor_net(model.net, ["x"], ["dropped"])
