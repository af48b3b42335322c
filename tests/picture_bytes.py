"""PNG and TIFF files written by hand, so that their pixels do not depend on the library that reads them."""

import struct
import zlib


def png(width, height, depth, colour_type, rows, *chunks):
    """rows: the bytes of each row; chunks: kind and content of those between header and pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    body = [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in body
    )


def tiff(width, height, data, order="<", **tags):
    """A TIFF of one strip. order: "<" or ">"; tags: by their numbers, as t262=1 or t258=[8, 8, 8]."""
    entries = {256: width, 257: height, 259: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    entries |= {int(tag[1:]): value for tag, value in tags.items()}
    directory, extra, start = b"", b"", 8 + len(data)
    extra_at = start + 2 + 12 * len(entries) + 4
    for tag, value in sorted(entries.items()):
        values = value if isinstance(value, list) else [value]
        packed = struct.pack(f"{order}{len(values)}H", *values)
        directory += struct.pack(order + "HHI", tag, 3, len(values))
        if len(packed) > 4:
            directory += struct.pack(order + "I", extra_at + len(extra))
            extra += packed
        else:
            directory += packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    return head + data + struct.pack(order + "H", len(entries)) + directory + bytes(4) + extra
