"""`caffe2.python.control`: steps that loop and choose."""

from procession.graph.control import (
    BoolNet,
    CombineConditions,
    Do,
    DoParallel,
    DoUntil,
    DoWhile,
    For,
    GetConditionBlobFromNet,
    If,
    IfNot,
    MergeConditionNets,
    NotNet,
    Switch,
    SwitchNot,
    Until,
    While,
)

__all__ = [
    "BoolNet",
    "CombineConditions",
    "Do",
    "DoParallel",
    "DoUntil",
    "DoWhile",
    "For",
    "GetConditionBlobFromNet",
    "If",
    "IfNot",
    "MergeConditionNets",
    "NotNet",
    "Switch",
    "SwitchNot",
    "Until",
    "While",
]
