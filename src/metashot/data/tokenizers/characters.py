"""Characters as tokens: their ids are Unicode code points. There is no vocabulary, and every script has ids."""

from collections.abc import Sequence
from typing import Any, ClassVar

from metashot.data.tokenizers.tokenizer import Encoded, Tokenizer
from metashot.sources.texts.code_points import code_points


class Characters(Tokenizer):
    kind: ClassVar[str] = "characters"

    def encode(self, texts: Sequence[str], length: int) -> Encoded:
        return Encoded(*code_points(texts, length))

    def origin(self) -> dict[str, Any]:
        return {"kind": self.kind}
