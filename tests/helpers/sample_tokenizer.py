"""A tokenizer of whole words, made for the tests."""

from tokenizers import Tokenizer, models, pre_tokenizers, processors


def write_tokenizer(path, words="a the dog cat moves left right up", pad="[PAD]", bos=True):
    """Writes a tokenizer.json: padding token 0, [UNK] 1, [BOS] 2, [EOS] 3, then the words."""
    tokens = [pad, "[UNK]", "[BOS]", "[EOS]", *words.split()]
    tokenizer = Tokenizer(
        models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", 3)]
        )
    tokenizer.save(str(path))
    return str(path)
