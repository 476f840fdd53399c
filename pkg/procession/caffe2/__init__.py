"""Caffe2's modules under Caffe2's names, so that its scripts run unchanged.

    import procession.caffe2              # from here on,
    from caffe2.python import core        # this is procession.caffe2.python.core

    python -m procession.caffe2 script.py args...
    python -m pytest -p procession.caffe2 tests/

The modules in here hold names and signatures; what they do stands in the package around.
What differs from Caffe2 is told in docs/caffe2.md.
"""

from procession.caffe2.finder import install

install()
