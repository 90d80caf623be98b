"""Label embeddings."""

from collections.abc import Sequence

import numpy as np


def mean_embedding(embeddings: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Embedding of a label with several texts: the mean of theirs, normalised again.

    The rule of prompt ensembles in CLIP and PerceptionModels.

    Args:
        embeddings: [texts, E], L2-normalised.

    Returns:
        [E], L2-normalised.
    """
    mean = np.mean(embeddings, axis=0)
    return mean / np.linalg.norm(mean)
