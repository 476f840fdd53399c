"""`caffe2.python.modifier_context`: what is in force for parameters, by tag or name."""

from procession.train.modifiers import DEFAULT_MODIFIER, ModifierContext, UseModifierBase

__all__ = ["DEFAULT_MODIFIER", "ModifierContext", "UseModifierBase"]
