"""As much of protobuf and snappy as a sender needs, by hand."""

import struct


def varint(number):
    out = bytearray()
    number &= 2**64 - 1
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def number(tag, value):
    return varint(tag << 3) + varint(value)


def signed(tag, value):
    """A `sint32` or `sint64`."""
    return number(tag, zigzag(value))


def zigzag(value):
    return value * 2 if value >= 0 else -value * 2 - 1


def double(tag, value):
    return varint(tag << 3 | 1) + struct.pack("<d", value)


def message(tag, *parts):
    body = b"".join(parts)
    return varint(tag << 3 | 2) + varint(len(body)) + body


def text(tag, value):
    return message(tag, value.encode())


def numbers(tag, values):
    return message(tag, *map(varint, values))


def signeds(tag, values):
    return numbers(tag, map(zigzag, values))


def doubles(tag, values):
    return message(tag, *(struct.pack("<d", value) for value in values))


def snappy(body):
    """The block format, all of it literal."""
    out = [varint(len(body))]
    for start in range(0, len(body), 60):
        part = body[start:start + 60]
        out += [bytes([(len(part) - 1) << 2]), part]
    return b"".join(out)
