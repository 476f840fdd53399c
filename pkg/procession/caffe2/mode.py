"""Whether this script's sessions run in worker processes."""

from __future__ import annotations

processes = False
"""Set by `python -m procession.caffe2 --processes`: a workspace that a session uses then lives in a
worker process, that of its node "local"."""
