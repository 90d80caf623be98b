import numpy as np
import pytest
from tokenizers import Tokenizer

from vljepa_jax.data.world import language
from vljepa_jax.data.world.annotate import annotate_clip
from vljepa_jax.data.world.make_tokenizer import TOKENIZER_PATH, VOCABULARY
from vljepa_jax.data.world.objects import OBJECTS
from vljepa_jax.data.world.scene import draw_cast, draw_scene


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(str(TOKENIZER_PATH))


def test_special_tokens(tokenizer):
    assert tokenizer.get_vocab_size() == VOCABULARY == 1024
    assert [tokenizer.token_to_id(name) for name in ("[PAD]", "[BOS]", "[EOS]")] == [0, 1, 2]
    assert tokenizer.encode("").ids == [1]
    assert tokenizer.encode("A dog spins.").ids[0] == 1


def test_every_text_of_the_world_round_trips_in_few_tokens(tokenizer):
    longest = 0
    for seed in range(100_000, 100_150):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, draw_cast(rng, unseen=False), 2, 1)
        for annotation in annotate_clip(scene, "", rng, held_out_phrasing=True):
            for text in (annotation.query, *annotation.texts):
                ids = tokenizer.encode(text).ids
                assert tokenizer.decode(ids) == text
                longest = max(longest, len(ids))
    assert longest <= 48


def test_any_text_round_trips(tokenizer):
    for text in (language.STATE_QUERY, "Ünïcode, 1234 & “quotes” – 日本語?", "xyzzy"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_a_word_is_one_token_in_a_label_and_in_a_sentence(tokenizer):
    for thing in OBJECTS:
        label = tokenizer.encode(thing.name).ids[1:]
        assert len(label) <= len(thing.name.split()) + 1, thing.name
        sentence = tokenizer.encode(f"We can see {thing.indefinite} spinning.").ids
        assert " ".join(map(str, label)) in " ".join(map(str, sentence))
