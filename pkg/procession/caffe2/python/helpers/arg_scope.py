"""`caffe2.python.helpers.arg_scope`: arguments that helpers are given."""

from procession.train.brew import arg_scope, get_current_scope

__all__ = ["arg_scope", "get_current_scope"]
