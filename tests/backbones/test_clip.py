"""Networks of open_clip: what their towers give, what a state holds, where weights come from, and what is refused."""

import copy
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot import configuration
from metashot.algorithms.metric.protonet import ProtoNet
from metashot.backbones import open_clip_networks, published
from metashot.backbones.clip import Clip
from metashot.bad_input import BadInput
from metashot.problems import Classification
from tests.configuration.test_configuration import composed

open_clip = pytest.importorskip("open_clip")
safetensors = pytest.importorskip("safetensors.torch")

SHAPE = (1, 28, 28)
TINY = "test-clip"
TEXTS = ["a photo of a dog.", "a photo of a red car.", "cat"]


def in_open_clip(seed: int = 0, name: str = TINY) -> nn.Module:
    torch.manual_seed(seed)
    return open_clip_networks.built(open_clip_networks.named(name))


def built(weights: str | Path = "hub", name: str = TINY) -> Any:
    return Clip(SHAPE, name, str(weights))


def loaded(weights: str | Path, name: str = TINY) -> Any:
    made = built(weights, name)
    made.bring_back()
    return made


def images(count: int = 3, side: int = 32, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, count, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=dtype)


def saved(path: Path, module: nn.Module) -> Path:
    safetensors.save_file({name: value.contiguous() for name, value in module.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("weights") / "clip.safetensors", in_open_clip())


def refused(message: str, weights: str | Path, name: str = TINY) -> None:
    """One message, of one line."""
    with pytest.raises(BadInput, match=message) as found:
        loaded(weights, name)
    assert "\n" not in str(found.value)


class TestTowers:
    def test_features_are_those_of_open_clip(self, file: Path) -> None:
        made, network = loaded(file), in_open_clip()
        with torch.no_grad():
            for task, some in enumerate(images()):
                torch.testing.assert_close(made(images(), 0)[task], network.encode_image(some))  # type: ignore[operator]
            tokens = open_clip.tokenize(TEXTS, context_length=32)
            expected = F.normalize(network.encode_text(tokens), dim=-1)  # type: ignore[operator]
        torch.testing.assert_close(made.text_features(TEXTS), expected)

    def test_a_text_does_not_depend_on_the_others(self, file: Path) -> None:
        made, other = loaded(file), loaded(file)
        whole = made.text_features(TEXTS)
        for place in (2, 0, 1):
            assert torch.equal(other.text_features([TEXTS[place]])[0], whole[place])
        assert torch.equal(made.text_features(TEXTS[::-1]), whole.flip(0))

    def test_a_text_is_embedded_once_and_never_with_older_weights(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made, embedded = loaded(file), []
        embed = made._embedded
        monkeypatch.setattr(made, "_embedded", lambda text: embedded.append(text) or embed(text))
        first = made.text_features(TEXTS)
        made.text_features(TEXTS[1:])
        assert embedded == TEXTS
        with torch.no_grad():
            made.network.text_projection.copy_(made.network.text_projection.flip(1))
        torch.testing.assert_close(made.text_features(TEXTS), first.flip(1))
        made.bring_back()
        torch.testing.assert_close(made.text_features(TEXTS), first)
        assert made.double().text_features(TEXTS).dtype is torch.double
        assert len(embedded) == 4 * len(TEXTS)

    def test_texts_are_the_same_in_mixed_precision_and_inference_mode(self, file: Path) -> None:
        expected = loaded(file).text_features(TEXTS)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            made = loaded(file)
            made.text_features(TEXTS)
        found = made.text_features(TEXTS)
        assert torch.equal(found, expected)
        assert not found.is_inference()

    def test_copies_give_the_same(self, file: Path) -> None:
        made = loaded(file)
        expected = made.text_features(TEXTS)
        for other in (copy.deepcopy(made), copy.copy(made), pickle.loads(pickle.dumps(made))):
            assert torch.equal(other.text_features(TEXTS), expected)
            assert torch.equal(other(images(), 0), made(images(), 0))

    def test_nothing_of_it_is_trained(self, file: Path) -> None:
        made = loaded(file).train()
        assert made.frozen
        assert not any(one.requires_grad for one in made.parameters())
        assert not any(module.training for module in made.modules())


class TestState:
    def learner(self, weights: Path) -> ProtoNet:
        config = composed("train", "algo=protonet", "algo.learned_temperature=true", "backbone=clip")
        made: ProtoNet = configuration.build_algorithm(config, backbone=built(weights), problem=Classification(3))
        return made

    def test_a_state_has_a_digest_of_both_towers_instead_of_weights(self, file: Path, tmp_path: Path) -> None:
        made = self.learner(file)
        made.backbone.bring_back()  # type: ignore[operator]
        state = made.state_dict()
        assert [name for name in state if name.startswith("backbone.")] == ["backbone.public_digest"]
        other = self.learner(file)
        other.load_state_dict(state)
        assert torch.equal(other.backbone(images(), 0), made.backbone(images(), 0))  # type: ignore[operator]
        changed = in_open_clip()
        with torch.no_grad():
            changed.text_projection.add_(1)  # type: ignore[union-attr, operator]
        with pytest.raises(RuntimeError, match=r"published weights \w{64}, and this one has \w{64}"):
            self.learner(saved(tmp_path / "other.safetensors", changed)).load_state_dict(state)


class TestFiles:
    def test_training_scripts_files_and_half_precision_are_read(self, file: Path, tmp_path: Path) -> None:
        state = in_open_clip().state_dict()
        torch.save(
            {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "it.pt"
        )
        assert loaded(tmp_path / "it.pt").public_digest == loaded(file).public_digest
        torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pt")
        assert {parameter.dtype for parameter in loaded(tmp_path / "half.pt").parameters()} == {torch.float32}

    def test_a_text_tower_of_its_own_takes_the_usual_names(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        own = {TINY: {**open_clip_networks._OWN[TINY], "custom_text": True}}
        expected = loaded(file).text_features(TEXTS)
        monkeypatch.setattr(open_clip_networks, "_OWN", own)
        made = loaded(file)
        assert isinstance(made.network, open_clip.CustomTextCLIP)
        torch.testing.assert_close(made.text_features(TEXTS), expected)

    def test_the_scale_of_training_is_not_needed(self, file: Path, tmp_path: Path) -> None:
        state = in_open_clip().state_dict()
        torch.save(state | {"logit_scale": torch.ones(1)}, tmp_path / "it.pt")
        assert loaded(tmp_path / "it.pt").public_digest == loaded(file).public_digest
        torch.save({name: value for name, value in state.items() if name != "logit_scale"}, tmp_path / "it.pt")
        assert loaded(tmp_path / "it.pt").public_digest == loaded(file).public_digest

    def test_other_files_are_refused(self, file: Path, tmp_path: Path) -> None:
        refused(r"there is no such file; allowed: hub, or a \.safetensors or \.pt file", tmp_path / "none.pt")
        refused("it is no file", tmp_path)
        (tmp_path / "it.safetensors").write_bytes(file.read_bytes()[:1000])
        refused("it is damaged, or holds no weights", tmp_path / "it.safetensors")
        torch.save({"visual.proj": print}, tmp_path / "code.pt")
        refused("could run code; it was not loaded", tmp_path / "code.pt")
        torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))  # type: ignore[no-untyped-call]
        refused("it is a TorchScript program, which could run code; it was not loaded", tmp_path / "script.pt")
        state = in_open_clip().state_dict()
        torch.save({name: value for name, value in state.items() if name != "ln_final.weight"}, tmp_path / "part.pt")
        refused("does not fit backbone.name: it has no ln_final.weight", tmp_path / "part.pt")
        torch.save(state | {"visual.proj": torch.ones(3, 4)}, tmp_path / "shape.pt")
        refused(r"its visual.proj has the shape \[3, 4\], and the network's is \[32, 16\]", tmp_path / "shape.pt")


class TestNames:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("ViT-B-23", "backbone.name=ViT-B-23 is not a network of open_clip .*; did you mean .*ViT-B-32"),
            ("qqqq", "is not a network of open_clip .*; open_clip.list_models.. lists all"),
            ("hf-hub:a/b", "is not a network of open_clip"),
            ("local-dir:/tmp", "is not a network of open_clip"),
            ("", "is not a network of open_clip"),
            ("ViT-B-32.none", "names weights that open_clip does not know; allowed: .*ViT-B-32.laion2b_s34b_b79k"),
            ("ViT-B-32.", "names weights that open_clip does not know"),
            ("ViT-S-32.openai", "it has none of ViT-S-32: give backbone.weights=FILE"),
            ("test-clip.openai", "it has none of test-clip: give backbone.weights=FILE"),
            ("ViT-B-16-SigLIP", "its text tower or its tokenizer is not part of open_clip: choose another"),
            ("xlm-roberta-base-ViT-B-32", "its text tower or its tokenizer is not part of open_clip"),
            ("coca_ViT-B-32", "its text tower or its tokenizer is not part of open_clip"),
        ],
    )
    def test_names_that_cannot_be_used_are_refused(self, name: str, message: str) -> None:
        with pytest.raises(BadInput, match=message) as found:
            built(name=name)
        assert "\n" not in str(found.value)

    @pytest.mark.parametrize("name", ["hf-hub:a/b", "../x", "/etc/passwd", "a.b.c", "", "a" * 300])
    def test_a_path_or_an_address_is_refused_by_the_type(self, name: str) -> None:
        config: dict[str, Any] = composed("train", "algo=protonet", "backbone=clip")["backbone"]
        with pytest.raises(BadInput, match=r"backbone\.name"):
            configuration.build({**config, "name": name}, input_shape=SHAPE)

    @pytest.mark.parametrize(
        ("name", "side", "features", "data", "quick"),
        [
            ("ViT-B-32.laion2b_s34b_b79k", 224, 512, "LAION-2B", False),
            ("ViT-B-32.openai", 224, 512, "WIT", True),
            ("ViT-L-14-336.openai", 336, 768, "WIT", True),
            ("MobileCLIP-S1.datacompdr", 256, 512, "data named datacompdr by open_clip", False),
        ],
    )
    def test_real_names_decide_the_network_and_its_inputs(
        self, name: str, side: int, features: int, data: str, quick: bool
    ) -> None:
        with torch.device("meta"):
            made = built(name=name)
            assert made(torch.empty(1, 1, 3, side, side), 0).shape == (1, 1, features)
        assert (made.wants["input_shape"], made.features, made.external_data) == ([3, side, side], features, data)
        assert len(made.wants["mean"]) == len(made.wants["std"]) == 3
        assert made.wants["augmented"] is False
        assert made._named.architecture["quick_gelu"] is quick

    def test_external_data_of_a_file_names_it(self) -> None:
        assert built("it.pt").external_data == "it.pt, for test-clip"


class TestConnection:
    NAME = "ViT-B-32.laion2b_s34b_b79k"

    def from_hub(self) -> None:
        network = open_clip_networks.named(self.NAME)
        open_clip_networks.load_published_clip(nn.Identity(), network, "hub")

    def test_no_connection_is_one_message(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        hub = pytest.importorskip("huggingface_hub")
        monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
        before = time.monotonic()
        with pytest.raises(BadInput, match=rf"the weights {self.NAME} could not be downloaded .*backbone.weights=FILE"):
            self.from_hub()
        assert time.monotonic() - before < 10
        assert capfd.readouterr() == ("", "")

    def test_a_download_is_read_as_a_file_and_its_failure_is_one_message(
        self, monkeypatch: pytest.MonkeyPatch, file: Path
    ) -> None:
        asked = []
        monkeypatch.setattr(open_clip_networks, "refuse_no_connection", lambda *given: asked.append(given))
        monkeypatch.setattr(open_clip, "download_pretrained", lambda _: str(file))
        with pytest.raises(BadInput, match=f"the weights {self.NAME} does not fit backbone.name"):
            loaded("hub", self.NAME)
        assert asked == [(self.NAME, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K")]

        def fails(_: Any) -> None:
            raise SystemExit("first\nsecond")

        monkeypatch.setattr(open_clip, "download_pretrained", fails)
        with pytest.raises(BadInput, match=r"could not be downloaded \(first second\)"):
            self.from_hub()

    def test_the_hub_needs_the_name_of_weights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(published, "refuse_no_connection", lambda *_: pytest.fail("asked the hub"))
        refused("backbone.name=test-clip does not name its weights: open_clip has none, or give", "hub")
        network = open_clip_networks.named("ViT-B-32")
        with pytest.raises(
            BadInput, match=r"does not name its weights: choose one, such as backbone.name=ViT-B-32\.\w+, or"
        ):
            open_clip_networks.load_published_clip(nn.Identity(), network, "hub")


def test_open_clip_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find = open_clip_networks.importlib.util.find_spec
    monkeypatch.setattr(
        open_clip_networks.importlib.util, "find_spec", lambda name: None if name == "open_clip" else find(name)
    )
    with pytest.raises(BadInput, match=r"needs open_clip, which is not installed: pip install 'metashot\[clip\]'"):
        built()
