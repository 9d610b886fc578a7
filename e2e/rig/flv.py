"""FLV (Adobe's Video File Format 10.1, annex E): what encoders push over RTMP, tag by tag."""

from collections import namedtuple
from pathlib import Path

AUDIO, VIDEO, DATA, AGGREGATE = 8, 9, 18, 22

Tag = namedtuple("Tag", "kind time body")  # one of the above, milliseconds, bytes


def read(path):
    """All tags of a file."""
    data = Path(path).read_bytes()
    at, tags = int.from_bytes(data[5:9], "big") + 4, []
    while at + 11 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        time = int.from_bytes(data[at + 4 : at + 7], "big") | data[at + 7] << 24
        tags.append(Tag(data[at] & 0x1F, time, data[at + 11 : at + 11 + size]))
        at += 11 + size + 4
    return tags


def is_config(tag):
    """Whether it is a decoder configuration of H.264 or AAC rather than media."""
    return (tag.kind == VIDEO and tag.body[:2] in (b"\x17\0", b"\x27\0")) or (tag.kind == AUDIO and tag.body[:2] == b"\xaf\0")


def is_picture(tag):
    """Whether it is a picture of H.264."""
    return tag.kind == VIDEO and tag.body[1:2] == b"\1"


def is_key(tag):
    """Whether it is a key frame of H.264."""
    return is_picture(tag) and tag.body[0] >> 4 == 1


def units(tag):
    """The NAL units of a picture."""
    at, found = 5, []
    while at < len(tag.body):
        size = int.from_bytes(tag.body[at : at + 4], "big")
        found.append(tag.body[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def parameter_sets(config):
    """SPS and PPS of a configuration of H.264."""
    record = config.body[5:]
    size = int.from_bytes(record[6:8], "big")
    sps, rest = record[8 : 8 + size], record[8 + size + 1 :]
    return sps, rest[2 : 2 + int.from_bytes(rest[:2], "big")]


def aggregate(tags):
    """The body of an aggregate message (RTMP 1.0 §7.1.6): tags in a row, each followed by its length."""
    body = b""
    for tag in tags:
        head = bytes([tag.kind]) + len(tag.body).to_bytes(3, "big") + (tag.time & 0xFFFFFF).to_bytes(3, "big") + bytes([tag.time >> 24]) + bytes(3)
        body += head + tag.body + (11 + len(tag.body)).to_bytes(4, "big")
    return body
