"""Encoders in folders, here small ones with random weights that transformers saves: features, pooling, bad folders."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metashot import configuration
from metashot.backbones.texts.sentence import Sentence
from metashot.bad_input import BadInput
from metashot.episodes import Examples
from metashot.problems import Classification
from tests.backbones.texts.vector_files import tokenizers
from tests.configuration.test_configuration import composed

transformers = pytest.importorskip("transformers")

WORDS = ["the", "cat", "dog", "sat", "ran", "on", "a", "mat"]
TEXTS = ["the cat sat on a mat", "dog", "the dog ran", ""]
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
}


def save(folder: Path, kind: str, seed: int = 0) -> Path:
    """Save an encoder with random weights and its tokenizer."""
    specials = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"] if kind == "bert" else ["<s>", "<pad>", "</s>", "<unk>"]
    first, last = (specials[1], specials[2]) if kind == "bert" else (specials[0], specials[2])
    words = [*specials, *WORDS]
    vocabulary = {word: place for place, word in enumerate(words)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=specials[3]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(one, vocabulary[one]) for one in (first, last)]
    )
    config = {"bert": transformers.BertConfig, "roberta": transformers.RobertaConfig, "mpnet": transformers.MPNetConfig}[
        kind
    ]
    padding = vocabulary["[PAD]" if kind == "bert" else "<pad>"]
    torch.manual_seed(seed)
    network = transformers.AutoModel.from_config(config(vocab_size=len(words), pad_token_id=padding, **SIZES))
    for value in network.parameters():  # away from the zeros and ones that they start with
        value.data.normal_(0, 0.3)
    folder.mkdir(exist_ok=True)
    network.save_pretrained(folder)
    made.save(str(folder / "tokenizer.json"))
    return folder


def as_sentence_transformers(folder: Path, pooling: dict[str, Any], modules: tuple[str, ...]) -> Path:
    """Add the files that sentence-transformers writes."""
    listed = [
        {"idx": place, "path": f"{place}_{name}" if place else "", "type": f"sentence_transformers.models.{name}"}
        for place, name in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16} | pooling))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {kind: save(root / kind, kind) for kind in ("bert", "roberta", "mpnet")}


def built(folder: Path, length: int = 12, pooling: Any = "auto") -> Sentence:
    made = Sentence((2, 12), "somebody/some-encoder", str(folder), pooling, length, "running")
    made.bring_back()
    return made


def inputs(folder: Path, texts: list[str], length: int) -> Tensor:
    """[1, N, 2, length], as `Tokens` presents them."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    x = torch.zeros(1, len(texts), 2, length, dtype=torch.long)
    for place, one in enumerate(tokenizer.encode_batch(texts)):
        x[0, place, 0, : len(one.ids)] = torch.tensor(one.ids)
        x[0, place, 1, : len(one.ids)] = 1
    return x


def by_hand(folder: Path, text: str, pooling: str = "mean") -> Tensor:
    """The feature of one text without padding, by transformers alone."""
    network = transformers.AutoModel.from_pretrained(folder).eval()
    ids = torch.tensor([tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids])
    with torch.no_grad():
        hidden: Tensor = network(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
    return hidden[0] if pooling == "cls" else hidden.mean(0)


@pytest.mark.parametrize("kind", ["bert", "roberta", "mpnet"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_features_are_those_of_transformers(folders: dict[str, Path], kind: str, pooling: str) -> None:
    folder = folders[kind]
    found = built(folder, pooling=pooling)(inputs(folder, TEXTS, 12), 0)[0]
    for text, feature in zip(TEXTS, found, strict=True):
        torch.testing.assert_close(feature, by_hand(folder, text, pooling), rtol=1e-4, atol=1e-5)


def test_a_text_without_tokens_has_finite_features(folders: dict[str, Path]) -> None:
    assert built(folders["bert"])(torch.zeros(1, 2, 2, 12, dtype=torch.long), 0).isfinite().all()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_the_pooling_is_the_one_that_the_folder_says(
    folders: dict[str, Path], tmp_path: Path, said: dict[str, Any], expected: str
) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(folders["bert"], folder)
    as_sentence_transformers(folder, said, ("Transformer", "Pooling", "Normalize"))
    found = built(folder)(inputs(folder, TEXTS[:1], 12), 0)[0, 0]
    torch.testing.assert_close(
        found, nn.functional.normalize(by_hand(folder, TEXTS[0], expected), dim=0), rtol=1e-4, atol=1e-5
    )


def learner(backbone: Sentence) -> Any:
    return configuration.build_algorithm(composed("train", "algo=protonet"), backbone=backbone, problem=Classification(3))


def test_a_checkpoint_names_the_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    state = learner(built(folders["bert"])).state_dict()
    assert [name for name in state if name.startswith("backbone.")] == ["backbone.public_digest"]
    learner(Sentence((2, 12), "x", str(folders["bert"]), "auto", 12, "none")).load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"its backbone has the published weights .*, and this one has"):
        learner(built(save(tmp_path / "other", "bert", seed=1))).load_state_dict(state)


@pytest.mark.parametrize("kind", ["bert", "roberta", "mpnet"])
def test_tasks_can_be_batched_by_vmap(folders: dict[str, Path], kind: str) -> None:
    made = built(folders[kind])
    x = inputs(folders[kind], TEXTS, 12).expand(2, -1, -1, -1)
    together = torch.func.vmap(lambda one: made(one[None], 0)[0])(x)
    torch.testing.assert_close(together, made(x, 0), rtol=1e-4, atol=1e-5)


def test_setfit_fine_tunes_a_copy_for_each_task(folders: dict[str, Path]) -> None:
    config = composed("train", "algo=setfit", "algo.lr=0.01")
    made: Any = configuration.build_algorithm(config, backbone=built(folders["bert"]), problem=Classification(2)).eval()
    support = Examples(
        inputs(folders["bert"], ["the cat", "dog ran", "a cat sat", "on dog"], 12), torch.tensor([[0, 1, 0, 1]])
    )
    query = inputs(folders["bert"], TEXTS, 12)
    frozen = made.answer(made.summary(Examples(made.embed(support.x, 0), support.y)), made.embed(query, 0))
    state = {name: value.clone() for name, value in made.backbone.network.state_dict().items()}
    answers = made(support, query)
    assert (answers.softmax(-1) - frozen.softmax(-1)).abs().max() > 0.05
    assert all(torch.equal(value, state[name]) for name, value in made.backbone.network.state_dict().items())
    told = made.answer_queries(made.adapt(support), support.x)
    assert torch.equal(told.argmax(-1), support.y)


def test_folders_that_cannot_be_used_get_one_message_each(folders: dict[str, Path], tmp_path: Path) -> None:
    def copied() -> Path:
        shutil.rmtree(tmp_path / "encoder", ignore_errors=True)
        return Path(shutil.copytree(folders["bert"], tmp_path / "encoder"))

    def refused(folder: Path | str, message: str, **changed: Any) -> None:
        with pytest.raises(BadInput, match=message) as caught:
            built(Path(folder), **changed)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "none", "there is no such folder; allowed: hub, or a folder")
    refused(folders["bert"] / "config.json", "it is no folder")
    refused(
        folders["bert"],
        r"backbone.length=21 is more than the positions .*: give at most 20; longer texts are cut",
        length=21,
    )
    refused(folders["roberta"], "give at most 18", length=19)

    folder = copied()
    (folder / "tokenizer.json").unlink()
    refused(folder, "has no tokenizer.json; .* writes one")
    folder = copied()
    (folder / "config.json").unlink()
    refused(folder, "has no config.json")
    (folder / "config.json").write_text("{")
    refused(folder, "config.json that is no JSON")
    (folder / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoModel": "code.Mine"}}))
    (folder / "code.py").write_text("raise SystemExit('this code must not run')")
    refused(folder, "is no encoder that transformers itself knows: its config.json names the type mine")
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    refused(folder, "has a decoder")
    folder = copied()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "has no weights in the form of safetensors, and others could run code")
    (folder / "model.safetensors").write_bytes(b"no weights")
    refused(folder, "has weights that do not fit its config.json: it describes 4,768 numbers, and the weights are 10 bytes")

    folder = copied()
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | {"model_type": []}))
    refused(folder, r"names the type \[\]")

    for named in ("evil.bin", "../outside.safetensors", "/absolute.safetensors", ""):
        folder = copied()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"embeddings": named}}))
        refused(folder, f"names '{named}'; allowed: files of safetensors beside it")
    folder = copied()
    weights = safetensors_of(folder)
    del weights["encoder.layer.1.output.dense.weight"]
    write_safetensors(weights, folder)
    refused(folder, "do not fit its config.json: encoder.layer.1.output.dense.weight is missing")
    folder = as_sentence_transformers(copied(), {"pooling_mode_max_tokens": True}, ("Transformer", "Pooling"))
    refused(folder, "pools by max_tokens, .*: give backbone.pooling=mean or cls")
    assert built(folder, pooling="mean").features == 16
    folder = as_sentence_transformers(copied(), {"pooling_mode_mean_tokens": True}, ("Transformer", "Pooling", "Dense"))
    refused(folder, "has the module Dense, which backbone=sentence does not know")
    (folder / "modules.json").write_text(json.dumps([{"path": "../elsewhere", "type": "x.Transformer"}]))
    refused(folder, "modules.json that does not list modules")


def safetensors_of(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def write_safetensors(weights: dict[str, Tensor], folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_an_encoder_that_is_not_here_needs_a_connection_or_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        BadInput, match=r"could not be downloaded .*give backbone.weights=FOLDER of an encoder that you have"
    ):
        Sentence((2, 12), "somebody/some-encoder", "hub", "auto", 12, "none")


@pytest.mark.parametrize("package", ["transformers", "tokenizers", "safetensors"])
def test_a_missing_extra_gets_one_message(folders: dict[str, Path], package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(
        BadInput, match=rf"needs the package {package}, which is not installed: pip install 'metashot\[text\]'"
    ):
        built(folders["bert"])
