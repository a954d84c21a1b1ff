"""Videos: which frames are taken, from where, and what is refused."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from random import Random

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from tests.benchmark_release import releases
from vilasr.benchmark_release import frames as frames_module
from vilasr.benchmark_release.frames import frame_numbers, read_frames
from vilasr.benchmark_release.videos import Video, find_videos
from vilasr.images import SizeRule
from vilasr.tasks import DataError

RULE = SizeRule(min_pixels=28 * 28, max_pixels=84 * 84)
SCENE = ("scannet", "scene0011_00")


def same(image: Image.Image) -> Image.Image:
    return image


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """101 frames of 96 x 64 pixels that show their numbers, with frames between others in the coding."""
    path = tmp_path_factory.mktemp("video") / "scannet/scene0011_00.mp4"
    releases.mp4(path, 101)
    return path


@pytest.mark.parametrize("count", [16, 32])
def test_the_rule(count):
    for total in [1, 2, count - 1, count, count + 1, 100, 101, 4321, 99_999]:
        numbers = frame_numbers(total, count)
        assert len(numbers) == min(total, count)
        # As written in lmms-eval's sample_vsibench_video_frames.
        assert numbers == np.linspace(0, total - 1, min(count, total), dtype=int).tolist()
        assert numbers == [(total - 1) * i // (len(numbers) - 1) if i else 0 for i in range(len(numbers))]
        assert (numbers[0], numbers[-1]) == (0, total - 1 if total > 1 else 0)
        assert len(set(numbers)) == len(numbers)


def test_frames_are_those_of_the_rule(video):
    found = read_frames(Video(video), 16, same)
    assert [releases.number_in(image) for image in found] == [
        0,
        6,
        13,
        20,
        26,
        33,
        40,
        46,
        53,
        60,
        66,
        73,
        80,
        86,
        93,
        100,
    ]
    with av.open(str(video)) as container:
        everyone = [frame.to_image() for frame in container.decode(video=0)]
    assert len(everyone) == 101
    for number, image in zip(frame_numbers(101, 16), found, strict=True):
        assert np.array_equal(image, everyone[number])
    for image, small in zip(found, read_frames(Video(video), 16, RULE.apply), strict=True):
        assert np.array_equal(RULE.apply(image), small)


def test_another_decoder_sees_the_same(video):
    """OpenCV, frame by frame: the same pictures but for the rounding of colours."""
    capture, everyone = cv2.VideoCapture(str(video)), []
    while True:
        there, frame = capture.read()
        if not there:
            break
        everyone.append(frame[:, :, ::-1].astype(int))
    assert len(everyone) == 101
    for number, image in zip(frame_numbers(101, 32), read_frames(Video(video), 32, same), strict=True):
        assert np.abs(np.asarray(image).astype(int) - everyone[number]).max() <= 3


def test_a_short_video_gives_all_it_has(tmp_path):
    releases.mp4(tmp_path / "a.mp4", 5)
    assert [releases.number_in(image) for image in read_frames(Video(tmp_path / "a.mp4"), 16, same)] == [0, 1, 2, 3, 4]


def test_a_turned_video_is_shown_upright(video, tmp_path):
    """The matrix of its track says a quarter turn, as telephones write it."""
    data = bytearray(video.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", data[at : at + 36])[::4] == (0x10000, 0x10000, 0x40000000)
    struct.pack_into(">9i", data, at, 0, 0x10000, 0, -0x10000, 0, 0, 64 << 16, 0, 0x40000000)
    (tmp_path / "turned.mp4").write_bytes(data)
    straight = read_frames(Video(video), 16, same)
    for before, after in zip(straight, read_frames(Video(tmp_path / "turned.mp4"), 16, same), strict=True):
        assert np.array_equal(after, before.transpose(Image.Transpose.ROTATE_270)), "clockwise"
    capture = cv2.VideoCapture(str(tmp_path / "turned.mp4"))
    assert capture.read()[1].shape[:2] == (96, 64)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: b"", "no whole video"),
        (lambda data: data[: len(data) // 2], "no whole video"),
        (lambda data: data[: data.index(b"mdat") + 40] + data[data.index(b"moov") - 4 :], "no whole video"),
        (lambda data: b"<!DOCTYPE html>" + data[:100], "no whole video"),
        (lambda data: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "no whole video"),
        (lambda data: data.replace(b"vide", b"soun"), "no pictures"),
    ],
)
def test_broken_videos(spoil, said, video, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(spoil(video.read_bytes()))
    with pytest.raises(DataError, match=rf"a\.mp4: .*{said}"):
        read_frames(Video(path), 16, same)


def test_a_file_of_another_format_is_not_guessed_at(tmp_path):
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height = 96, 64
        for number in range(5):
            container.mux(stream.encode(av.VideoFrame.from_image(releases.frame(number, 96, 64))))
        container.mux(stream.encode())
    (tmp_path / "a.avi").rename(tmp_path / "a.mp4")
    with pytest.raises(DataError, match=r"a\.mp4: is no whole video"):
        read_frames(Video(tmp_path / "a.mp4"), 16, same)


def test_a_video_that_is_cut_off_behind_its_index(video, tmp_path):
    """Its index comes first (as for streaming), so that it opens and then lacks frames."""
    fast = tmp_path / "fast.mp4"
    with av.open(str(video)) as source, av.open(str(fast), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    assert len(read_frames(Video(fast), 32, same)) == 32
    data = fast.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    fast.write_bytes(data[: -(len(data) - data.index(b"mdat")) // 3])
    with pytest.raises(DataError, match=r"fast\.mp4: is no whole video \(\d+ of 101 frames are there\)"):
        read_frames(Video(fast), 16, same)


def test_noise_in_a_video_is_told_or_shown(video, tmp_path):
    """Whatever bytes are changed: frames, or one error that names the file."""
    data, rng, refused, taken = video.read_bytes(), Random(3), 0, 0
    for _ in range(60):
        spoilt = bytearray(data)
        for _ in range(rng.choice([1, 20, 400])):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        (tmp_path / "a.mp4").write_bytes(spoilt)
        try:
            taken += bool(read_frames(Video(tmp_path / "a.mp4"), 16, RULE.apply))
        except DataError as exc:
            refused += str(exc).startswith(str(tmp_path / "a.mp4"))
    assert refused + taken == 60
    assert min(refused, taken) > 5


def test_a_frame_too_large_to_load(video, tmp_path, monkeypatch):
    monkeypatch.setattr(frames_module, "MAX_SOURCE_PIXELS", 96 * 64 - 1)
    with pytest.raises(DataError, match="96 x 64 pixels is more than can be loaded safely"):
        read_frames(Video(video), 16, same)


@pytest.mark.parametrize("lacking", [1, 2])
def test_a_decoder_that_gives_fewer_frames(lacking, video, monkeypatch, caplog):
    """One of 101 is tolerated and told: frames are then uniform over what there is."""
    true = frames_module._count
    monkeypatch.setattr(frames_module, "_count", lambda file, video: true(file, video) + lacking)
    if lacking == 1:
        assert [releases.number_in(image) for image in read_frames(Video(video), 16, same)] == frame_numbers(101, 16)
        assert "101 of 102 frames can be decoded" in caplog.text
    else:
        with pytest.raises(DataError, match=r"101 of 103 frames can be decoded"):
            read_frames(Video(video), 16, same)


# Where videos lie


def pack(path: Path, members: dict[str, Path], method: int = zipfile.ZIP_DEFLATED) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, file in members.items():
            archive.write(file, name)


@pytest.mark.parametrize(
    ("archive", "member"),
    [
        ("scannet.zip", "scannet/scene0011_00.mp4"),
        ("scannet.zip", "scene0011_00.mp4"),
        ("scannet.zip", "VSI-Bench/scannet/scene0011_00.mp4"),
        ("videos.zip", "scannet/scene0011_00.mp4"),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zipped_videos(archive, member, method, video, tmp_path):
    pack(tmp_path / archive, {member: video}, method)
    found = find_videos(tmp_path, [SCENE, ("scannet", "other")])
    assert found.keys() == {SCENE}
    for zipped, plain in zip(read_frames(found[SCENE], 16, same), read_frames(Video(video), 16, same), strict=True):
        assert np.array_equal(zipped, plain)


def test_a_video_of_another_dataset_is_not_taken(video, tmp_path):
    pack(tmp_path / "scannet.zip", {"scannetpp/scene0011_00.mp4": video})
    pack(tmp_path / "videos.zip", {"scene0011_00.mp4": video})
    (tmp_path / ".cache/scannet").mkdir(parents=True)
    (tmp_path / ".cache/scannet/scene0011_00.mp4").write_bytes(b"of the hub's client")
    assert not find_videos(tmp_path, [SCENE])


def test_unpacked_videos_come_first(video, tmp_path):
    (tmp_path / "scannet.zip").write_bytes(b"not even an archive")
    with pytest.raises(DataError, match=r"scannet\.zip: is not a zip archive; download it again"):
        find_videos(tmp_path, [SCENE])
    (tmp_path / "videos/scannet").mkdir(parents=True)
    (tmp_path / "videos/scannet/scene0011_00.mp4").symlink_to(video)
    assert find_videos(tmp_path, [SCENE])[SCENE].path == tmp_path / "videos/scannet/scene0011_00.mp4"
    pack(tmp_path / "scannet.zip", {"scannet/scene0011_00.mp4": video, "scannet/b.mp4": video})
    (tmp_path / "a/scannet").mkdir(parents=True)
    (tmp_path / "a/scannet/scene0011_00.mp4").symlink_to(video)
    found = find_videos(tmp_path, [SCENE, ("scannet", "b")])
    assert found[SCENE].path == tmp_path / "a/scannet/scene0011_00.mp4", "the first of several"
    assert found["scannet", "b"].path == tmp_path / "scannet.zip"


@pytest.mark.parametrize(
    "name", ["../scene0011_00.mp4", "/scannet/scene0011_00.mp4", "scannet/../../a.mp4", "C:/a.mp4"]
)
def test_hostile_members(name, video, tmp_path):
    pack(tmp_path / "scannet.zip", {"scannet/scene0011_00.mp4": video})
    with zipfile.ZipFile(tmp_path / "scannet.zip", "a") as archive:
        info = zipfile.ZipInfo(name)
        info.filename = name
        archive.writestr(info, b"x")
    with pytest.raises(DataError, match=r"scannet\.zip: member .* unsafe"):
        find_videos(tmp_path, [SCENE])


def test_a_bomb_of_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "scannet.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scannet/scene0011_00.mp4", bytes(4 << 20))
    with pytest.raises(DataError, match=r"scannet\.zip: member .* would grow"):
        find_videos(tmp_path, [SCENE])


def test_a_damaged_member(video, tmp_path):
    pack(tmp_path / "scannet.zip", {"scannet/scene0011_00.mp4": video}, zipfile.ZIP_STORED)
    data = bytearray((tmp_path / "scannet.zip").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "scannet.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"scannet\.zip: member 'scannet/scene0011_00\.mp4' has CRC-32"):
        read_frames(find_videos(tmp_path, [SCENE])[SCENE], 16, same)


def test_a_member_too_large_for_memory(video, tmp_path, monkeypatch):
    pack(tmp_path / "scannet.zip", {"scannet/scene0011_00.mp4": video})
    monkeypatch.setattr("vilasr.benchmark_release.videos.MAX_ZIPPED", 100)
    with pytest.raises(DataError, match="has over 100 bytes; unpack the archive"):
        read_frames(find_videos(tmp_path, [SCENE])[SCENE], 16, same)
