"""The part of a net that is needed to predict: without losses, gradients and updates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from procession import BlobNotFoundError, BlobReference, GraphError, Net

Blobs = Iterable[str | BlobReference]


def predictor_net(
    net: Net,
    input_blobs: Blobs,
    output_blobs: Blobs,
    renames: Mapping[str, str] | None = None,
    disabled_inputs: Blobs = (),
) -> Net:
    """The operators of a net that lead from some blobs to others.

    Args:
        net: The net; that of a model, say, with its optimizer.
        input_blobs: What will be fed.
        output_blobs: What is to be predicted.
        renames: Blob -> what it is called instead.
        disabled_inputs: Blobs that must not be needed, such as labels.

    Returns:
        A net. Its external inputs are the inputs, and the parameters that are needed; its
        external outputs are the outputs.

    Raises:
        BlobNotFoundError: The net does not make an output.
        GraphError: A disabled input is needed, or an operator that behaves as in training
            (`is_test=0`).
    """
    given, outputs = {str(blob) for blob in input_blobs}, [str(blob) for blob in output_blobs]
    disabled = {str(blob) for blob in disabled_inputs}
    chosen: list[int] = []
    needed = set(outputs) - given
    operators = list(net.message.op)
    for index in reversed(range(len(operators))):
        operator = operators[index]
        if needed.isdisjoint(operator.output):
            continue
        if operator.arguments.get("is_test") == 0:
            raise GraphError(
                f"operator {operator.type} of net {net.Name()!r} behaves as in training: build "
                "the model again with is_test=True, on the parameters of this one (param_model)"
            )
        needed = (needed - set(operator.output)) | (set(operator.input) - given)
        chosen.append(index)
    for blob in outputs:
        if blob in needed:
            raise BlobNotFoundError(f"net {net.Name()!r} does not make {blob!r}")
    if needed & disabled:
        raise GraphError(f"{outputs} cannot be predicted without {sorted(needed & disabled)}")
    names = {str(old): str(new) for old, new in (renames or {}).items()}
    found = net.Clone(
        f"{net.Name()}_predict",
        blob_remap=names,
        op_id_mask=sorted(chosen),
        keep_schema=False,
        update_external_list=True,
    )
    handed_out = found.Proto().external_output
    del handed_out[:]
    handed_out.extend(dict.fromkeys(names.get(blob, blob) for blob in outputs))
    return found
