"""What files are made of: containers, codecs, pictures and sound of every kind, pulled, seen and heard to their end."""

import shutil
import subprocess
from collections import namedtuple

import numpy as np
import pytest

from rig import Viewer
from rig.media import QUIET
from rig.pulls import AAC, BFRAMES, FAST, H264, fails, make, plays
from rig.together import at_once


# Containers and codecs: ffmpeg's options, the video's mime type, the sound's.
X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=1"]
VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"]
AV1 = ["-c:v", "libsvtav1", "-preset", "12"]
FIVE_ONE = ["-af", "pan=5.1|FL=c0|FR=c0|FC=c0|LFE=c0|BL=c0|BR=c0"]
FILES = {
    "end.mp4": ([*BFRAMES, *AAC], "video/H264", "audio/aac"),
    "fragments.mp4": ([*H264, *AAC, "-movflags", "frag_keyframe+empty_moov"], "video/H264", "audio/aac"),
    "a.mov": ([*H264, "-c:a", "pcm_s16be"], "video/H264", "audio/x-raw"),
    "a.mkv": ([*BFRAMES, "-c:a", "flac"], "video/H264", "audio/x-flac"),
    "hevc.mkv": ([*X265, "-c:a", "ac3"], "video/x-h265", "audio/x-ac3"),
    "a.webm": ([*VP9, "-c:a", "libopus"], "video/x-vp9", "audio/opus"),
    "vp8.webm": (["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libvorbis"], "video/x-vp8", "audio/x-vorbis"),
    "a.ts": (["-c:v", "mpeg2video", "-b:v", "1M", "-c:a", "mp2"], "video/mpeg", "audio/mpeg"),
    "h264.ts": ([*BFRAMES, *AAC], "video/H264", "audio/aac"),
    "latm.ts": ([*H264, *AAC, "-mpegts_flags", "latm"], "video/H264", "audio/aac"),
    "ac3.ts": ([*X265, "-c:a", "ac3"], "video/x-h265", "audio/x-ac3"),
    "eac3.ts": ([*H264, "-c:a", "eac3"], "video/H264", "audio/x-eac3"),
    "part2.mp4": (["-c:v", "mpeg4", "-b:v", "1M", "-c:a", "aac"], "video/mpeg", "audio/aac"),
    "av1.mp4": ([*AV1, "-c:a", "libopus"], "video/x-av1", "audio/opus"),
    "a.flv": ([*H264, "-c:a", "libmp3lame"], "video/H264", "audio/mpeg"),
    "a.ogg": (["-c:a", "libvorbis"], None, "audio/x-vorbis"),
    "opus.ogg": (["-c:a", "libopus"], None, "audio/opus"),
    "opus6.mkv": ([*H264, *FIVE_ONE, "-c:a", "libopus", "-mapping_family", "1", "-b:a", "128k"], "video/H264", "audio/opus"),
    "aac6.mp4": ([*H264, *FIVE_ONE, "-c:a", "aac"], "video/H264", "audio/aac"),
    "a.mp3": (["-c:a", "libmp3lame", "-id3v2_version", "3", "-metadata", "title=x"], None, "audio/mpeg"),
    "a.m4a": (["-c:a", "aac"], None, "audio/aac"),
    "a.wav": (["-c:a", "pcm_s24le"], None, "audio/x-raw"),
    "a.flac": (["-c:a", "flac"], None, "audio/x-flac"),
    "ulaw.wav": (["-c:a", "pcm_mulaw"], None, "audio/x-mulaw"),
}


@pytest.mark.core
@pytest.mark.parametrize("names", [list(FILES)[i::3] for i in range(3)], ids=["first", "second", "third"])
async def test_containers_and_codecs(stack, web, names):
    """Whatever they are called: each with another one's ending or none, half of them without ranges."""
    for name in names:
        coding, video, _ = FILES[name]
        # Long enough for a viewer that needs seconds to subscribe while eight sessions start at once on two busy cores.
        make(stack, name, *coding, video=video is not None, seconds=8, size="160x90")

    async def one(i, name):
        _, video, audio = FILES[name]
        how = "plain" if i % 2 and name != "end.mp4" else "file"
        shown = name + (".bin", ".mp4", ".mp3", "")[i % 4]
        if shown != name:
            shutil.copyfile(stack.dir / name, stack.dir / shown)
        try:
            await plays(stack, f"f-{name}", f"{web.url}/{how}/{shown}", video, audio, size=(160, 90), seconds=40, tone=330)
        except AssertionError as e:
            raise AssertionError(f"{name} by {how}: {e}") from None

    await at_once(*(one(i, name) for i, name in enumerate(names)))


# Pictures ---------------------------------------------------------------------------------------------------------------


class Looker(Viewer):
    """Keeps the planes of the last picture: Y, Cb, Cr."""

    planes = None

    def saw(self, frame):
        w, h = frame.width, frame.height
        data = np.frombuffer(frame.data, np.uint8)
        if w < 16 or data[: w * h].max() < 16:
            return  # a track ends with pictures that nobody sent, blacker than black
        half = (w + 1) // 2 * ((h + 1) // 2)
        shapes = [(0, h, w), (w * h, (h + 1) // 2, (w + 1) // 2), (w * h + half, (h + 1) // 2, (w + 1) // 2)]
        self.planes = [data[at : at + r * c].reshape(r, c).astype(float) for at, r, c in shapes]

    def colour(self, x, y):
        """Y, Cb and Cr around a place, given as parts of width and height."""

        def mean(plane):
            r, c = int(plane.shape[0] * y), int(plane.shape[1] * x)
            return plane[r - 3 : r + 3, c - 3 : c + 3].mean()

        return tuple(round(mean(plane)) for plane in self.planes)


def flat(stack, name, codes, *coding, pix_fmt="yuv420p10le"):
    """Three seconds of a picture whose left half has the first of these codes (Y, Cb, Cr), and its right half the second."""
    (y1, b1, r1), (y2, b2, r2) = codes
    choose = lambda a, b: f"if(lt(X,W/2),{a},{b})"  # noqa: E731
    geq = f"geq=lum='{choose(y1, y2)}':cb='{choose(b1, b2)}':cr='{choose(r1, r2)}'"
    source = f"nullsrc=size=320x180:rate=15:duration=3,format={pix_fmt},{geq}"
    subprocess.run([*QUIET, "-y", "-f", "lavfi", "-i", source, "-pix_fmt", pix_fmt, *coding, str(stack.dir / name)], check=True, timeout=60)
    return name


def near(found, wanted, within=6):
    return all(abs(a - b) <= within for a, b in zip(found, wanted))


Flat = namedtuple("Flat", "codes coding pix_fmt video left right")  # the last two: Y, Cb and Cr that are seen, eight bits
PQ, HLG = (["-color_primaries", "bt2020", "-color_trc", trc, "-colorspace", "bt2020nc"] for trc in ("smpte2084", "arib-std-b67"))
GREY = ((573, 512, 512), (64, 512, 512))  # paper white of PQ (203 nits, 58 %), and black
HLG_GREY = ((721, 512, 512), (397, 512, 512))  # white (75 %) and the grey card (38 %) of HLG
# Mastered for 4000 nits (SMPTE ST 2086), with pixels as bright as that: white leaves them more room.
BRIGHT = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(40000000,50):max-cll=4000,400"
BRIGHT_X265 = [*X265[:-1], f"{X265[-1]}:{BRIGHT}"]
# The same, in the stream alone.
BRIGHT_AV1 = [*AV1, "-svtav1-params", "mastering-display=G(0.265,0.69)B(0.15,0.06)R(0.68,0.32)WP(0.3127,0.329)L(4000,0.005):content-light=4000,400:enable-hdr=1"]
DIM = 197
COLOUR = ((400, 500, 600), (700, 560, 460))
AS_IT_IS = ((100, 125, 150), (175, 140, 115))
FLAT = {
    "pq.mp4": Flat(GREY, [*X265, *PQ], "yuv420p10le", "video/x-h265", (214, 128, 128), (16, 128, 128)),
    "pq.webm": Flat(GREY, [*VP9, "-profile:v", "2", *PQ], "yuv420p10le", "video/x-vp9", (214, 128, 128), (16, 128, 128)),
    "pq.mkv": Flat(GREY, [*AV1, *PQ], "yuv420p10le", "video/x-av1", (214, 128, 128), (16, 128, 128)),
    "pq-4000.mkv": Flat(GREY, [*BRIGHT_X265, *PQ], "yuv420p10le", "video/x-h265", (DIM, 128, 128), (16, 128, 128)),
    "pq-4000-av1.mkv": Flat(GREY, [*BRIGHT_AV1, *PQ], "yuv420p10le", "video/x-av1", (DIM, 128, 128), (16, 128, 128)),
    "hlg.mov": Flat(HLG_GREY, [*X265, *HLG], "yuv420p10le", "video/x-h265", (214, 128, 128), (109, 128, 128)),
    "ten.mkv": Flat(COLOUR, ["-c:v", "libx264", "-preset", "ultrafast"], "yuv420p10le", "video/H264", *AS_IT_IS),
    "ten-hevc.mp4": Flat(COLOUR, X265, "yuv420p10le", "video/x-h265", *AS_IT_IS),
    "ten-vp9.webm": Flat(COLOUR, [*VP9, "-profile:v", "2"], "yuv420p10le", "video/x-vp9", *AS_IT_IS),
    "422.mov": Flat(COLOUR, ["-c:v", "libx264", "-preset", "ultrafast"], "yuv422p10le", "video/H264", *AS_IT_IS),
}


@pytest.mark.core
@pytest.mark.parametrize("names", [list(FLAT)[:6], list(FLAT)[6:]], ids=["wide", "deep"])
async def test_ten_bits_and_hdr(stack, web, names):
    """As bright, and of the colours, that they are meant to be when shown with eight bits on a usual display."""

    async def one(name):
        f = FLAT[name]
        _, _, viewer = await plays(stack, f"flat-{name}", f"{web.url}/file/{name}", f.video, None, viewer=Looker, seconds=40)
        seen = viewer.colour(0.25, 0.5), viewer.colour(0.75, 0.5)
        assert near(seen[0], f.left) and near(seen[1], f.right), f"{name}: {seen} and not {f.left}, {f.right}"

    for name in names:
        flat(stack, name, FLAT[name].codes, *FLAT[name].coding, pix_fmt=FLAT[name].pix_fmt)
    await at_once(*(one(name) for name in names))


async def test_a_portrait_phone_video_in_hlg(stack, web):
    """Ten bits, HLG and lying on its side: turned first, then mapped."""
    f = FLAT["hlg.mov"]
    flat(stack, "lying-hlg.mov", f.codes, *f.coding)
    turn = ["-i", str(stack.dir / "lying-hlg.mov"), "-c", "copy", "-metadata:s:v:0", "rotate=90", str(stack.dir / "upright-hlg.mov")]
    subprocess.run([*QUIET, "-y", *turn], check=True, timeout=60)
    url = f"{web.url}/file/upright-hlg.mov"
    _, _, viewer = await plays(stack, "upright-hlg", url, f.video, None, size=(180, 320), viewer=Looker)
    seen = {viewer.colour(0.5, 0.25), viewer.colour(0.5, 0.75)}
    assert all(any(near(s, wanted) for s in seen) for wanted in (f.left, f.right)), seen


def combing(luma):
    """How much more a row differs from the next than from the one after that: far above 1 where fields of two moments are woven."""
    next_row = np.abs(luma[:-2] - luma[1:-1]).mean()
    next_but_one = np.abs(luma[:-2] - luma[2:]).mean()
    return next_row / max(next_but_one, 0.5)


class Comber(Looker):
    """Notes how combed each picture is."""

    def __init__(self, *args):
        super().__init__(*args)
        self.combed = []

    def saw(self, frame):
        super().saw(frame)
        if self.planes:
            self.combed.append(combing(self.planes[0]))


MOVING = (
    "color=gray:size=320x180:rate=50:duration=3[a];color=white:size=40x180:rate=50:duration=3[b];"
    "[a][b]overlay=x='mod(t*600,280)':y=0,tinterlace=interleave_top,fieldorder=tff"
)
INTERLACED = {
    "fields.mkv": (["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-x264-params", "tff=1", "-flags", "+ildct+ilme"], "video/H264"),
    "fields.ts": (["-c:v", "mpeg2video", "-b:v", "3M", "-pix_fmt", "yuv420p", "-flags", "+ildct+ilme", "-top", "1"], "video/mpeg"),
    "fields422.mov": (["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv422p10le", "-x264-params", "tff=1", "-flags", "+ildct+ilme"], "video/H264"),
}
SHAPES = {  # what is shown with square pixels; the containers' word counts where the stream has none
    "wide.mp4": ([*H264, "-vf", "scale=320:240,setsar=4/3"], "video/H264", (428, 240)),
    "wide.mkv": (["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-vf", "scale=320:240,setsar=4/3"], "video/x-vp8", (428, 240)),
    "narrow.ts": (["-c:v", "mpeg2video", "-b:v", "1M", "-vf", "scale=720:480,setsar=8/9"], "video/mpeg", (720, 540)),
}


@pytest.mark.core
async def test_interlaced_and_pixel_aspect(stack, web):
    """Interlaced pictures are not combed; pixels that are not square are shown with the right shape."""
    for name, (coding, _) in INTERLACED.items():
        if not (stack.dir / name).exists():
            subprocess.run([*QUIET, "-y", "-f", "lavfi", "-i", MOVING, *coding, str(stack.dir / name)], check=True, timeout=60)
    for name, (coding, *_) in SHAPES.items():
        make(stack, name, *coding, audio=False, seconds=3)

    async def fields(name):
        _, _, viewer = await plays(stack, f"i-{name}", f"{web.url}/file/{name}", INTERLACED[name][1], None, viewer=Comber, seconds=40)
        combed = np.median(viewer.combed)
        assert combed < 1.3, f"{name} is combed: {combed}"

    async def shape(name):
        _, video, size = SHAPES[name]
        await plays(stack, f"s-{name}", f"{web.url}/file/{name}", video, None, size=size, seconds=40)

    # Not all six together: on a slow machine the server gives a viewer its upper layer too late for films of three seconds.
    await at_once(*(fields(name) for name in INTERLACED))
    await at_once(*(shape(name) for name in SHAPES))


# Tracks -----------------------------------------------------------------------------------------------------------------


async def test_the_best_of_several_tracks(stack, web):
    """The largest picture, the sound with most channels; the others, and what is neither, are left out."""
    (stack.dir / "words.srt").write_text("1\n00:00:00,000 --> 00:00:03,000\nwords\n")
    tracks = ["-map", "0", "-map", "1", "-map", "2", "-map", "3", "-map", "4"]
    inputs = []
    for source in ("testsrc2=size=160x90:rate=30", "testsrc2=size=320x180:rate=30", "sine=frequency=330:sample_rate=48000,volume=4",
                   "sine=frequency=550:sample_rate=48000,volume=4,aformat=channel_layouts=stereo"):
        inputs += ["-f", "lavfi", "-t", "3", "-i", source]
    for name, words in (("tracks.mkv", "srt"), ("tracks.mp4", "mov_text")):
        command = [*QUIET, "-y", *inputs, "-i", str(stack.dir / "words.srt"), *tracks, *H264, "-c:a", "aac", "-c:s", words]
        subprocess.run([*command, str(stack.dir / name)], check=True, timeout=60)
    await at_once(*(plays(stack, name, f"{web.url}/file/{name}", tone=550, seconds=40) for name in ("tracks.mkv", "tracks.mp4")))


# HLS with keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.core
async def test_encrypted_hls(stack, web):
    """AES-128 with an initialisation vector in the playlist and without, and a key that changes on the way."""
    key = bytes(range(16))
    (stack.dir / "e.key").write_bytes(key)
    iv = "000102030405060708090a0b0c0d0e0f"
    (stack.dir / "given.info").write_text(f"{web.url}/file/e.key\n{stack.dir}/e.key\n{iv}\n")
    (stack.dir / "counted.info").write_text(f"{web.url}/file/e.key\n{stack.dir}/e.key\n")
    for name in ("given", "counted"):
        hls = ["-f", "hls", "-hls_time", "1", "-hls_list_size", "0", "-start_number", "7", "-hls_key_info_file", str(stack.dir / f"{name}.info")]
        make(stack, f"{name}/list.m3u8", *H264, *AAC, *hls, seconds=4)
    listed = (stack.dir / "counted/list.m3u8").read_text()
    lines = [line.split(",IV=")[0] for line in listed.splitlines()]
    (stack.dir / "counted/list.m3u8").write_text("\n".join(lines) + "\n")
    assert iv in (stack.dir / "given/list.m3u8").read_text()
    await at_once(*(plays(stack, f"aes-{name}", f"{web.url}/file/{name}/list.m3u8", tone=330, seconds=40) for name in ("given", "counted")))


# What can't be decoded --------------------------------------------------------------------------------------------------

UNKNOWN = {
    "prores.mov": (["-c:v", "prores", "-an"], "none of its codecs can be decoded here: Apple ProRes video"),
    "wma.asf": (["-c:v", "wmv2", "-c:a", "wmav2"], "a Windows Media file can't be opened here"),
    "dts.mkv": (["-vn", "-c:a", "dca", "-strict", "-2"], "DTS audio"),
    "jpeg.avi": (["-c:v", "mjpeg", "-an"], "Motion JPEG video"),
    "still.jpg": (["-frames:v", "1", "-an"], "still picture"),
}


async def test_undecodable_codecs_are_named(stack, web):
    async def one(name):
        _, words = UNKNOWN[name]
        error = await fails(stack, f"no-{name}", f"{web.url}/file/{name}")
        assert words in error, f"{name}: {error}"

    for name, (coding, _) in UNKNOWN.items():
        make(stack, name, *coding, seconds=1)
    for name in UNKNOWN:
        await one(name)


@pytest.mark.words("Apple ProRes video can't be decoded here")
async def test_audio_plays_beside_undecodable_video(stack, web):
    """The state says so, also at the end."""
    make(stack, "half.mov", "-c:v", "prores", "-profile:v", "0", *AAC, *FAST, seconds=3)
    await plays(stack, "half-url", f"{web.url}/file/half.mov", None, tone=330, error="video is left out: Apple ProRes video can't be decoded here")
