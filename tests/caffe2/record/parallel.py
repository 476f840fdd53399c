"""Records what Caffe2 makes of the models in `parallel_cases.py`.

Run with a Python that has Caffe2:

    python tests/caffe2/record/parallel.py
"""

import json
import os
import sys
import types

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(os.path.dirname(HERE), "recorded")
sys.path.insert(0, os.path.dirname(HERE))

try:
    import networkx  # noqa: F401
except ImportError:
    # Caffe2 imports it for what is not called here.
    sys.modules["networkx"] = types.ModuleType("networkx")

import parallel_cases as cases  # noqa: E402


def main():
    """Write both files."""
    told = {
        "cases": {name: cases.told(name) for name in cases.CASES},
        "predictor": cases.predictor(),
        "signatures": cases.signatures(),
    }
    arrays = {
        name + "/" + blob: values
        for name in cases.CASES
        for blob, values in cases.trained(name).items()
    }
    with open(os.path.join(FOLDER, "parallel.json"), "w") as file:
        json.dump(told, file, indent=None, sort_keys=True, separators=(",", ":"))
        file.write("\n")
    np.savez_compressed(os.path.join(FOLDER, "parallel.npz"), **arrays)


if __name__ == "__main__":
    main()
