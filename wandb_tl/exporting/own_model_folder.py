"""The model folder of a network that Python code has handed over: it must load without that code."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

from torch import nn

from wandb_tl.errors import InputError, one_line
from wandb_tl.exporting import formats
from wandb_tl.exporting.whole_network import WholeNetwork
from wandb_tl.predicting import exported_network, run_network
from wandb_tl.predicting.sources import EXPORTED_FILES
from wandb_tl.training import model_folder
from wandb_tl.training.model_description import ModelDescription
from wandb_tl.training.model_folder import TrainedModel


def save(folder: Path, model: nn.Module, description: ModelDescription) -> ModelDescription:
    """Write the network as TorchScript, which predict loads; its tensors alone if it cannot be traced.

    The folder is written whole or not at all, and replaced if there is one. Returns the description as it was
    written. A printed line says why it cannot be traced. InputError if the folder cannot be written.
    """
    traced = dataclasses.replace(description, precision="fp32")
    whole = WholeNetwork(TrainedModel(copy.deepcopy(model).cpu().eval(), traced))
    entries = exported_network.metadata(traced, run_network.framing(description.config))
    try:
        with model_folder.written_as_a_whole(folder) as new:
            formats.write_torchscript(whole, entries, new / EXPORTED_FILES["torchscript"])
    except InputError:
        raise
    except Exception as error:
        # The forward pass of any network can do what TorchScript does not know.
        print(
            f"{description.config.model_name} cannot be traced by TorchScript ({one_line(error)[:200]}): its "
            "tensors are saved, and predict cannot load it"
        )
        return model_folder.save(folder, model, description)
    return traced
