"""State that a module may lack: it is empty until something was learned, and in checkpoints of earlier versions."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class OptionalState(nn.Module):
    """A module whose buffers are None until they are set, and take whatever sizes a checkpoint has.

    A subclass names its buffers, and says in `broken` which values it cannot use.
    """

    NAMES: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        super().__init__()
        for name in self.NAMES:
            self.register_buffer(name, None)

    def broken(self, found: Mapping[str, Tensor]) -> str | None:
        """What of a stored state cannot be used; None if all can.

        Args:
            found: The buffers that the checkpoint has; without values if they are on the meta device.
        """
        raise NotImplementedError

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        found = {name: state_dict[prefix + name] for name in self.NAMES if prefix + name in state_dict}
        if trouble := self.broken(found):
            error_msgs.append(f"{prefix}{trouble}")
            return
        for name in self.NAMES:
            value = found.get(name)
            if value is not None and value.dtype == torch.float16:  # as ready-made learners are stored
                value = value.float()
            setattr(self, name, None if value is None else value.detach().clone())
