"""W&B's own process, wandb-core, which wandb starts beside each process that uses its client, and its death.

wandb starts it once: after its death, whatever the client does raises one of GONE_ERRORS until `forget`.
"""

from __future__ import annotations

import os
from contextlib import suppress

import wandb
from wandb.sdk.lib import module
from wandb.sdk.lib.asyncio_manager import AlreadyJoinedError
from wandb.sdk.lib.service.service_connection import WandbApiFailedError
from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

from wandb_tl.errors import one_line

# The last is for who still has a connection from before `forget`.
GONE_ERRORS = (ConnectionError, MailboxClosedError, HandleAbandonedError, AlreadyJoinedError)
# What the client raises for a request that fails, whoever is the reason.
REQUEST_ERRORS = (wandb.Error, WandbApiFailedError, ValueError, *GONE_ERRORS)


def is_gone(error: BaseException) -> bool:
    """Whether an error of the client says that W&B's own process has died."""
    # The client wraps some of them. Those of a server that refuses something have its response.
    return isinstance(error, GONE_ERRORS) or (isinstance(error, WandbApiFailedError) and not error.response)


def reason(error: BaseException) -> str:
    """Why a request for a sweep has failed, in one line."""
    # The client's own sentence contains the repr of an object.
    is_missing = str(error).startswith("Could not find sweep")
    return "there is no such sweep on the server" if is_missing else one_line(error)


def forget() -> None:
    """End W&B's own process of this process, dead or alive. The client starts another one when it is used.

    The client then also reads its environment again. A run that was open is so no longer.
    """
    # SystemExit: how the client reports that its process has died of a signal.
    with suppress(*GONE_ERRORS, SystemExit):
        wandb.teardown()
    # The client keeps a run that it could not finish, and would give it to whoever starts the next one.
    module.unset_globals()
    # By it, child processes would use this process's.
    os.environ.pop("WANDB_SERVICE", None)
