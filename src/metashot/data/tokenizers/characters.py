"""Characters as tokens: their ids are Unicode code points. There is no vocabulary, and every script has ids."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from metashot.data.tokenizers.tokenizer import Encoded, Tokenizer
from metashot.sources.texts.code_points import PADDING, code_points


class Characters(Tokenizer):
    kind: ClassVar[str] = "characters"

    def encode(self, texts: Sequence[str], length: int) -> Encoded:
        points, cut = code_points(texts, length)  # as long as the longest of these texts
        ids = np.full((len(texts), length), PADDING, np.int32)
        ids[:, : points.shape[1]] = points[:, :length]
        return Encoded(ids, cut)

    def origin(self) -> dict[str, Any]:
        return {"kind": self.kind}
