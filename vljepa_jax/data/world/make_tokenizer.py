"""Makes ``assets/tokenizer.json``, the byte-level BPE of the world's language.

Run once by a developer, and again when the language changes; the result is committed::

    python -m vljepa_jax.data.world.make_tokenizer
"""

import string
from collections.abc import Iterator

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from vljepa_jax.data.world import language
from vljepa_jax.data.world.annotate import annotate_clip
from vljepa_jax.data.world.objects import ASSETS, OBJECTS
from vljepa_jax.data.world.phrases import MOTIONS as WORDINGS
from vljepa_jax.data.world.scene import draw_cast, draw_scene

TOKENIZER_PATH = ASSETS / "tokenizer.json"
VOCABULARY = 1024
_SPECIAL = ("[PAD]", "[BOS]", "[EOS]")  # ids 0, 1, 2
_SCENES = 4000
# A little of what people write beside the world's own words.
_COMMON = (
    "What is the action shown? Describe this video in detail. What happens here? Who does it?",
    "The person, the people and their things: one at first, then two, before and after; it's so!",
    "Yes, there are some of them (not many) on top, under, above, below, behind or in front of it.",
    "When will he, she or they have been where we were? You can say how, why, and with which.",
)


def corpus() -> Iterator[str]:
    """Yields the texts of scenes, every phrase of every motion, and a little common English."""
    for seed in range(_SCENES):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, draw_cast(rng, unseen=bool(seed % 2)), frames=2, fps=1)
        for annotation in annotate_clip(scene, "", rng, held_out_phrasing=True):
            yield annotation.query
            yield from annotation.texts
    for wording in WORDINGS.values():
        for phrase in (*wording.seen, *wording.held_out):
            yield from (phrase.verb, phrase.gerund)
    for thing in OBJECTS:
        yield from (thing.name, thing.definite, thing.indefinite)
    yield language.STATE_QUERY
    yield from 20 * _COMMON
    yield string.digits + string.punctuation


def main() -> None:
    tokenizer = Tokenizer(models.BPE())
    # The prefix space gives a word one token at the beginning of a text (a label) and inside.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    bos = (_SPECIAL[1], tokenizer.token_to_id(_SPECIAL[1]))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos[0]} $A", pair=None, special_tokens=[bos]
    )
    tokenizer.save(str(TOKENIZER_PATH))
    print(f"{tokenizer.get_vocab_size()} tokens in {TOKENIZER_PATH.name}")


if __name__ == "__main__":
    main()
