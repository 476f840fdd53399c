"""`caffe2.python`: the modules of Caffe2's Python that exist here."""
