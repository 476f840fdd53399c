"""Records, as in Caffe2's `schema`: schemas, their columns, and the blobs that hold them."""

from procession.graph.schema import *  # noqa: F403
from procession.graph.schema import __all__ as __all__
