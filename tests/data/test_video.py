import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.helpers.sample_media import encode, footage, numbered_frames, numbers, png
from vljepa_jax.config import VideoInput, VJEPA2Config
from vljepa_jax.data.records import ClipError, Medium
from vljepa_jax.data.video import clip_from_frames, load_clip, write_mp4


def config(
    frames=8, size=32, sampling="uniform", crop="centre", crop_scale=(0.5, 1.0), **preprocessing
):
    kind = dataclasses.replace(VJEPA2Config.preprocessing, **preprocessing)
    return VideoInput(frames, size, sampling, crop, crop_scale, kind)


@pytest.mark.parametrize(
    "name",
    ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.vp8.webm", "a.avi", "a.h264.avi", "a.gif"]
    + ["a.animated.webp"],
)
def test_every_format_gives_the_same_frames(tmp_path, name):
    path = encode(tmp_path / name, numbered_frames(24))
    whole = load_clip([Medium(path=str(path))], config(), None)
    assert whole.shape == (8, 32, 32, 3)
    assert whole.dtype == np.uint8
    assert numbers(whole) == [1, 4, 7, 10, 13, 16, 19, 22]
    part = Medium(data=path.read_bytes(), start=0.5, end=1.3)
    assert numbers(load_clip([part], config(frames=4), None)) == [6, 8, 10, 12]
    assert numbers(load_clip([part], config(), None)) == [5, 6, 7, 8, 9, 10, 11, 12]
    early = Medium(path=str(path), start=-0.4, end=0.4)
    assert numbers(load_clip([early], config(), None)) == [0, 0, 0, 0, 0, 1, 2, 3]
    late = Medium(path=str(path), start=2.0, end=2.8)
    assert numbers(load_clip([late], config(), None)) == [20, 21, 22, 23, 23, 23, 23, 23]
    before = Medium(path=str(path), start=-2.0, end=-1.0)
    assert numbers(load_clip([before], config(frames=2), None)) == [0, 0]


def test_variable_frame_rate_is_sampled_in_time(tmp_path):
    stamps = [0.0, 0.1, 0.2, 1.0, 1.1, 2.0]
    for name in ("a.mp4", "a.mkv", "a.webm"):
        path = encode(tmp_path / name, numbered_frames(6), stamps=stamps)
        clip = load_clip([Medium(path=str(path), start=0.0, end=2.0)], config(frames=8), None)
        # moments 0.125, 0.375, ..., 1.875
        assert numbers(clip) == [1, 2, 2, 2, 4, 4, 4, 4]


def test_jitter_stays_in_its_part_of_the_span(tmp_path):
    path = encode(tmp_path / "a.mp4", numbered_frames(24))
    jittered = config(frames=6, sampling="jittered")
    drawn = {
        tuple(numbers(load_clip([Medium(path=str(path))], jittered, np.random.default_rng(seed))))
        for seed in range(8)
    }
    assert len(drawn) > 4
    assert all(4 * i <= index < 4 * i + 4 for clip in drawn for i, index in enumerate(clip))
    assert numbers(load_clip([Medium(path=str(path))], jittered, None)) == [2, 6, 10, 14, 18, 22]


def test_image_fills_its_share_and_pair_is_in_order():
    first, second = np.full((40, 60, 3), 30, np.uint8), np.full((60, 40, 3), 200, np.uint8)
    media = [Medium(data=png(first)), Medium(data=png(second))]
    clip = load_clip(media, config(frames=4), None)
    np.testing.assert_array_equal(clip.mean((1, 2, 3)), [30, 30, 200, 200])
    with pytest.raises(ValueError, match="2 media cannot share data.video.frames = 5"):
        load_clip(media, config(frames=5), None)


def test_a_clip_is_put_into_the_batch_that_it_is_for():
    media = [Medium(data=png(np.full((40, 40, 3), value, np.uint8))) for value in (30, 200)]
    batch = np.zeros((3, 4, 32, 32, 3), np.uint8)
    load_clip(media, config(frames=4), None, batch[1])
    np.testing.assert_array_equal(batch[1].mean((1, 2, 3)), [30, 30, 200, 200])
    assert not batch[[0, 2]].any()


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "webp"])
def test_image_formats(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    Image.new("RGB", (20, 30), (200, 100, 50)).save(path)
    clip = load_clip([Medium(path=str(path))], config(frames=2, size=8), None)
    np.testing.assert_allclose(clip, np.broadcast_to([200, 100, 50], clip.shape), atol=4)


def test_centre_crop_and_antialiased_resize():
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 32:96] = np.indices((64, 64)).sum(0)[..., None] % 2 * 255  # a fine checkerboard
    clip = load_clip([Medium(data=png(image))], config(frames=1, size=16), None)
    # The dark sides are cut off, and the checkerboard becomes grey, not moire.
    assert abs(clip[0, 1:-1, 1:-1].astype(int) - 127).max() < 8


KERNELS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.mark.parametrize("kernel", KERNELS)
def test_frames_are_fitted_as_pillow_does_it(kernel):
    """Bitwise, upright and lying, smaller and larger; files and decoded frames alike."""
    for height, width in ((96, 64), (64, 96), (16, 24)):
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        image, short = Image.fromarray(pixels), min(height, width)
        # The short side to 32 pixels, 3 : 2, then the centre of the 48.
        long = image.resize((width * 32 // short, height * 32 // short), KERNELS[kernel])
        left, top = (long.width - 32) // 2, (long.height - 32) // 2
        expected = {
            "short_side": long.crop((left, top, left + 32, top + 32)),
            "squash": image.resize((32, 32), KERNELS[kernel]),
        }
        for fit, square in expected.items():
            video = config(frames=2, fit=fit, kernel=kernel)
            for clip in (
                load_clip([Medium(data=png(pixels))], video, None),
                clip_from_frames(pixels[None], video),
            ):
                np.testing.assert_array_equal(clip, [np.asarray(square)] * 2)


def test_a_random_crop_of_a_squashed_frame_has_its_aspect_ratio():
    """Of a frame whose red tells the column and whose green tells the row."""
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(200), np.arange(100)[:, None]
    crop = config(1, 50, crop="random", crop_scale=(0.25, 0.25), fit="squash", kernel="bicubic")
    corners = set()
    for seed in range(10):
        clip = load_clip([Medium(data=png(pixels))], crop, np.random.default_rng(seed)).astype(int)
        extent = (clip[0, -2, -2] - clip[0, 1, 1])[:2] / 47 * 50
        np.testing.assert_allclose(extent, [100, 50], atol=2)  # half of either side
        corners.add(tuple(clip[0, 1, 1]))
    assert len(corners) > 5


def test_random_crop_is_one_for_the_clip_and_repeatable():
    image = np.random.default_rng(0).integers(0, 255, (48, 96, 3), np.uint8)
    media, random = [Medium(data=png(image))] * 2, config(frames=4, crop="random")
    clips = [load_clip(media, random, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(clips[0], clips[1])
    assert (clips[0] != clips[2]).any()
    assert (clips[0] == clips[0][:1]).all()
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None], (200, 200, 3)[:2])
    ramp = np.repeat(ramp[..., None], 3, -1)
    for seed in range(20):
        clip = load_clip(
            [Medium(data=png(ramp))],
            config(frames=1, size=50, crop="random", crop_scale=(0.25, 0.36)),
            np.random.default_rng(seed),
        )
        height = (int(clip[0, -1, 0, 0]) - int(clip[0, 0, 0, 0])) / 49 * 50
        assert 0.5 * 200 - 3 < height < 0.6 * 200 + 3


def test_rotation_metadata_is_applied(tmp_path):
    frames = np.zeros((4, 48, 64, 3), np.uint8)
    frames[:, :, :32] = 250  # left half bright
    means = {}
    for rotation in (0, 90, 180):
        path = encode(tmp_path / f"r{rotation}.mp4", frames, rotation=rotation)
        clip = load_clip([Medium(path=str(path))], config(frames=2, size=16), None)[0, ..., 0]
        means[rotation] = (clip[:, :6].mean(), clip[:, -6:].mean(), clip[:6].mean())
    assert means[0][0] > 200 > 50 > means[0][1]
    assert means[180][0] < 50 < 200 < means[180][1]
    assert abs(means[90][0] - means[90][1]) < 20  # now bright above or below, not at a side


def test_real_footage():
    medium = Medium(path=str(footage() / "bigbuckbunny.mp4"), start=2.0, end=4.0)
    clip = load_clip([medium], config(frames=8, size=96), None)
    assert clip.std() > 20
    whole = load_clip([Medium(path=medium.path)], config(frames=132, size=96), None)
    # 25 frames a second: the moments 2.125, 2.375, ... show these frames
    np.testing.assert_array_equal(clip, whole[[53, 59, 65, 71, 78, 84, 90, 96]])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"not a video at all" * 20, "cannot be decoded"),
        (png(numbered_frames(1)[0])[:100], "cannot be decoded"),
        (write_mp4(numbered_frames(8), 8)[:-300], "cannot be decoded"),
    ],
)
def test_damaged_bytes(data, reason):
    with pytest.raises(ClipError, match=f"embedded file of {len(data)} bytes: .*{reason}"):
        load_clip([Medium(data=data)], config(), None)


def test_bad_spans_and_files_are_named(tmp_path):
    path = str(encode(tmp_path / "a.mp4", numbered_frames(10)))
    for start, end, reason in [
        (0.5, 0.5, "ends at 0.5 s, but starts at 0.5 s"),
        (0.5, 0.2, "ends at 0.2 s, but starts at 0.5 s"),
        (3.0, 4.0, "starts at 3.0 s, but is 1.00 s long"),
    ]:
        with pytest.raises(ClipError, match=f"a.mp4: {reason}"):
            load_clip([Medium(path=path, start=start, end=end)], config(), None)
    with pytest.raises(ClipError, match="b.mp4: cannot be opened .No such file"):
        load_clip([Medium(path=str(tmp_path / "b.mp4"))], config(), None)


def test_write_mp4_is_deterministic_and_checks_its_input():
    frames = numbered_frames(6)
    assert write_mp4(frames, 8) == write_mp4(iter(frames), 8)
    assert numbers(load_clip([Medium(data=write_mp4(frames, 8))], config(6), None)) == [*range(6)]
    with pytest.raises(ValueError, match="at least one frame"):
        write_mp4([], 8)
    with pytest.raises(ValueError, match="even height and width, got 47 x 64"):
        write_mp4(frames[:, 1:], 8)


@pytest.mark.parametrize(("side", "first"), [(34, 1), (35, 2), (37, 2), (39, 4), (32, 0)])
def test_resizing_then_cropping_takes_whole_pixels(side, first):
    """Half of an odd number of pixels is rounded to even, as torchvision's CenterCrop does."""
    picture = np.random.default_rng(0).integers(0, 256, (32, side, 3), np.uint8)
    for frame, expected in (
        (picture, picture[:, first : first + 32]),
        (picture.transpose(1, 0, 2), picture[:, first : first + 32].transpose(1, 0, 2)),
    ):
        two_steps = config(1, 32, fit="resize_crop", kernel="bicubic")
        np.testing.assert_array_equal(clip_from_frames(frame[None], two_steps)[0], expected)
