"""What every session promises, as tests.

Subclass the contract and say how to make a session:

    class TestMySession(SessionContract):
        def make(self, **options):
            return MySession(**options)

`isolates` says whether nodes are kept apart. Most tests of a class share one session, without blobs
at the beginning of each; those that close it, or look at its nodes, make their own.
"""

from procession.testing.session_contract.base import constant
from procession.testing.session_contract.failures import Failures
from procession.testing.session_contract.isolation import Isolation
from procession.testing.session_contract.life import Life
from procession.testing.session_contract.new_blobs import NewBlobs
from procession.testing.session_contract.runnables import Runnables
from procession.testing.session_contract.snapshots import Snapshots
from procession.testing.session_contract.steps import Steps
from procession.testing.session_contract.values import Values
from procession.testing.session_contract.workspaces import Workspaces
from procession.testing.session_contract.worlds import CommonWorlds

__all__ = ["SessionContract", "constant"]


class SessionContract(
    Runnables,
    Steps,
    Workspaces,
    Values,
    NewBlobs,
    Snapshots,
    Isolation,
    CommonWorlds,
    Failures,
    Life,
):
    """The whole contract."""
