"""Records what Caffe2 builds and trains of the models in `training_cases.py`.

Run with a Python that has Caffe2:

    python tests/caffe2/record/training.py
"""

import json
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(os.path.dirname(HERE), "recorded")
sys.path.insert(0, os.path.dirname(HERE))

import training_cases as cases  # noqa: E402

if not hasattr(np, "asscalar"):
    # Caffe2 calls it, but a NumPy that is not as old as Caffe2 does not have it.
    np.asscalar = lambda value: value.item()


def main():
    """Write both files."""
    arrays = {}
    told = {
        "layers": {name: cases.layer(name) for name in cases.LAYERS},
        "optimizers": {name: cases.updates(name) for name in cases.OPTIMIZERS},
        "whole": {name: make() for name, make in cases.WHOLE.items()},
        "signatures": cases.signatures(),
        "penalties": {},
        "projections": {},
    }
    for name in cases.OPTIMIZERS:
        for param, values in cases.trained(name).items():
            arrays[f"trained/{name}/{param}"] = values
    for name in cases.REGULARIZERS:
        added, value, gradient = cases.penalty(name)
        told["penalties"][name] = added
        arrays["penalty/" + name] = value
        arrays["penalty_grad/" + name] = gradient
    for name in cases.PROJECTIONS:
        told["projections"][name], arrays["projection/" + name] = cases.projection(name)
    with open(os.path.join(FOLDER, "training.json"), "w") as file:
        json.dump(told, file, indent=None, sort_keys=True, separators=(",", ":"))
        file.write("\n")
    np.savez_compressed(os.path.join(FOLDER, "training.npz"), **arrays)


if __name__ == "__main__":
    main()
