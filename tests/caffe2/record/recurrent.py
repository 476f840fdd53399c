"""Records what Caffe2 makes of the models in `recurrent_cases.py`.

Run with a Python that has Caffe2:

    python tests/caffe2/record/recurrent.py
"""

import json
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(os.path.dirname(HERE), "recorded")
sys.path.insert(0, os.path.dirname(HERE))

import recurrent_cases as cases  # noqa: E402


def main():
    """Write both files."""
    told = {"signature": cases.signature(), "cases": {}}
    arrays = {}
    for name in cases.CASES:
        told["cases"][name], values = cases.trained(name)
        for blob, found in values.items():
            arrays[name + "/" + blob] = np.array(found)
    with open(os.path.join(FOLDER, "recurrent.json"), "w") as file:
        json.dump(told, file, indent=None, sort_keys=True, separators=(",", ":"))
        file.write("\n")
    np.savez_compressed(os.path.join(FOLDER, "recurrent.npz"), **arrays)


if __name__ == "__main__":
    main()
