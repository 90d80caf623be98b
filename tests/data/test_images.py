import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests.helpers.sample_media import png
from vljepa_jax.data import images, media_errors
from vljepa_jax.data.images import animation_end, image_format, read_images, to_rgb
from vljepa_jax.data.records import ClipError, Medium
from vljepa_jax.data.video import play_time, read_frames

WHITE, RED, GREEN = [255, 255, 255], [255, 0, 0], [0, 255, 0]
BLUE, BLACK = [0, 0, 255], [0, 0, 0]


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def read(data, seconds=(0.0,)):
    """The frames that are shown at some seconds."""
    frames = read_images(Medium(data=data), lambda end: list(seconds), np.asarray)
    return np.stack(frames)


def over_white(rgba):
    colour, alpha = rgba[..., :3].astype(float), rgba[..., 3:] / 255
    return np.round(colour * alpha + 255 * (1 - alpha))


def random_rgba(height=12, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)


# ---------------------------------------------------------------------------------------------
# Pixels
# ---------------------------------------------------------------------------------------------
def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def handmade_png(width, depth, colours, row, chunks=b""):
    """A PNG of one row, of ``depth`` bits and a colour type that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, 1, depth, colours, 0, 0, 0)
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0" + row))
    signature = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    return signature + chunks + pixels + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("form", "options"), [("png", {}), ("webp", {"lossless": True, "exact": True})]
)
def test_alpha_lies_over_white_by_path_bytes_and_pil_alike(tmp_path, form, options):
    rgba = random_rgba()
    path = tmp_path / f"a.{form}"
    Image.fromarray(rgba).save(path, form, **options)
    expected = over_white(rgba)
    np.testing.assert_array_equal(read(path.read_bytes())[0], expected)
    by_path = read_frames(Medium(path=str(path)), [0.5], np.asarray)
    np.testing.assert_array_equal(by_path[0], expected)
    np.testing.assert_array_equal(to_rgb(Image.open(path)), expected)
    np.testing.assert_array_equal(to_rgb(Image.fromarray(rgba)), expected)


def paletted(transparency, mode="P"):
    image = Image.new("P", (4, 1))
    image.putpalette(RED + GREEN + BLUE + BLACK)
    image.putdata([0, 1, 2, 3])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image.convert(mode)


def filled(mode, *pixels):
    image = Image.new(mode, (len(pixels), 1))
    image.putdata(pixels)
    return image


def keyed(image, key):
    image.info["transparency"] = key
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (filled("1", 0, 255), [BLACK, WHITE]),
        (keyed(filled("1", 0, 255), 0), [WHITE, WHITE]),
        (filled("L", 0, 77), [BLACK, [77] * 3]),
        (keyed(filled("L", 0, 77), 77), [BLACK, WHITE]),
        (filled("LA", (100, 255), (100, 51), (100, 0)), [[100] * 3, [224] * 3, WHITE]),
        (filled("La", (100, 255), (20, 51)), [[100] * 3, [224] * 3]),
        (paletted(None), [RED, GREEN, BLUE, BLACK]),
        (paletted(2), [RED, GREEN, WHITE, BLACK]),
        (paletted(b"\xff\x00\x33"), [RED, WHITE, [204, 204, 255], BLACK]),
        (paletted(1, "PA"), [RED, WHITE, BLUE, BLACK]),
        (keyed(filled("RGB", (1, 2, 3), (3, 2, 1)), (1, 2, 3)), [WHITE, [3, 2, 1]]),
        (filled("RGBX", (1, 2, 3, 0)), [[1, 2, 3]]),
        (filled("RGBa", (20, 0, 51, 51)), [[224, 204, 255]]),
        (filled("CMYK", (0, 0, 0, 0), (255, 0, 0, 0)), [WHITE, [0, 255, 255]]),
        (filled("YCbCr", (255, 128, 128), (0, 128, 128)), [WHITE, BLACK]),
        (filled("HSV", (0, 255, 255), (0, 0, 0)), [RED, BLACK]),
        (filled("LAB", (255, 128, 128), (0, 128, 128)), [WHITE, BLACK]),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_every_mode(image, expected):
    before = image.copy()
    result = to_rgb(image)
    assert result.mode == "RGB"
    # LAB is turned by LittleCMS, to a level.
    np.testing.assert_allclose(np.asarray(result)[0], expected, atol=image.mode == "LAB")
    assert image.mode == before.mode
    assert image.tobytes() == before.tobytes()  # the caller's is left as it was


def test_palettes_and_transparent_colours_of_files():
    for transparency in (2, b"\xff\x00\x33"):
        image = paletted(transparency)
        data = encoded(image, "png", transparency=transparency)
        np.testing.assert_array_equal(read(data)[0], to_rgb(image))
    # Greys of 4 bits, of which 2 is transparent: 1 and 2 of 15 parts of 255.
    four_bits = handmade_png(2, 4, 0, b"\x12", png_chunk(b"tRNS", b"\0\x02"))
    np.testing.assert_array_equal(read(four_bits)[0, 0], [[17] * 3, WHITE])
    key = struct.pack(">3H", 256, 512, 768)
    deep = handmade_png(2, 16, 2, key + struct.pack(">3H", 0, 0, 0), png_chunk(b"tRNS", key))
    np.testing.assert_array_equal(read(deep)[0, 0], [WHITE, BLACK])


def test_cmyk_jpeg_of_adobe():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    np.testing.assert_allclose(read(encoded(image, "jpeg", quality=100))[0], image.convert("RGB"))
    assert read(encoded(image, "jpeg", quality=100))[0, 0, 0].tolist() == RED


DEEP = np.array([[0, 255, 256, 32767, 65535]], np.uint16)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(DEEP),
        Image.frombytes("I;16B", (5, 1), DEEP.astype(">u2").tobytes()),
        Image.fromarray(DEEP.astype(np.int32)),
    ],
    ids=lambda image: image.mode,
)
def test_16_bits_lose_the_lower_8_by_pil_and_path(image):
    expected = np.repeat(np.array([[0, 0, 1, 127, 255]])[..., None], 3, -1)
    np.testing.assert_array_equal(to_rgb(image), expected)
    if image.mode == "I;16":
        np.testing.assert_array_equal(read(encoded(image, "png"))[0], expected)
    grey = DEEP.astype(">u2")
    for colours, samples in ((0, grey[0]), (2, np.repeat(grey[0], 3))):
        data = handmade_png(5, 16, colours, samples.tobytes())
        np.testing.assert_array_equal(read(data)[0], expected)
        np.testing.assert_array_equal(to_rgb(Image.open(io.BytesIO(data))), expected)
    data = handmade_png(5, 16, 0, grey.tobytes(), png_chunk(b"tRNS", struct.pack(">H", 256)))
    assert read(data)[0, 0, :, 0].tolist() == [0, 0, 255, 127, 255]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.float32([[0.5]]), "mode F does not say which value is white: scale it"),
        (np.int32([[0, 70000]]), "mode I with values from 0 to 70000 .* scale it to 16 bits"),
        (np.int32([[-1, 7]]), "mode I with values from -1 to 7"),
    ],
)
def test_values_without_a_scale_are_refused(values, reason):
    with pytest.raises(ClipError, match=reason):
        to_rgb(Image.fromarray(values))


# ---------------------------------------------------------------------------------------------
# EXIF
# ---------------------------------------------------------------------------------------------
# Where the stored cells a b c / d e f stand once shown, by the orientation's number.
SHOWN = {
    1: ["abc", "def"],
    2: ["cba", "fed"],
    3: ["fed", "cba"],
    4: ["def", "abc"],
    5: ["ad", "be", "cf"],
    6: ["da", "eb", "fc"],
    7: ["fc", "eb", "da"],
    8: ["cf", "be", "ad"],
}
GREYS = dict(zip("abcdef", (0, 50, 100, 150, 200, 250), strict=True))


def cells(rows):
    grid = np.array([[GREYS[cell] for cell in row] for row in rows], np.uint8)
    return np.repeat(np.kron(grid, np.ones((16, 16), np.uint8))[..., None], 3, -1)


def orientation_tag(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "avif"])
@pytest.mark.parametrize("number", SHOWN)
def test_exif_turns_stills_and_animations(tmp_path, form, number):
    stored, shown = cells(SHOWN[1]), cells(SHOWN[number])
    path = tmp_path / "a"
    Image.fromarray(stored).save(path, form, quality=95, exif=orientation_tag(number))
    frames = [
        read(path.read_bytes())[0],
        read_frames(Medium(path=str(path)), [0.5], np.asarray)[0],
        to_rgb(Image.open(path)),
    ]
    if form in ("png", "webp"):  # Pillow crashes when it writes a turned AVIF sequence
        options = {"save_all": True, "quality": 95, "exif": orientation_tag(number).tobytes()}
        others = [Image.fromarray(255 - stored)]
        data = encoded(Image.fromarray(stored), form, append_images=others, duration=100, **options)
        first, second = read(data, [0.05, 0.15])
        frames += [first, 255 - second]
    for frame in frames:
        assert np.shape(frame) == shown.shape
        np.testing.assert_allclose(frame, shown, atol=8)


@pytest.mark.parametrize("form", ["jpeg", "png", "webp"])
def test_what_is_no_exif_turns_nothing(form):
    stored = cells(SHOWN[1])
    data = encoded(Image.fromarray(stored), form, quality=95, exif=b"Exif\0\0nothing")
    np.testing.assert_allclose(read(data)[0], stored, atol=8)


# ---------------------------------------------------------------------------------------------
# Animations
# ---------------------------------------------------------------------------------------------
PALETTE = {"r": (*RED, 255), "g": (*GREEN, 255), "b": (*BLUE, 255), ".": (0, 0, 0, 0)}


def rgba(rows):
    """Letters as pixels; pixels as they are."""
    if isinstance(rows, np.ndarray):
        return rows
    return np.array([[PALETTE[cell] for cell in row] for row in rows], np.uint8)


def gif(size, frames):
    """Writes frames of (corner, rows, hundredths of a second, disposal, replace)."""
    width, height = size
    data = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x81, 0, 0)
    data += bytes(RED + GREEN + BLUE + BLACK)
    for (left, top), rows, hundredths, disposal, _ in frames:
        cells = "".join(rows)
        code = {"keep": 1, "clear": 2, "restore": 3}[disposal]
        flags = code << 2 | ("." in cells)
        data += b"!\xf9\4" + struct.pack("<BHBB", flags, hundredths, 3, 0)
        data += b"," + struct.pack("<HHHHB", left, top, len(rows[0]), len(rows), 0)
        # LZW whose table is cleared before it grows: codes of 3 bits, 4 clears, 5 ends.
        codes = [code for cell in cells for code in (4, "rgb.".index(cell))] + [5]
        bits = sum(code << 3 * index for index, code in enumerate(codes))
        block = bits.to_bytes(-(-3 * len(codes) // 8), "little")
        data += b"\2" + bytes([len(block)]) + block + b"\0"
    return data + b";"


def riff(name, data):
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1)


def webp(size, frames):
    uint24 = lambda number: struct.pack("<I", number)[:3]  # noqa: E731
    width, height = size
    data = riff(b"VP8X", b"\x12\0\0\0" + uint24(width - 1) + uint24(height - 1))
    data += riff(b"ANIM", b"\xff" * 4 + b"\0\0")
    for (left, top), rows, hundredths, disposal, replace in frames:
        still = encoded(Image.fromarray(rgba(rows)), "webp", lossless=True, exact=True)[12:]
        box = (left // 2, top // 2, len(rows[0]) - 1, len(rows) - 1, 10 * hundredths)
        flags = replace << 1 | (disposal == "clear")
        data += riff(b"ANMF", b"".join(map(uint24, box)) + bytes([flags]) + still)
    return riff(b"RIFF", b"WEBP" + data)


def apng(size, frames, default=False):
    count = len(frames)
    chunks = [(b"IHDR", struct.pack(">II5B", *size, 8, 6, 0, 0, 0))]
    chunks += [(b"acTL", struct.pack(">II", count, 0))]
    sequence = 0
    if default:
        rows = np.zeros((size[1], size[0], 4), np.uint8)
        chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))]
    for index, (corner, rows, hundredths, disposal, replace) in enumerate(frames):
        code = {"keep": 0, "clear": 1, "restore": 2}[disposal]
        box = (len(rows[0]), len(rows), *corner, hundredths, 100, code, not replace)
        chunks += [(b"fcTL", struct.pack(">5I2H2B", sequence, *box))]
        pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rgba(rows)))
        if index or default:
            sequence += 1
            pixels = struct.pack(">I", sequence) + pixels
        chunks += [(b"fdAT" if index or default else b"IDAT", pixels)]
        sequence += 1
    data = b"".join(png_chunk(name, chunk) for name, chunk in [*chunks, (b"IEND", b"")])
    return b"\x89PNG\r\n\x1a\n" + data


def story(disposal, replace):
    return [
        ((0, 0), ["rr", "rr"], 20, "keep", False),  # less than the canvas
        ((2, 0), ["g.", "g."], 20, "clear", False),
        ((0, 0), [".b", ".b"], 20, disposal, replace),
        ((2, 0), ["gg", "gg"], 20, "keep", False),
        ((0, 0), ["bbbb", "bbbb"], 20, "clear", False),
        ((2, 0), ["r.", "rr"], 20, "keep", False),
    ]


@pytest.mark.parametrize(
    ("write", "disposal", "replace"),
    [
        (gif, "keep", False),
        (gif, "restore", False),
        (gif, "clear", False),
        (webp, "keep", False),
        (webp, "clear", False),
        (webp, "keep", True),
        (apng, "keep", False),
        (apng, "restore", False),
        (apng, "restore", True),
        (apng, "clear", True),
    ],
)
def test_frames_are_drawn_as_the_container_says(write, disposal, replace):
    data = write((4, 2), story(disposal, replace))
    third = ".b.." if replace else "rb.."
    left = {"keep": third[:2], "restore": "rr", "clear": ".."}[disposal]
    expected = ["rr..", "rrg.", third, f"{left}gg", "bbbb", "..r."]
    expected = [over_white(rgba([row, row])) for row in expected]
    expected[-1][1, 3] = RED
    moments = [0.1, 0.3, 0.5, 0.7, 0.9, 1.1]
    np.testing.assert_array_equal(read(data, moments), expected)
    for moment, frame in zip(moments, expected, strict=True):  # and each by itself
        np.testing.assert_array_equal(read(data, [moment])[0], frame)
    np.testing.assert_array_equal(read(data, [0.3, 0.3, 1.1]), [expected[i] for i in (1, 1, 5)])


@pytest.mark.parametrize("write", [gif, webp, apng])
def test_delays_are_as_in_browsers(write):
    frames = [
        ((0, 0), [cell * 4] * 2, delay, "keep", False)
        for cell, delay in zip("rgbr", (0, 1, 2, 50), strict=True)
    ]
    data = write((4, 2), frames)
    # 0 and 10 ms are shown for 100 ms, 20 ms and more as they say.
    assert animation_end(Medium(data=data)) == pytest.approx(0.1 + 0.1 + 0.02 + 0.5)
    shown = read(data, [0.0, 0.099, 0.101, 0.199, 0.201, 0.219, 0.221, 9.0])[:, 0, 0]
    np.testing.assert_array_equal(shown, [RED, RED, GREEN, GREEN, BLUE, BLUE, RED, RED])
    assert play_time(Medium(data=data, start=0.2)) == (0.2, pytest.approx(0.72))
    with pytest.raises(ClipError, match="starts at 1.0 s, but is 0.72 s long"):
        read_frames(Medium(data=data, start=1.0), [0.5], np.asarray)


def test_the_default_image_of_an_apng_is_no_frame():
    data = apng((4, 2), story("keep", False), default=True)
    assert animation_end(Medium(data=data)) == pytest.approx(1.2)
    np.testing.assert_array_equal(read(data)[0, 0], [RED, RED, WHITE, WHITE])
    alone = apng((4, 2), story("keep", False)[:1], default=True)
    assert animation_end(Medium(data=alone)) is None
    np.testing.assert_array_equal(read(alone)[0, 0], [RED, RED, WHITE, WHITE])


def test_a_gif_that_outgrows_its_screen():
    data = gif(
        (2, 2), [((0, 0), ["rrg"] * 2, 20, "keep", False), ((2, 0), ["bb"] * 2, 20, "keep", False)]
    )
    frames = read(data, [0.1, 0.3])  # the first frame widens it, the second is cut
    np.testing.assert_array_equal(frames[:, 0], [[RED, RED, GREEN], [RED, RED, BLUE]])


@pytest.mark.parametrize(
    ("form", "options", "tolerance"),
    [
        ("gif", {}, 0),
        ("png", {}, 2),
        ("webp", {"lossless": True, "exact": True}, 2),
        ("webp", {"quality": 90, "kmin": 3, "kmax": 5}, 2),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_animations_as_pillow_plays_them(form, options, tolerance, mode):
    """Pillow decodes every frame in order; ours, only those that the wanted one needs.

    Pillow blends layers in 8 bits before the background, ours over it: off by a level or two.
    """
    rng = np.random.default_rng(5)
    frames = [random_rgba(24, 32, seed=7)]
    for _ in range(19):  # a few pixels change, so that the writer stores parts of frames
        frames.append(frames[-1].copy())
        top, left = rng.integers(0, 16, 2)
        frames[-1][top : top + 8, left : left + 12] = random_rgba(8, 12, seed=rng.integers(99))
    if form == "gif":
        frames = [
            np.dstack([frame[..., :3], (frame[..., 3:] > 99) * 255]).astype(np.uint8)
            for frame in frames
        ]
    pictures = [Image.fromarray(frame).convert(mode) for frame in frames]
    data = encoded(
        pictures[0], form, save_all=True, append_images=pictures[1:], duration=100, **options
    )
    with Image.open(io.BytesIO(data)) as image:
        played = [
            over_white(np.asarray(shown.convert("RGBA"))) for shown in ImageSequence.Iterator(image)
        ]
    moments = (np.arange(20) + 0.5) / 10
    np.testing.assert_allclose(read(data, moments), played, atol=tolerance)
    for wanted in ([13], [2, 3, 17], [0, 19]):
        np.testing.assert_array_equal(read(data, moments[wanted]), read(data, moments)[wanted])


@pytest.mark.parametrize("write", [webp, apng])
def test_layers_of_any_alpha(write):
    """A frame that lies over the canvas, and one that replaces it, by float arithmetic."""
    below, above, instead = (random_rgba(6, 8, seed=seed) for seed in range(3))
    frames = [(below, False), (above, False), (instead, True)]
    data = write((8, 6), [((0, 0), pixels, 20, "keep", over) for pixels, over in frames])
    alpha = above[..., 3:] / 255
    blended = over_white(below) * (1 - alpha) + above[..., :3] * alpha
    expected = [over_white(below), blended, over_white(instead)]
    np.testing.assert_allclose(read(data, [0.1, 0.3, 0.5]), expected, atol=1)


@pytest.mark.parametrize("write", [gif, webp, apng])
def test_only_what_is_needed_is_decoded(monkeypatch, write):
    whole = [((0, 0), [cell * 4] * 2, 10, "keep", True) for cell in "rgb" * 8]
    data = write((4, 2), whole)
    opened, still = [], images._still
    monkeypatch.setattr(images, "_still", lambda *given: opened.append(1) or still(*given))
    assert animation_end(Medium(data=data)) == pytest.approx(2.4)
    assert not opened
    shown = read(data, [0.35, 1.25, 1.26, 2.15])[:, 0, 0]
    np.testing.assert_array_equal(shown, [RED, RED, RED, RED])
    assert len(opened) == 3


def test_avif():
    frames = [np.full((16, 24, 4), value, np.uint8) for value in (40, 120, 250)]
    for frame in frames:
        frame[..., 3] = 255
    frames[1][..., 3] = 51
    pictures = list(map(Image.fromarray, frames))
    still = encoded(pictures[1], "avif", quality=95)
    np.testing.assert_allclose(read(still)[0], over_white(frames[1]), atol=3)
    assert animation_end(Medium(data=still)) is None
    sequence = encoded(
        pictures[0], "avif", save_all=True, append_images=pictures[1:], duration=[200, 10, 300]
    )
    assert animation_end(Medium(data=sequence)) == pytest.approx(0.6)
    shown = read(sequence, [0.1, 0.25, 0.35])
    np.testing.assert_allclose(shown, [over_white(frame) for frame in frames], atol=4)


def test_avif_is_refused_where_pillow_lacks_it(monkeypatch):
    data = encoded(Image.new("RGB", (8, 8)), "avif")
    monkeypatch.setattr(images.features, "get_supported_modules", lambda: ["webp"])
    with pytest.raises(ClipError, match="is AVIF, which this build of Pillow does not read"):
        read(data)


# ---------------------------------------------------------------------------------------------
# Several pictures, and what is refused
# ---------------------------------------------------------------------------------------------
def test_a_phones_second_picture_is_not_played():
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    data = encoded(first, "mpo", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert play_time(Medium(data=data)) is None
    np.testing.assert_allclose(read(data, [0.0, 0.5, 0.9])[:, 8, 8], [RED] * 3, atol=3)


@pytest.mark.parametrize("form", ["tiff", "ico", "jpeg2000"])
def test_other_formats_are_refused_by_name(tmp_path, form):
    name = {"tiff": "TIFF", "ico": "ICO", "jpeg2000": "JPEG 2000"}[form]
    data = encoded(Image.new("RGB", (16, 16)), form)
    with pytest.raises(ClipError, match=f"is {name}.*, which is not read: convert it to PNG"):
        read_frames(Medium(data=data), [0.5], np.asarray)


def test_formats_by_their_first_bytes():
    def brands(*names):
        return struct.pack(">I", 8 + 4 * len(names)) + b"ftyp" + b"".join(names)

    assert image_format(brands(b"mif1", b"\0\0\0\0", b"mif1", b"avif")) == "AVIF"
    assert image_format(brands(b"mif1", b"\0\0\0\0", b"mif1", b"heic")) == "HEIC"
    assert image_format(brands(b"heic", b"\0\0\0\0", b"mif1")) == "HEIC"
    assert image_format(brands(b"isom", b"\0\0\0\0", b"mp42")) is None
    assert image_format(b"8BPS\0\1") == "PSD"
    assert image_format(b"RIFF\0\0\0\0AVI LIST") is None


def test_heic_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    with pytest.raises(ClipError, match=r"is HEIC: pip install 'vljepa_jax\[heic\]'"):
        read_frames(Medium(data=data), [0.5], np.asarray)


def heic(pictures, **options):
    pillow_heif = pytest.importorskip("pillow_heif")
    file = pillow_heif.HeifFile()
    for picture in pictures:
        file.add_from_pillow(picture)
    buffer = io.BytesIO()
    file.save(buffer, quality=95, **options)
    return buffer.getvalue()


def test_heic_is_its_primary_image_whole_and_upright(monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    stored = np.repeat(np.repeat(cells(SHOWN[1]), 16, 0), 16, 1)  # 512 x 768
    others = [Image.new("RGB", (64, 64), "red"), Image.fromarray(stored)]
    np.testing.assert_allclose(read(heic(others, primary_index=1))[0], stored, atol=8)
    monkeypatch.setattr(pillow_heif.options, "GRID_TILE_SIZE", 256)  # a phone's are 512
    tiles = heic(others[1:])
    assert b"grid" in tiles
    np.testing.assert_allclose(read(tiles)[0], stored, atol=8)
    assert play_time(Medium(data=tiles)) is None
    for number, rows in SHOWN.items():
        picture = Image.fromarray(cells(SHOWN[1]))
        turned = encoded(picture, "heif", quality=95, exif=orientation_tag(number).tobytes())
        assert b"irot" in turned or b"imir" in turned or number == 1
        np.testing.assert_allclose(read(turned)[0], cells(rows), atol=8)


@pytest.mark.parametrize(
    "data",
    [
        png(np.zeros((20, 30, 3), np.uint8)),
        gif((30, 20), story("keep", False)),
        encoded(Image.new("RGB", (30, 20)), "avif"),
    ],
    ids=["png", "gif", "avif"],
)
def test_images_too_large_are_refused(monkeypatch, data):
    monkeypatch.setattr(media_errors, "MAX_PIXELS", 599)
    with pytest.raises(ClipError, match="has more than 599 pixels, the most that are read"):
        read(data)
    monkeypatch.undo()
    read(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)  # Pillow's own limit
    with pytest.raises(ClipError, match="has more than 89,478,485 pixels"):
        read(data)


@pytest.mark.parametrize(
    "form", ["png", "jpeg", "gif", "bmp", "webp", "avif", "apng", "animated webp"]
)
def test_damage_is_a_clip_error_or_nothing(form):
    pictures = [
        Image.fromarray(frame[..., :3]) for frame in map(random_rgba, [16] * 3, [16] * 3, range(3))
    ]
    animated = {"apng": "png", "animated webp": "webp", "gif": "gif"}
    options = {"save_all": True, "append_images": pictures[1:]} if form in animated else {}
    data = encoded(pictures[0], animated.get(form, form), **options)
    rng, refused = np.random.default_rng(1), 0
    for _ in range(60):
        damaged = bytearray(data[: rng.integers(20, len(data) + 1)])
        for place in rng.integers(12, len(damaged), rng.integers(4)):
            damaged[place] = rng.integers(256)
        try:
            read(bytes(damaged), [0.0, 0.15])
        except ClipError:  # any other error fails the test
            refused += 1
    assert refused > 10
