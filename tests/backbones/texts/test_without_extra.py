"""The core works where nothing of the extra `text` is installed, and says its name where it is needed."""

import subprocess
import sys

WITHOUT = "import sys; sys.modules |= dict.fromkeys(['tokenizers', 'safetensors', 'transformers', 'wordllama']);"


def said(code: str) -> str:
    found = subprocess.run([sys.executable, "-c", WITHOUT + code], capture_output=True, text=True, check=True)
    return found.stdout


def test_a_backbone_of_characters_needs_none_of_it() -> None:
    code = """
import torch
import metashot
from metashot.backbones.texts.textcnn import TextCNN
made = TextCNN((2, 8), 'characters', 64, 8, 4, [2, 3], 4, 0.0, 1, 'none')
print(made(torch.ones(1, 3, 2, 8, dtype=torch.long), 0).shape[-1])
"""
    assert said(code) == "8\n"


def test_backbones_that_need_it_say_so() -> None:
    code = """
from metashot.backbones.texts.sentence import Sentence
from metashot.backbones.texts.signatures import Signatures
from metashot.backbones.texts.wordvectors import WordVectors
from metashot.bad_input import BadInput
for build in (
    lambda: WordVectors((2, 8), 'wordllama', None, 8, 'mean', 1e-3, 1, None, 'none'),
    lambda: Signatures((2, 8), 'wordllama', None, 8, 1e-3, 1.0, 4, 0.0, 'none'),
    lambda: Sentence((2, 8), 'somebody/encoder', 'hub', 'auto', 8, 'none'),
):
    try:
        build()
    except BadInput as error:
        print("pip install 'metashot[text]'" in str(error), len(str(error).splitlines()))
"""
    assert said(code) == "True 1\n" * 3
