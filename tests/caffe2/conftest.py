"""The tests in this folder import caffe2."""

import procession.caffe2  # noqa: F401 - makes it importable
