"""Why a training is left out for now: the time is over, another call is at it, or a command failed."""


class NotMeasured(Exception):
    """Why a training was left out for now.

    Args:
        training: Its name.
        reason: Why.
    """

    def __init__(self, training: str, reason: str) -> None:
        super().__init__(reason)
        self.training = training


class TimeOver(NotMeasured):
    """The time of the call is over."""


class Busy(NotMeasured):
    """Another call is at it."""


class Failed(NotMeasured):
    """A command failed."""
