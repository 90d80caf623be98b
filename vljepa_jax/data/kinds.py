"""Which files are videos and images: told by their first bytes, not by their names.

The table of signatures is our own, because those of ``filetype`` (1.2) and ``puremagic`` (1.30)
know neither MPEG transport streams, whose extension .ts is also TypeScript's, nor MXF.
"""

from __future__ import annotations

import os
from typing import Literal

from vljepa_jax.data.media_bytes import read_bytes
from vljepa_jax.data.records import Medium, clip_error

Kind = Literal["image", "video"]

# Enough for a transport stream's packets, and for the chunks before an animated PNG's acTL.
_HEADER_BYTES = 4096


def _extensions(*groups: str) -> frozenset[str]:
    return frozenset(f".{name}" for group in groups for name in group.split())


# Files of a folder with these extensions count without being opened. Not ts, mts, mod, dat and ogg,
# which mean other things too: the first bytes tell.
MEDIA_EXTENSIONS = _extensions(
    # videos
    "3g2 3gp 264 265 amv asf avi divx dv f4v flv gxf h264 h265 hevc ivf lrv m1v m2t m2ts m2v m4v",
    "mj2 mk3d mkv mov mp4 mpe mpeg mpg mxf nut ogm ogv qt rm rmvb tod vob webm wmv wtv y4m",
    # images
    "apng avif bmp dib gif heic heif hif jfif jp2 jpe jpeg jpg png tif tiff webp",
)
# Files of a folder with these are no media, and are not opened to see: a folder of a million clips
# may hold as many of them.
_COMPANION_EXTENSIONS = _extensions(
    # texts, subtitles and tables
    "ass bib cfg conf css csv doc docx eaf htm html ini js json jsonl lock log md m3u m3u8 ndjson",
    "nfo odt pdf rst sbv srt ssa sub tex textgrid toml tsv ttml txt vtt xls xlsx xml yaml yml",
    # programs
    "bat c cpp h ipynb java py pyc rs sh so sql",
    # arrays, records and weights
    "arrow bin ckpt db feather h5 hdf5 idx lmdb mat npy npz parquet pickle pkl pt pth safetensors",
    "sqlite tfrecord",
    # archives and checksums
    "7z bz2 gz md5 rar sha1 sha256 tar tgz torrent xz zip zst",
    # sound
    "aac ac3 aif aiff flac m4a m4b mka mp3 oga opus wav wma",
)

# First bytes of image formats. Pillow's name where they are read, else a name for people.
_READ_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}
REFUSED_IMAGES = {
    b"II*\0": "TIFF, or a camera's raw file",
    b"MM\0*": "TIFF, or a camera's raw file",
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
    b"\0\0\1\0": "ICO",
    b"8BPS": "PSD",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
}
# Sizes of the header that follows a BMP's 14 bytes, one a version (as Pillow knows them).
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_SHARED_BRANDS = {b"mif1", b"msf1"}  # of both; the compatible brands say which
_MOVING_BRANDS = {b"avis", b"hevc", b"hevx", b"hevm", b"hevs", b"msf1"}
_SOUND_BRANDS = {b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B "}
# Boxes with which a QuickTime file without an ftyp box may begin.
_BOXES = {b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"sidx"}
_VIDEO_SIGNATURES = (
    b"\x1aE\xdf\xa3",  # EBML: Matroska, WebM
    b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\x00\xaa\x00b\xcel",  # ASF: WMV
    b"FLV\x01",
    b"\x00\x00\x01\xba",  # MPEG program stream: MPG, VOB
    b"\x00\x00\x01\xb3",  # MPEG-1 and 2 video
    b"\x06\x0e+4\x02\x05\x01\x01\r\x01\x02\x01\x01",  # MXF
    b"\x00\x00\x00\x00\x01\xbc",  # GXF
    b"\x1f\x07\x00",  # DV
    b"\xb7\xd8\x00 7I\xda\x11",  # WTV
    b".RMF",  # RealMedia
    b"DKIF",  # IVF
    b"YUV4MPEG2 ",
    b"nut/multimedia container",
)
# Beginnings of the first packet of Ogg's video codecs: Theora, VP8, Dirac, OGM.
_OGG_VIDEO = (b"\x80theora", b"OVP80", b"BBCD", b"\x01video\x00")
# Lengths of a transport stream's packets: plain, with a time stamp (M2TS), with error correction.
_PACKETS = (188, 192, 204)
_SYNC = ord("G")


def kind_of(medium: Medium) -> Kind:
    """Who reads it, or refuses it by name: "image" is for Pillow (``image_format``), "video" for
    FFmpeg, which has the last word on what is not recognised.

    Raises:
        ClipError: it is missing or empty.
    """
    return recognise(first_bytes(medium)) or "video"


def first_bytes(medium: Medium) -> bytes:
    """The bytes that ``recognise`` and ``is_still`` look at.

    Raises:
        ClipError: the medium is missing or empty.
    """
    header = read_bytes(medium, _HEADER_BYTES)
    if not header:
        raise clip_error(medium, "is empty")
    return header


def looks_like_media(path: str) -> bool:
    """Whether a file that was found in a folder is a video or an image.

    Known extensions count as they are, and those of usual companions (texts, tables, arrays,
    archives, sound) do not; any other file is opened and told by its first bytes. One that cannot
    be opened counts, so that the reader says why.
    """
    extension = os.path.splitext(path)[1].lower()
    if extension in MEDIA_EXTENSIONS:
        return True
    if extension in _COMPANION_EXTENSIONS:
        return False
    try:
        return recognise(_read(path)) is not None
    except OSError:
        return True


def image_format(header: bytes) -> str | None:
    """The name of an image format, read or refused, by a file's first bytes; ``None`` if none."""
    for signatures in (_READ_IMAGES, REFUSED_IMAGES):
        for signature, name in signatures.items():
            if header.startswith(signature):
                return name
    if header[:2] == b"BM" and int.from_bytes(header[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if header[:4] == b"RIFF" and header[8:12] == b"WEBP":
        return "WEBP"
    if header[4:8] == b"ftyp":
        brand, size = header[8:12], int.from_bytes(header[:4], "big")
        others = {header[first : first + 4] for first in range(16, min(size, len(header)), 4)}
        if brand in _AVIF_BRANDS or (brand in _SHARED_BRANDS and others & _AVIF_BRANDS):
            return "AVIF"
        if brand in _HEIC_BRANDS | _SHARED_BRANDS:
            return "HEIC"
    return None


def recognise(header: bytes) -> Kind | None:
    """The kind of a file by its first bytes; ``None`` where they are no known signature."""
    if image_format(header):
        return "image"
    if header[4:8] == b"ftyp":
        return None if header[8:12] in _SOUND_BRANDS else "video"
    if header[:4] == b"RIFF":
        return "video" if header[8:12] in (b"AVI ", b"AMV ") else None
    if header.startswith(_VIDEO_SIGNATURES) or _is_transport_stream(header):
        return "video"
    # The first byte of a size: a text with such a word at its fifth letter has none that is 0.
    if header[4:8] in _BOXES and (header[0] == 0 or header[4:8] == b"mdat"):
        return "video"
    if header[:4] == b"OggS" and any(codec in header for codec in _OGG_VIDEO):
        return "video"
    return None


def is_still(header: bytes) -> bool:
    """Whether an image cannot be animated, so that no span of it makes sense.

    A GIF may be, until it is read.
    """
    if recognise(header) != "image" or header.startswith(b"GIF"):
        return False
    if header.startswith(b"\x89PNG"):  # acTL comes before IDAT
        return b"IDAT" in header and b"acTL" not in header.partition(b"IDAT")[0]
    if header[:4] == b"RIFF":
        return not (header[12:16] == b"VP8X" and int.from_bytes(header[20:21]) & 2)
    return header[8:12] not in _MOVING_BRANDS


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(_HEADER_BYTES)


def _is_transport_stream(header: bytes) -> bool:
    """Whether the sync byte "G" comes at the distance of packets, from some byte to the end."""
    return any(
        first < length and len(syncs := header[first::length]) >= 3 and not syncs.strip(b"G")
        for first, byte in enumerate(header[: max(_PACKETS)])
        if byte == _SYNC
        for length in _PACKETS
    )
