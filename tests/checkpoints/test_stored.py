"""What comes from strangers is refused with one message, takes little memory, and runs nothing."""

import copy
import pickle
import resource
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import metashot
from metashot.bad_input import BadInput
from metashot.checkpoints.reading import read_checkpoint, write_checkpoint
from metashot.checkpoints.stored import (
    OURS,
    checked_fitted,
    configuration_of_checkpoint,
    configuration_of_folder,
    configuration_of_run,
)
from metashot.files.archives import Unusable, outline, read_archive
from metashot.files.outputs import FITTED
from tests.applied.learners import drawings, tiny
from tests.sources.getting.test_files import as_an_ordinary_user
from tests.strangers import ARCHIVES, CONFIGURATIONS, Attack, attacked, members, with_pickle

_ROOM = 2**30  # bytes that refusing a file may take beside what the process has
_PATIENCE = 120  # seconds


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("sound"), "protonet")


@pytest.fixture(scope="module")
def content(sound: Path) -> dict[str, Any]:
    return read_checkpoint(sound)


@pytest.fixture(scope="module")
def fitted(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("fitted") / "sound.fewshot"
    metashot.load(sound).fit(list(drawings(4)), [0, 0, 1, 1]).save(path)
    whole: dict[str, Any] = read_archive(path)
    return whole


def with_config(content: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    return content | {OURS: content[OURS] | {"config": config}}


@pytest.mark.parametrize("attack", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_a_configuration_of_a_stranger_builds_nothing(content: dict[str, Any], tmp_path: Path, attack: Attack) -> None:
    trace, path = tmp_path / "code-was-run", tmp_path / "theirs.ckpt"
    config = attacked(content[OURS]["config"], attack, trace)
    torch.save(with_config(content, config), path)
    for read in (
        lambda: metashot.load(path),
        lambda: configuration_of_checkpoint(str(path), "ckpt", "best.ckpt"),
        lambda: configuration_of_run(str(path), "repeat"),
    ):
        with pytest.raises(BadInput) as refused:
            read()
        assert len(str(refused.value)) < 3000
    assert not trace.exists()


@pytest.mark.parametrize("attack", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_a_fitted_learner_of_a_stranger_builds_nothing(fitted: dict[str, Any], tmp_path: Path, attack: Attack) -> None:
    trace, path = tmp_path / "code-was-run", tmp_path / "theirs.fewshot"
    torch.save(fitted | {"config": attacked(fitted["config"], attack, trace)}, path)
    with pytest.raises(BadInput):
        metashot.load_fitted(path)
    assert not trace.exists()


@pytest.mark.parametrize("attack", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_a_run_folder_of_a_stranger_builds_nothing(content: dict[str, Any], tmp_path: Path, attack: Attack) -> None:
    trace = tmp_path / "code-was-run"
    config = attacked(content[OURS]["config"], attack, trace)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(BadInput):
        configuration_of_run(str(tmp_path), "repeat")
    assert not trace.exists()


ESCAPES = "\x1b[31mred\x1b]0;title\x07\x9b1m\nerror: theirs"  # colours, the window's title, a line of their own
QUOTED: dict[str, Callable[[dict[str, Any]], object]] = {
    "a weight's name": lambda whole: whole["state_dict"].update({ESCAPES: 1}),
    "a weight's name that is one too many": lambda whole: whole["state_dict"].update({ESCAPES: torch.zeros(1)}),
    "a seed": lambda whole: whole[OURS]["config"].update(seed=ESCAPES),
    "an algorithm's name": lambda whole: whole[OURS]["config"]["algo"].update(name=ESCAPES),
    "a class": lambda whole: whole[OURS]["config"]["algo"].update(_target_=ESCAPES),
    "a key": lambda whole: whole[OURS]["config"]["algo"].update({ESCAPES: 1}),
    "a choice": lambda whole: whole[OURS]["config"]["algo"]["optimizer"].update(name=ESCAPES),
    "data": lambda whole: whole[OURS]["origin"].update(name=ESCAPES),
}


@pytest.mark.parametrize("change", QUOTED.values(), ids=QUOTED.keys())
def test_text_of_a_stranger_does_nothing_to_a_terminal(
    content: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    theirs = copy.deepcopy(content)
    change(theirs)
    torch.save(theirs, tmp_path / "theirs.ckpt")
    with pytest.raises(BadInput) as refused:
        metashot.load(tmp_path / "theirs.ckpt")
    assert str(refused.value).isprintable()


def test_version_of_a_stranger_does_nothing_to_a_terminal(fitted: dict[str, Any], tmp_path: Path) -> None:
    torch.save(fitted | {FITTED: 99, "version": ESCAPES}, tmp_path / "theirs.fewshot")
    with pytest.raises(BadInput, match=r"written by metashot \\x1b") as refused:
        metashot.load_fitted(tmp_path / "theirs.fewshot")
    assert str(refused.value).isprintable()


def nested(depth: int) -> Any:
    label: Any = "x"
    for _ in range(depth):
        label = (label,)
    return label


CLASSES: dict[str, Callable[[dict[str, Any]], object]] = {
    "none": lambda whole: whole.pop("classes"),
    "a dictionary": lambda whole: whole.update(classes={"a": 0, "b": 1}),
    "more than examples": lambda whole: whole.update(classes=list("abcde")),
    "fewer than in its examples": lambda whole: whole.update(classes=["a"]),
    "a label that is long": lambda whole: whole.update(classes=["a" * 1001, "b"]),
    "a label that is long in a tuple": lambda whole: whole.update(classes=[("a" * 1001,), "b"]),
    "a label of many parts": lambda whole: whole.update(classes=[(1,) * 1001, "b"]),
    "a label that is no UTF-8": lambda whole: whole.update(classes=["\udcff", "b"]),
    "a label that is a list": lambda whole: whole.update(classes=[["a"], "b"]),
    "a label that is a tensor": lambda whole: whole.update(classes=[torch.zeros(1), "b"]),
    "a label of many layers": lambda whole: whole.update(classes=[nested(500), "b"]),
    "an example of no class": lambda whole: whole["y"].fill_(-1),
    "an example of a class beyond": lambda whole: whole["y"].fill_(2**40),
    "examples of classes that are fractions": lambda whole: whole.update(y=whole["y"].float()),
    "fewer examples than labels": lambda whole: whole.update(x=whole["x"][:1]),
    "no examples": lambda whole: whole.update(x=whole["x"][:0], y=whole["y"][:0]),
    "one class": lambda whole: whole.update(classes=[0], y=0 * whole["y"]),
    "examples of another shape": lambda whole: whole.update(x=whole["x"][:, :, :9]),
    "examples that are no pixels": lambda whole: whole.update(x=whole["x"].float()),
    "examples that are a list": lambda whole: whole.update(x=[1, 2, 3, 4]),
}


@pytest.mark.parametrize("damage", CLASSES.values(), ids=CLASSES.keys())
def test_classes_of_a_fitted_learner_are_bounded_and_those_of_its_examples(
    fitted: dict[str, Any], tmp_path: Path, damage: Callable[[dict[str, Any]], object]
) -> None:
    theirs = fitted | {"x": fitted["x"].clone(), "y": fitted["y"].clone()}
    damage(theirs)
    torch.save(theirs, tmp_path / "theirs.fewshot")
    with pytest.raises(BadInput, match=r"^the fitted learner .*theirs\.fewshot cannot be used: it") as refused:
        metashot.load_fitted(tmp_path / "theirs.fewshot")
    assert len(str(refused.value)) < 1000


def test_more_classes_than_any_learner_has_are_refused(fitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked_fitted(dict(fitted))["classes"] == [0, 1]
    monkeypatch.setattr("metashot.checkpoints.stored.MOST_CLASSES", 1)
    with pytest.raises(Unusable, match="its classes are not those of its examples"):
        checked_fitted(dict(fitted))


YAMLS = {
    "an object": "!!python/object/apply:os.mkdir ['{trace}']",
    "what W&B keeps of a run": "algo:\n  value:\n    _target_: os.mkdir\n    path: '{trace}'\n",
    "references that grow": "a: &a [x,x]\nb: &b [*a,*a]\n"
    + "".join(f"c{place}: &c{place} [*{'b' if not place else f'c{place - 1}'},*b,*b]\n" for place in range(40)),
    "depth": "seed: " + "[" * 5000 + "]" * 5000,
    "merge keys": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 8)}]}}\n" for n in range(1, 12)),
    "a sexagesimal number": "x: 1" + ":1" * 200_000,
    "a list": "- 1",
    "no text": "seed: \x00",
    "a date": "seed: 2026-01-01",
}


@pytest.mark.parametrize("text", YAMLS.values(), ids=YAMLS.keys())
def test_a_configuration_file_of_a_stranger_is_refused(tmp_path: Path, text: str) -> None:
    trace = tmp_path / "code-was-run"
    (tmp_path / "config.yaml").write_text(text.replace("{trace}", str(trace)))
    with pytest.raises(BadInput):
        configuration_of_folder(tmp_path)
    assert not trace.exists()


def test_a_configuration_file_that_is_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0\n" + "# \n" * 2**20)
    with pytest.raises(BadInput, match="larger than 1 MB"):
        configuration_of_folder(tmp_path)


def refuse_in_little_memory(path: Path, answer: Path) -> None:
    """In another process, which may take no more than some memory, and time."""
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + _ROOM, taken + _ROOM))
    said = []
    for read in (outline, read_archive):
        try:
            read(path)
            said.append("was read")
        except Unusable as error:
            said.append(str(error))
    try:
        metashot.load(path)
        said.append("was loaded")
    except BadInput as error:
        said.append(str(error))
    if "this" in sys.modules:
        said[-1] += " after it was imported"
    answer.write_text("\n".join(said))


def answer_of(path: Path, tmp_path: Path) -> list[str]:
    answer = tmp_path / "answer"
    reader = get_context("fork").Process(target=refuse_in_little_memory, args=(path, answer))
    reader.start()
    reader.join(_PATIENCE)
    assert reader.exitcode == 0
    return answer.read_text().splitlines()


@pytest.mark.parametrize("damage", ARCHIVES.values(), ids=ARCHIVES.keys())
def test_an_archive_of_a_stranger_is_refused_in_little_memory(
    content: dict[str, Any], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "theirs.ckpt"
    write_checkpoint(content, path)
    damage(path)
    read, loaded, learner = answer_of(path, tmp_path)
    assert "theirs.ckpt cannot be used" in learner
    assert "imported" not in learner
    assert "weights_only" not in f"{read}{loaded}{learner}"
    assert not (tmp_path / "code-was-run").exists()


LARGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "images": lambda ours: ours["origin"].update(input_shape=[1, 10**6, 10**6]),
    "many channels": lambda ours: ours["origin"].update(input_shape=[10**9, 1, 1], mean=None, std=None),
    "outputs": lambda ours: ours["origin"].update(outputs=10**12),
    "channels of the backbone": lambda ours: ours["config"]["backbone"].update(channels=10**6),
    "widths": lambda ours: ours["config"].update(
        backbone={"_target_": "metashot.backbones.mlp.MLP", "hidden": [10**6] * 50, "normalisation": "none"}
    ),
    "widths that a layer may have": lambda ours: ours["config"].update(  # ten gigabytes of them
        backbone={"_target_": "metashot.backbones.mlp.MLP", "hidden": [16_384] * 10, "normalisation": "none"}
    ),
}


def test_a_file_does_not_say_that_something_was_fitted_to_which_nothing_can_be(
    fitted: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(fitted | {"origin": fitted["origin"] | {"problem": "DenseLabels"}}, tmp_path / "theirs.fewshot")
    with pytest.raises(BadInput, match=r"theirs\.fewshot cannot be used: there are no fitted learners .*DenseLabels"):
        metashot.load_fitted(tmp_path / "theirs.fewshot")


@pytest.mark.parametrize("change", LARGE.values(), ids=LARGE.keys())
def test_a_network_larger_than_its_weights_is_never_made(
    content: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    path = tmp_path / "theirs.ckpt"
    write_checkpoint(content, path)
    whole = torch.load(path, weights_only=True)
    change(whole[OURS])
    torch.save(whole, path)
    *_, learner = answer_of(path, tmp_path)
    assert "theirs.ckpt" in learner
    assert "memory" not in learner


def test_weights_that_are_the_same_values_do_not_stand_for_a_larger_network(content: dict[str, Any], tmp_path: Path) -> None:
    one = torch.zeros(512, 512)
    weights = {f"backbone.layers.{place}.weight": one for place in range(40)}
    torch.save(content | {"state_dict": weights}, tmp_path / "theirs.ckpt")
    with pytest.raises(BadInput, match=r"theirs\.ckpt cannot be used: its state_dict is broken: several"):
        metashot.load(tmp_path / "theirs.ckpt")


@pytest.mark.parametrize("change", [{"shape": [10**9], "stride": [0]}, {"dtype": "Tensor"}])
def test_what_describes_a_tensor_cannot_be_changed_afterwards(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "theirs.pt"
    torch.save({"x": torch.zeros(4)}, path)
    name = next(name for name in members(path) if name.endswith("data.pkl"))
    pickled = members(path)[name]
    state = pickle.dumps(change, protocol=2)[2:-1]
    end = pickled.rindex(b"Rq") + 1  # behind the call that makes the tensor
    with_pickle(path, pickled[:end] + state + b"b" + pickled[end:])
    with pytest.raises(Unusable, match="sets the state of an object"):
        read_archive(path)


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no origin": lambda whole: whole[OURS].pop("origin"),
    "origin is text": lambda whole: whole[OURS].update(origin="glyphs"),
    "origin without a shape": lambda whole: whole[OURS]["origin"].pop("input_shape"),
    "origin with another problem": lambda whole: whole[OURS]["origin"].update(problem="Chess"),
    "origin with a problem that its algorithm cannot learn": lambda whole: whole[OURS]["origin"].update(
        problem="DenseLabels"
    ),
    "origin with more classes than pixels have labels for": lambda whole: whole[OURS]["origin"].update(
        problem="DenseLabels", outputs=256
    ),
    "origin with a problem that is a list": lambda whole: whole[OURS]["origin"].update(problem=["Classification"]),
    "origin with one constant": lambda whole: whole[OURS]["origin"].update(mean=None),
    "origin with a deviation of zero": lambda whole: whole[OURS]["origin"].update(std=[0.0]),
    "origin named with a path": lambda whole: whole[OURS]["origin"].update(name="../../x"),
    "no weights": lambda whole: whole.update(state_dict={}),
    "no state_dict": lambda whole: whole.pop("state_dict"),
    "weights are a list": lambda whole: whole.update(state_dict=[1]),
    "a weight is a number": lambda whole: whole["state_dict"].update({next(iter(whole["state_dict"])): 1.0}),
    "a weight of another shape": lambda whole: whole["state_dict"].update({next(iter(whole["state_dict"])): torch.zeros(7)}),
    "no step": lambda whole: whole.pop("global_step"),
    "no source": lambda whole: whole[OURS]["config"]["data"].pop("source"),
    "source is a number": lambda whole: whole[OURS]["config"]["data"].update(source=3),
    "no algorithm": lambda whole: whole[OURS]["config"].pop("algo"),
    "no data": lambda whole: whole[OURS]["config"].pop("data"),
    "data are text": lambda whole: whole[OURS]["config"].update(data="glyphs"),
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN.keys())
def test_a_checkpoint_with_a_broken_part_is_refused_by_name(
    content: dict[str, Any], tmp_path: Path, damage: Callable[[dict[str, Any]], Any]
) -> None:
    path = tmp_path / "broken.ckpt"
    torch.save(content, path)
    whole = torch.load(path, weights_only=True)
    damage(whole)
    torch.save(whole, path)
    with pytest.raises(BadInput, match=r"broken\.ckpt"):
        metashot.load(path)


def test_an_archive_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    shared = torch.arange(24, dtype=torch.float64).reshape(4, 6)
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
    whole = {
        "views": [shared, shared.T, shared[1:, ::2], shared[0, 0]],
        "kinds": {str(kind): torch.arange(5).to(kind) for kind in kinds} | {"bool": torch.tensor([True, False])},
        "empty": torch.empty(3, 0),
        "plain": {"text": "ü", "numbers": (1, -(2**70), 2.5, True, None), 3: [[], {}, ()]},
    }
    path = tmp_path / "whole.pt"
    torch.save(whole, path)
    read, loaded = read_archive(path), torch.load(path, weights_only=True)
    assert read["plain"] == loaded["plain"]
    for name in ("views", "kinds"):
        values = read[name].values() if name == "kinds" else read[name]
        expected = loaded[name].values() if name == "kinds" else loaded[name]
        for one, other in zip(values, expected, strict=True):
            assert one.dtype == other.dtype
            assert one.stride() == other.stride()
            assert torch.equal(one, other)
    assert read["empty"].shape == (3, 0)
    assert read["views"][0].untyped_storage().data_ptr() == read["views"][1].untyped_storage().data_ptr()


LABELS: dict[str, Any] = {
    "a dict": [{}, "b"],
    "a list": [["a"], "b"],
    "NaN": [float("nan"), 1.0],
    "NaN in a tuple": [("a", float("nan")), "b"],
    "a long text": ["a" * 10_000_000, "b"],
    "no text": ["\ud800", "b"],
    "a tuple of thousands": [tuple(range(5000)), "b"],
    "twice": ["a", "a"],
    "too few": ["a"],
    "more than examples have": ["a", "b", "c"],
    "more than examples": [str(label) for label in range(100)],
    "none": [],
    "a text": "ab",
    "a tensor": [torch.zeros(1), "b"],
}


@pytest.mark.parametrize("classes", LABELS.values(), ids=LABELS.keys())
def test_labels_of_a_stranger_are_refused(fitted: dict[str, Any], tmp_path: Path, classes: Any) -> None:
    torch.save(fitted | {"classes": classes}, tmp_path / "theirs.fewshot")
    with pytest.raises(BadInput, match=r"theirs\.fewshot") as refused:
        metashot.load_fitted(tmp_path / "theirs.fewshot")
    assert len(str(refused.value)) < 500


def test_labels_of_any_size_that_fit_gives_are_read(sound: Path, tmp_path: Path) -> None:
    learner = metashot.load(sound).fit(list(drawings(4)), [2**70, -(2**70), None, ("a", (1, 2.5))])
    learner.save(tmp_path / "own.fewshot")
    assert set(metashot.load_fitted(tmp_path / "own.fewshot").classes_) == {2**70, -(2**70), None, ("a", (1, 2.5))}


def test_a_checkpoint_without_permission_is_not_called_damaged(sound: Path) -> None:
    with as_an_ordinary_user(), tempfile.TemporaryDirectory() as name:
        path = Path(name) / "best.ckpt"
        path.touch(0)
        for read in (metashot.load, lambda given: configuration_of_checkpoint(str(given), "ckpt", "best.ckpt")):
            with pytest.raises(BadInput, match="cannot be used: it cannot be read: Permission denied"):
                read(path)
