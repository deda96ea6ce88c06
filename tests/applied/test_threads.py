"""One learner may be used by many threads: an answer is that of one fit, whole, while others are made."""

import _thread
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metashot
from metashot.applied import network
from metashot.checkpoints.reading import read_checkpoint
from metashot.checkpoints.stored import OURS

from .learners import drawings, tiny

KINDS = [
    ("maml", "support", "engine=batched"), ("maml", "transductive", "engine=learn2learn"), ("mamlpp", "running"),
    ("reptile", "support"), ("protonet", "support"), ("full context", "support"), ("snail", "support_later"),
    ("baselinepp", "running"),
]  # fmt: skip
SECONDS = 0.5
TOLERATED = 1e-4


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: " ".join(kind))
def test_predicting_while_others_fit_answers_by_one_fit(tmp_path: Path, kind: tuple[str, ...]) -> None:
    learner = metashot.load(tiny(tmp_path, *kind))
    queries = drawings(3, seed=9)
    # Of different numbers of classes and of different labels, so that a mixture of two has another shape or other labels.
    tasks = [(drawings(4, seed=1), ["a", "b"] * 2), (drawings(6, seed=2), ["x", "y", "z"] * 2)]
    expected = {}
    for images, labels in tasks:
        learner.fit(images, labels)
        expected[learner.predict_proba(queries).shape[1]] = learner.predict_proba(queries), learner.predict(queries)
    assert set(expected) == {2, 3}
    errors: list[Any] = []
    ends = time.monotonic() + SECONDS

    def work(what: Any) -> None:
        torch.set_grad_enabled(what is not fit)  # the modes of a thread are its own
        try:
            while time.monotonic() < ends:
                what()
        except BaseException as error:
            errors.append(error)

    def fit() -> None:
        for images, labels in tasks:
            learner.fit(images, labels)

    def ask() -> None:
        found = learner.predict_proba(queries)
        np.testing.assert_allclose(found, expected[found.shape[1]][0], atol=TOLERATED)
        labels = learner.predict(queries).tolist()
        assert labels in [of_fit.tolist() for _, of_fit in expected.values()]

    threads = [threading.Thread(target=work, args=(what,)) for what in (fit, fit, ask, ask, ask)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]


def test_clones_share_the_network_and_do_not_disturb_each_other(tmp_path: Path) -> None:
    one = metashot.load(tiny(tmp_path, "maml", "support"))
    two = one.__sklearn_clone__()
    assert two.algorithm is one.algorithm
    one.fit(drawings(4), [0, 1] * 2)
    assert not two.is_fitted
    before = one.predict_proba(drawings(3))
    two.fit(drawings(6, seed=3), [5, 6, 7] * 2)
    np.testing.assert_array_equal(one.predict_proba(drawings(3)), before)


@pytest.mark.parametrize(
    ("algo", "protocol", "key"), [("maml", "support", "test_inner_steps"), ("baseline", "running", "fit")]
)
def test_a_fit_that_takes_long_says_why_and_is_stopped_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, algo: str, protocol: str, key: str
) -> None:
    """As a learner from a stranger can: it would compute for minutes."""
    content = read_checkpoint(tiny(tmp_path, algo, protocol))
    config = content[OURS]["config"]["algo"]
    config[key] = 10_000 if key != "fit" else config[key] | {"steps": 10_000}
    torch.save(content, tmp_path / "theirs.ckpt")
    monkeypatch.setattr(network, "_PATIENCE", 0.05)
    learner = metashot.load(tmp_path / "theirs.ckpt")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
    interrupting = threading.Timer(0.4, _thread.interrupt_main)
    interrupting.start()
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            learner.fit(drawings(4), ["a", "b"] * 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 5
    assert not learner.is_fitted
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "theirs.ckpt: still learning 4 examples, in the 10,000 steps that its configuration asks for, after" in said


def test_work_that_takes_long_again_and_again_is_announced_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_PATIENCE", 0.01)
    trained = metashot.load(tiny(tmp_path, "maml", "support")).network
    for what in ("comparing 9 queries", "comparing 9 queries", "comparing 5 queries", "answering 9 queries"):
        with trained._announced(what):
            time.sleep(0.1)
    said = capsys.readouterr().err.splitlines()
    assert ["comparing" in line for line in said] == [True, False]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_process_that_is_forked_while_a_thread_answers_can_answer_too(tmp_path: Path) -> None:
    learner = metashot.load(tiny(tmp_path, "protonet", "running"), device="cpu").fit(drawings(4), ["a", "b"] * 2)
    used, begun = learner.network._used, threading.Event()

    def answer_for_long() -> None:
        with used:
            begun.set()
            time.sleep(0.3)

    thread = threading.Thread(target=answer_for_long)
    thread.start()
    begun.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if used.acquire(timeout=5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()
    assert used.acquire(timeout=5)  # also in this process
    used.release()
