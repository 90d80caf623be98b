"""The Treebank's tokens against Stanford's tokenizer, as pycocoevalcap runs it in Java."""

import shutil

import pytest

from tests.evals.test_official_scorers import TREEBANK
from vljepa_jax.data.world.language import CAPTION_QUERY
from vljepa_jax.evals.captions import tokenise_ptb

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(shutil.which("java") is None, reason="no Java on this machine"),
]
ptbtokenizer = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")


def test_tokens_are_the_same():
    texts = [text for text in (*TREEBANK, CAPTION_QUERY) if text]
    given = {number: [{"caption": text}] for number, text in enumerate(texts)}
    expected = ptbtokenizer.PTBTokenizer().tokenize(given)
    assert [" ".join(tokenise_ptb(text)) for text in texts] == [
        expected[number][0] for number in range(len(texts))
    ]
