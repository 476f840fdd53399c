"""Train an embedding to tell what kind of character it is by the words of its name, data-parallel.

python scripts/train_embedding.py [--nodes N] [--epochs N] [--seed N] [--local] [--plot FILE]

"GREEK SMALL LETTER ALPHA" is a lowercase letter ("Ll"), "ALMOST EQUAL TO" a mathematical symbol
("Sm"): the characters of Unicode, as they come with Python. Each word has a row in a table; a name
is the sum of its words' rows. A batch has few of the words, so its gradient is sparse: some rows,
another number of them on each node.
"""

from __future__ import annotations

import sys
import unicodedata
import zlib
from typing import Any

import numpy as np
from lib.training import Arrays, Recipe, main, split

from procession.train import Initializer, ModelHelper, brew, build_adagrad

ROWS, WIDTH = 1 << 16, 16
"""Of the table. Words are spread over the rows by a checksum."""
NUMBERED = ("CJK", "HANGUL SYLLABLE", "TANGUT", "NUSHU", "KHITAN", "EGYPTIAN", "ANATOLIAN")
"""Characters whose names say little but a number begin like this."""
KINDS = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cs Cn"
"""The categories of Unicode; each has three characters here."""
CLASSES = (len(KINDS) + 1) // 3


def characters(seed: int) -> tuple[Arrays, Arrays]:
    """Names, as rows of words (-1: no word), and categories; a fifth is held out."""
    names, labels = [], []
    for character in map(chr, range(sys.maxunicode + 1)):
        name = unicodedata.name(character, "")
        if name and not name.startswith(NUMBERED):
            names.append([zlib.crc32(word.encode()) % ROWS for word in name.split()])
            labels.append(KINDS.index(unicodedata.category(character)) // 3)
    words = np.full((len(names), max(map(len, names))), -1, np.int32)
    for row, name in zip(words, names, strict=True):
        row[: len(name)] = name
    return split({"words": words, "label": np.array(labels, np.int32)}, seed)


def build(model: ModelHelper, prefix: str) -> tuple[Any, Any]:
    """The sum of the rows, and a layer of all."""
    small = Initializer("UniformFill", min=-0.05, max=0.05)
    table = model.create_param("table", [ROWS, WIDTH], small)
    name = model.net.SparseLengthsSum([table, f"{prefix}words", f"{prefix}lengths"], "name")
    scores = brew.fc(model, name, "scores", WIDTH, CLASSES)
    return model.net.SoftmaxWithLoss([scores, f"{prefix}label"], ["probabilities", "loss"])


def optimize(model: ModelHelper) -> None:
    """Adagrad, once for each row of a batch."""
    build_adagrad(model, base_learning_rate=0.2, sparse_dedup_aggregator="sum")


def collate(examples: Arrays) -> tuple[Any, ...]:
    """All words one behind the other, and how many each name has."""
    is_word = examples["words"] >= 0
    lengths = is_word.sum(axis=1, dtype=np.int32)
    return examples["words"][is_word], lengths, examples["label"]


RECIPE = Recipe(characters, build, optimize, ("words", "lengths", "label"), collate)

if __name__ == "__main__":
    main(RECIPE, "Train an embedding to tell characters by their names.", epochs=5)
