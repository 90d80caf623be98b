"""CIDEr-D against pycocoevalcap on texts of random words."""

import numpy as np
import pytest

from vljepa_jax.evals.captions import CiderD

pytestmark = pytest.mark.parity
cider = pytest.importorskip("pycocoevalcap.cider.cider")


@pytest.mark.parametrize("seed", range(4))
def test_every_pair_scores_the_same(seed):
    rng = np.random.default_rng(seed)
    vocabulary = [f"w{index}" for index in range((5, 20, 80, 300)[seed])]

    def text(least):
        return " ".join(rng.choice(vocabulary, rng.integers(least, 15)))

    references = [[text(1) for _ in range(rng.integers(1, 6))] for _ in range(60)]
    # Some are a reference, some share its beginning, some are empty or chance.
    candidates = []
    for group in references:
        kind, first = rng.integers(4), group[0].split()
        candidates.append((group[0], " ".join(first[:3]), text(0), text(1))[kind])
    _, expected = cider.Cider().compute_score(
        dict(enumerate(references)), {index: [text] for index, text in enumerate(candidates)}
    )
    score = CiderD([[t.split() for t in group] for group in references])
    found = score([t.split() for t in candidates])
    np.testing.assert_allclose(found, 100 * expected, rtol=1e-6, atol=1e-9)
    assert len(set(np.round(found))) > 10
