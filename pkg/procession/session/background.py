"""Something that a workspace runs in a thread, beside the script."""

from __future__ import annotations

import threading
from typing import Any

from procession.session.workspace import Workspace


class BackgroundRun:
    """Begins to run something in a thread, which does not keep the script from ending.

    An error ends the run, is kept as `error`, and is printed as those of threads are.

    Args:
        workspace: Where.
        obj: What `Workspace.run` takes.

    Caffe2: workspace.RunPlanInBackground.
    """

    def __init__(self, workspace: Workspace, obj: Any) -> None:
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(workspace, obj), daemon=True)
        self._thread.start()

    def _run(self, workspace: Workspace, obj: Any) -> None:
        try:
            workspace.run(obj)
        except BaseException as error:
            self.error = error
            raise

    def is_done(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()

    def is_succeeded(self) -> bool:
        """Wait for its end; whether that came without an error."""
        self._thread.join()
        return self.error is None
