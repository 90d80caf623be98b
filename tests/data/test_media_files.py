import glob
import os

import pytest

from vljepa_jax.data.media_files import each_once, media_files, why_nothing

MP4 = b"\0\0\0\x18ftypisom\0\0\2\0isomavc1"  # of a file that is not decoded here


@pytest.fixture
def folder(tmp_path):
    """a.mp4, deep/b.mp4, deep/deeper/c.mp4"""
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    for name in ("a.mp4", "deep/b.mp4", "deep/deeper/c.mp4"):
        (tmp_path / name).write_bytes(MP4)
    return tmp_path


ALL = ["a.mp4", "deep/b.mp4", "deep/deeper/c.mp4"]


def found(folder, source, faults=()):
    """Paths below the folder that ``source``, below it too, names."""
    told = []
    paths = each_once(media_files(os.path.join(folder, source), told))
    assert told == [f"{folder}/{fault}" for fault in faults]
    return sorted(os.path.relpath(path, folder) for path in paths)


def test_a_folder_s_media_are_told_by_content(folder):
    (folder / "B.MP4").write_bytes(b"reading it says what is wrong")
    (folder / "noextension").write_bytes(MP4)
    (folder / "deep" / "clip.xyz").write_bytes(MP4)
    (folder / "notes").write_bytes(b"mine")
    (folder / "subtitles.srt").write_bytes(MP4)
    (folder / "._a.mp4").write_bytes(MP4)
    (folder / ".trash").mkdir()
    (folder / ".trash" / "gone.mp4").write_bytes(MP4)
    os.mkfifo(folder / "pipe.mp4")
    os.mkfifo(folder / "pipe")
    (folder / "link to pipe").symlink_to("pipe")
    assert found(folder, "") == ["B.MP4", *ALL[:2], "deep/clip.xyz", ALL[2], "noextension"]
    # What is named is taken as it is.
    assert found(folder, "subtitles.srt") == ["subtitles.srt"]
    assert found(folder, "n*") == ["noextension", "notes"]
    assert found(folder, ".trash") == [".trash/gone.mp4"]


NAMES = [b"[cam 1]", b"a*b?", b"caf\xe9", b"new\nline", b"-dash", b"%03d", b"a:b", b"http:", b" "]


@pytest.mark.parametrize("name", [os.fsdecode(name) for name in NAMES])
def test_a_path_that_is_there_is_taken_literally(folder, name):
    (folder / name).mkdir()
    (folder / name / f"{name}.mp4").write_bytes(MP4)
    path = f"{name}/{name}.mp4"
    assert found(folder, name) == found(folder, path) == [path]
    assert path in found(folder, "**/*.mp4")
    assert found(folder, f"{glob.escape(name)}/*.mp4") == [path]
    (folder / "c").mkdir()  # which "[cam 1]" stands for as a pattern
    assert found(folder, name) == [path]


@pytest.mark.parametrize("where", ["", "d*/", "[d]eep/", "deep/deeper/../"])
@pytest.mark.parametrize("pattern", ["*", "**", "**/*.mp4", "**/", "**/d*/*", "**/d*/**/c*", "***"])
def test_patterns_match_as_python_s_glob(folder, where, pattern):
    """But for ".." in the way of "**", where no file comes twice."""
    paths = glob.glob(f"{folder}/{where}{pattern}", recursive=True)
    expected = {os.path.relpath(path, folder) for path in paths if os.path.isfile(path)}
    if pattern == "**/":  # glob gives folders alone; here "below it" is what is meant
        expected = set(found(folder, f"{where}**"))
    assert found(folder, where + pattern) == sorted(expected)


def test_relative_patterns(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for source in ("**/*.mp4", "./**/*.mp4", ".", "**"):
        assert sorted(media_files(source, [])) == [f"{folder}/{name}" for name in ALL]


def test_linked_folders_are_followed_once(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "d.mp4").write_bytes(MP4)
    (folder / "aa").symlink_to("deep")  # sorts before the real one
    (folder / "deep" / "circle").symlink_to("..")
    (folder / "deep" / "deeper" / "circle").symlink_to(folder)
    (folder / "linked").symlink_to(elsewhere)
    (folder / "linked too").symlink_to(elsewhere)
    (folder / "zz.mp4").symlink_to("a.mp4")  # a file's link is a clip of its own
    expected = [*ALL, "linked/d.mp4", "zz.mp4"]
    assert found(folder, "") == expected
    assert found(folder, "**/*.mp4") == expected
    assert found(folder, "*/*.mp4") == ["deep/b.mp4", "linked/d.mp4"]
    assert found(folder, "aa") == [
        *("aa/b.mp4", "aa/circle/a.mp4", "aa/circle/linked/d.mp4", "aa/circle/zz.mp4"),
        "aa/deeper/c.mp4",
    ]


def test_the_name_does_not_depend_on_what_is_named_first(folder):
    (folder / "link").symlink_to("deep")
    paths = [f"{folder}/{name}" for name in ("link/b.mp4", "deep/b.mp4")]
    assert each_once(paths) == each_once(paths[::-1]) == [f"{folder}/deep/b.mp4"]
    (folder / "l").symlink_to("deep")
    assert each_once([f"{folder}/link/b.mp4", f"{folder}/l/b.mp4"]) == [f"{folder}/l/b.mp4"]


def test_what_leads_nowhere_is_told(folder):
    names = ["broken.mp4", "broken", "self", "notes.txt", os.fsdecode(b"caf\xe9\n.mp4")]
    for name in names:
        (folder / name).symlink_to("self" if name == "self" else "gone")
    told = [f"{name}: links to what is not there" for name in ("broken", *names[:1])]
    escaped = r"caf\xe9\n.mp4: links to what is not there"
    assert found(folder, "", [*told, escaped, told[0].replace("broken", "self")]) == ALL
    assert found(folder, "broken", told[:1]) == []
    assert found(folder, "b*.mp4", told[1:]) == []


def test_a_folder_that_cannot_be_opened_is_told(folder, monkeypatch):
    real = os.scandir

    def refused(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert found(folder, "", ["deep: cannot be opened (Permission denied)"]) == ALL[:1]


def test_why_nothing_was_found(folder):
    assert (
        why_nothing(f"{folder}/x.mp4") == f"'{folder}/x.mp4' names no video: there is no such path"
    )
    hint = "in a pattern [, * and ? of a name are written [[], [*] and [?]"
    assert hint in why_nothing(f"{folder}/[cam 1]/*.mp4")
    (folder / "empty\n").mkdir()
    assert why_nothing(f"{folder}/empty\n") == rf"'{folder}/empty\n' holds no video or image"
