"""`caffe2.python.serialized_test`: what tests of operators in Caffe2's style share."""
