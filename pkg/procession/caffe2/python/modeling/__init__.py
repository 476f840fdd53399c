"""`caffe2.python.modeling`: parameters, and what is done to nets that train them."""
