"""`caffe2.python.helpers`: the helpers of `brew`, which take what they are given and no more."""
