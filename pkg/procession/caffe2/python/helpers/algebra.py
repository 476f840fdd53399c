"""`caffe2.python.helpers.algebra`: sums, products, transposing."""

from procession.train.layers.algebra import arg_min, reduce_sum, sub, sum, transpose
from procession.train.layers.linear import batch_mat_mul, mat_mul

__all__ = ["arg_min", "batch_mat_mul", "mat_mul", "reduce_sum", "sub", "sum", "transpose"]
