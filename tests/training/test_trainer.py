"""What the trainer group makes of a machine."""

import signal

import pytest
import pytorch_lightning as pl
from pytorch_lightning.demos.boring_classes import BoringModel

from metashot import configuration
from metashot.bad_input import BadInput
from metashot.process.interruption import STOP
from metashot.training.trainer import TrainerOptions, computes_in_bf16

from ..algorithms.reinforcement.tiny import learner
from ..configuration.test_configuration import composed


def options(*given: str) -> TrainerOptions:
    built: TrainerOptions = configuration.build(composed("train", *given)["trainer"])
    return built


class Handlers(pl.Callback):
    """Looks at who handles SIGTERM while a loop runs."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def on_train_batch_end(self, *arguments: object, **named: object) -> None:
        self.seen.append(signal.getsignal(signal.SIGTERM))


def test_lightning_leaves_signals_alone_while_it_runs() -> None:
    handlers = Handlers()
    with STOP.listening():
        ours = signal.getsignal(signal.SIGTERM)
        options("trainer.max_steps=2").trainer([handlers], []).fit(BoringModel())
    assert handlers.seen == [ours, ours]
    assert signal.getsignal(signal.SIGTERM) != ours


def test_more_processes_than_cores_are_refused_on_a_cpu() -> None:
    options("trainer.devices=8").refuse_unavailable()
    with pytest.raises(BadInput, match=r"^trainer\.devices=100000 on a CPU .* allowed: at most \d+$"):
        options("trainer.devices=100000").refuse_unavailable()


def test_processor_without_bf16_is_said_to_be_slow_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not options().description()
    for without, lines in ((True, 1), (False, 0)):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda without=without: {"avx512_bf16": not without})
        described = options("trainer.precision=bf16-mixed").description()
        assert len(described) == lines
        assert all("no instructions for bf16" in line for line in described)
    assert computes_in_bf16({"bf16": True})  # of ARM
    assert not computes_in_bf16({"avx2": True, "avx512_fp16": True})


def test_scaled_gradients_are_refused_for_learners_that_act_in_worlds() -> None:
    """Their steps are divided by the scale, though they were not multiplied by it."""
    made = learner()
    with pytest.raises(BadInput, match="a learner that acts in worlds takes steps"):
        options("trainer=gpu", "trainer.precision=16-mixed").arrange(made)
    options("trainer=gpu", "trainer.precision=bf16-mixed").arrange(made)
