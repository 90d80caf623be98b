"""Texts and pixels of CLIP, SigLIP 2 and PE-Core against the references' own preprocessing."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from PIL import Image

from vljepa_jax.config import VideoInput
from vljepa_jax.config.published_towers import PUBLISHED_TOWERS
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.data.video import fit_frame

pytestmark = pytest.mark.parity
pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

STRINGS = json.loads((Path(__file__).parent / "awkward_strings.json").read_text())


@pytest.fixture(scope="module")
def clip_files(tmp_path_factory):
    """CLIP's own vocabulary, which comes with OpenCLIP, as vocab.json and merges.txt."""
    open_clip = pytest.importorskip("open_clip")
    directory = tmp_path_factory.mktemp("clip")
    packed = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(packed.read_bytes()).decode().split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    ids = dict(open_clip.tokenizer.SimpleTokenizer().encoder)
    for old, new in (
        ("<start_of_text>", "<|startoftext|>"),
        ("<end_of_text>", "<|endoftext|>"),
    ):
        ids[new] = ids.pop(old)
    (directory / "vocab.json").write_text(json.dumps(ids))
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return directory


@pytest.mark.parametrize("length", [77, 32])
def test_clip_tokens_are_those_of_transformers(clip_files, length):
    """And from the tokenizer.json that transformers writes, the same."""
    theirs = transformers.CLIPTokenizer.from_pretrained(clip_files)
    expected = theirs(STRINGS, truncation=True, max_length=length)["input_ids"]
    theirs.save_pretrained(clip_files / "saved")
    for path in (clip_files / "vocab.json", clip_files / "saved" / "tokenizer.json"):
        tokenizer = Tokenizer(str(path))
        assert tokenizer.vocab_size == 49_408
        ids, mask = tokenizer.encode(STRINGS, length)
        found = [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)]
        wrong = [s for s, ours, own in zip(STRINGS, found, expected, strict=True) if ours != own]
        assert not wrong


def test_pe_core_tokens_are_those_of_open_clip(clip_files):
    """But where ftfy repairs a text, which nothing here does: what it changes is listed."""
    open_clip = pytest.importorskip("open_clip")
    theirs = open_clip.tokenizer.SimpleTokenizer(context_length=32)(STRINGS).numpy()
    ids, mask = Tokenizer(str(clip_files / "vocab.json")).encode(STRINGS, 32)
    differing = [
        s for s, own, other in zip(STRINGS, ids * mask, theirs, strict=True) if (own != other).any()
    ]
    changed = [s for s in STRINGS if open_clip.tokenizer.basic_clean(s).lower() != _plain(s)]
    assert set(differing) <= set(changed), set(differing) - set(changed)
    assert len(changed) < len(STRINGS) / 2


def _plain(text):
    return text.strip().lower()


def test_siglip2_tokens_are_those_of_transformers(tmp_path):
    """A vocabulary of Gemma's kind, trained here: its own cannot be had without its terms."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{b:02X}>" for b in range(256))]
    trained = tokenizers.Tokenizer(
        tokenizers.models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    )
    trained.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "merged_with_previous")
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, show_progress=False
    )
    trained.train_from_iterator([s.lower() for s in STRINGS[2:12]] * 3, trainer)
    model = json.loads(trained.to_str())["model"]
    theirs = transformers.Siglip2Tokenizer(
        vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]]
    )
    backend = theirs.backend_tokenizer
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", model["vocab"]["<eos>"])]
    )
    # The published file has no lower-casing, which Siglip2Tokenizer adds, as the embedder does.
    published = json.loads(backend.to_str())
    published["normalizer"] = published["normalizer"]["normalizers"][-1]
    (tmp_path / "tokenizer.json").write_text(json.dumps(published))
    expected = theirs(STRINGS, padding="max_length", padding_side="right", max_length=64)
    tokenizer = Tokenizer(str(tmp_path / "tokenizer.json"))
    assert tokenizer.pad_id == 0
    lowered = [text.lower() for text in STRINGS]
    ids, _ = tokenizer.encode(lowered, 64)
    wrong = [
        s
        for s, ours, own in zip(STRINGS, ids, expected["input_ids"], strict=True)
        if ours.tolist() != own[:64] and len(own) <= 64
    ]
    assert not wrong


# ---------------------------------------------------------------------------------------------
# Pixels
# ---------------------------------------------------------------------------------------------
def photographs():
    datasets = pytest.importorskip("sklearn.datasets")
    china, flower = (datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg"))
    return {
        "china": china,
        "flower upright": flower.transpose(1, 0, 2),
        "odd": china[:301, :404],
        "small": flower[:90, :61],
    }


def ours(name, image):
    config = PUBLISHED_TOWERS[name].image
    video = VideoInput(1, config.image_size, "uniform", "centre", (1.0, 1.0), config.preprocessing)
    return fit_frame(Image.fromarray(image), video)


@pytest.mark.parametrize("which", ["china", "flower upright", "odd", "small"])
@pytest.mark.parametrize(
    ("name", "mode", "kernel"),
    [
        ("openai/clip-vit-base-patch32", "shortest", "bicubic"),
        ("openai/clip-vit-large-patch14-336", "shortest", "bicubic"),
        ("timm/PE-Core-B-16", "squash", "bilinear"),
        ("timm/PE-Core-L-14-336", "squash", "bilinear"),
        ("google/siglip2-base-patch16-256", "squash", "bilinear"),
    ],
)
def test_pixels_are_those_of_open_clip(name, mode, kernel, which):
    """Every one: OpenCLIP resizes with Pillow, by torchvision's sizes."""
    pytest.importorskip("open_clip")
    from open_clip.transform import PreprocessCfg, image_transform_v2

    image = photographs()[which]
    config = PUBLISHED_TOWERS[name].image
    own = config.preprocessing
    cfg = PreprocessCfg(
        size=config.image_size,
        mean=own.mean,
        std=own.std,
        interpolation=kernel,
        resize_mode=mode,
    )
    theirs = image_transform_v2(cfg, is_train=False)(Image.fromarray(image))
    theirs = theirs.permute(1, 2, 0).numpy()
    found = (ours(name, image) / np.float32(255) - np.float32(own.mean)) / np.float32(own.std)
    np.testing.assert_allclose(found, theirs, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "processor", "settings"),
    [
        (
            "google/siglip2-base-patch16-256",
            "SiglipImageProcessor",
            {"size": {"height": 256, "width": 256}, "resample": 2},
        ),
        ("openai/clip-vit-base-patch32", "CLIPImageProcessor", {}),
    ],
)
def test_how_far_transformers_is_away(name, processor, settings):
    """Its processors resize tensors with torchvision, not pictures with Pillow: docs/models.md."""
    pytest.importorskip("torchvision")
    image = photographs()["china"]
    made = getattr(transformers, processor)(do_normalize=False, **settings)

    def away(picture):
        theirs = made(images=Image.fromarray(picture), return_tensors="np")["pixel_values"][0]
        return np.abs(theirs.transpose(1, 2, 0) * 255 - np.float32(ours(name, picture)))

    difference = away(image[:, :600])
    print(f"{name}: mean {difference.mean():.3f}, largest {difference.max():.1f} of 255")
    assert difference.mean() < 0.01
    assert difference.max() < 1.01
    # Of half an odd number of pixels it crops one less than OpenAI's code, which rounds to even.
    odd = away(image)
    print(f"{name}: mean {odd.mean():.1f} where an odd number of pixels is cropped")
    assert (odd.mean() > 1) == ("clip" in name)
