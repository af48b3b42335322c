"""Trains as `python -m wandb_tl.train` does, and gets SIGTERM after its second epoch. Run as a script.

Under torchrun, which passes the signal on, torchrun gets it. The process then waits, so that the run cannot
end before the signal, however few its epochs are.
"""

import math
import os
import signal
import time

from wandb_tl import train
from wandb_tl.config import RunConfig
from wandb_tl.training import checkpoints, loop

print_epoch = loop.print_epoch


def print_and_terminate(config: RunConfig, row: dict[str, float]) -> None:
    print_epoch(config, row)
    number = int(os.environ.get("RANK", "-1"))
    if row["epoch"] == 2 and number <= 0:
        os.kill(os.getpid() if number < 0 else os.getppid(), signal.SIGTERM)
        time.sleep(300)


loop.print_epoch = print_and_terminate
# However short its epochs are, the second one is saved.
checkpoints.SAVING_SHARE = math.inf
train.COMMAND.start()
