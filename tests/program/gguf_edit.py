"""Finds its way through a GGUF file's header, to cut or patch copies of it at chosen places."""

import dataclasses
import os
import struct

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


def metadata_only(**values):
    """The bytes of a GGUF file without tensors: texts as strings, numbers as uint16. Dots of keys are written "__"."""
    def text(word):
        return struct.pack("<Q", len(word)) + word.encode()

    content = b"GGUF" + struct.pack("<IQQ", 3, 0, len(values))
    for key, value in values.items():
        content += text(key.replace("__", "."))
        content += struct.pack("<IH", 2, value) if isinstance(value, int) else struct.pack("<I", _STRING) + text(value)
    return content + b"\0" * (-len(content) % 32)


@dataclasses.dataclass
class Tensor:
    shape: list
    shape_offset: int  # of the first dimension, u64 each


class Gguf:
    """Offsets of what a test wants to damage."""

    def __init__(self, path):
        self.path = path
        self.size = os.path.getsize(path)
        self.values = {}  # key -> offset of its value
        self.tensors = {}
        with open(path, "rb") as file:
            self._file = file
            file.seek(8)
            n_tensors, n_values = struct.unpack("<QQ", file.read(16))
            for _ in range(n_values):
                key = self._string()
                kind = self._number("<I")
                self.values[key] = file.tell()
                self._skip(kind)
            self.tensors_offset = file.tell()
            for _ in range(n_tensors):
                name = self._string()
                n_dims = self._number("<I")
                offset = file.tell()
                self.tensors[name] = Tensor([self._number("<Q") for _ in range(n_dims)], offset)
                file.read(4 + 8)  # type, offset of the data
            alignment = 32
            self.data_offset = (file.tell() + alignment - 1) // alignment * alignment

    def _number(self, form):
        return struct.unpack(form, self._file.read(struct.calcsize(form)))[0]

    def _string(self):
        return self._file.read(self._number("<Q")).decode()

    def _skip(self, kind):
        if kind == _STRING:
            self._file.seek(self._number("<Q"), 1)
        elif kind == _ARRAY:
            inner, count = struct.unpack("<IQ", self._file.read(12))
            if inner == _STRING:
                for _ in range(count):
                    self._skip(inner)
            else:
                self._file.seek(_SIZES[inner] * count, 1)
        else:
            self._file.seek(_SIZES[kind], 1)

    def copy(self, path, patches=(), size=None):
        """A copy of the header with weights of zero (a hole in the file): nothing reads them before it is refused.
        patches: (offset, bytes); size: where to cut."""
        with open(self.path, "rb") as source:
            header = bytearray(source.read(self.data_offset))
        for offset, content in patches:
            header[offset:offset + len(content)] = content
        with open(path, "wb") as file:
            file.write(header)
            file.truncate(self.size if size is None else size)
        return path
