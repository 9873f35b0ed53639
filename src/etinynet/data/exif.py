"""How EXIF data say that a picture is turned, read from damaged data as far as they go."""

from __future__ import annotations

import struct

__all__ = ["read_orientation"]

_ORIENTATION, _SHORT = 0x112, 3
_ENTRY = 12
# Bytes of one value of each type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


def read_orientation(data: bytes) -> tuple[int, bool]:
    """(orientation 1 to 8, 1 where it is not told; whether the data are damaged).

    Damaged are data of another form, fewer tags than are announced, and a tag whose value lies
    outside. The other tags count all the same.
    """
    data = data.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return 1, True
    first = int.from_bytes(data[4:8], "little" if order == "<" else "big")
    if first + 2 > len(data):
        return 1, True
    (count,) = struct.unpack_from(f"{order}H", data, first)
    orientation, is_damaged = 1, False
    for at in range(first + 2, first + 2 + count * _ENTRY, _ENTRY):
        if at + _ENTRY > len(data):
            return orientation, True
        tag, kind, number, offset = struct.unpack_from(f"{order}HHII", data, at)
        size = number * _SIZES.get(kind, 0)
        if size > 4 and offset + size > len(data):
            is_damaged = True
        elif (tag, kind, number) == (_ORIENTATION, _SHORT, 1):
            (value,) = struct.unpack_from(f"{order}H", data, at + 8)
            orientation, is_damaged = (value, is_damaged) if 1 <= value <= 8 else (1, True)
    return orientation, is_damaged
