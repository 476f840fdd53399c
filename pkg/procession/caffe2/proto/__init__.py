"""`caffe2.proto`: the messages."""
