#!/usr/bin/env python3
"""A small part of a golden KVzip file: kvzip_extract.py IN OUT

Scores, kept sets and ids stay whole; queries, keys, values and weights are those of the first layer's first KV head and
its group, so that a repository can hold them. The metadata extract.n_layer and extract.n_head_kv say so.
"""

import struct
import sys

ALIGNMENT = 32
F32, I8, I32 = 0, 24, 26
BYTES = {F32: 4, I8: 1, I32: 4}
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
U32, TEXT = 4, 8


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        value = struct.unpack_from("<" + form, self.data, self.at)[0]
        self.at += struct.calcsize("<" + form)
        return value

    def text(self):
        n = self.take("Q")
        self.at += n
        return self.data[self.at - n : self.at].decode()


def read(path):
    with open(path, "rb") as file:
        r = Reader(file.read())
    if r.data[:4] != b"GGUF":
        sys.exit(f"{path}: expected a GGUF file")
    r.at = 8
    n_tensors, n_keys = r.take("Q"), r.take("Q")
    keys, tensors = [], []
    for _ in range(n_keys):
        name, kind = r.text(), r.take("I")
        keys.append((name, kind, r.text() if kind == TEXT else r.take(SCALARS[kind])))
    for _ in range(n_tensors):
        name = r.text()
        shape = [r.take("Q") for _ in range(r.take("I"))]
        tensors.append((name, shape, r.take("I"), r.take("Q")))
    begin = (r.at + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    found = []
    for name, shape, kind, offset in tensors:
        size = BYTES[kind]
        for n in shape:
            size *= n
        found.append((name, shape, kind, r.data[begin + offset : begin + offset + size]))
    return keys, found


def cut(shape, kind, data, most):
    """The first most[i] of each dimension; None: all."""
    if not shape:
        return [], data
    least = [n if limit is None else min(n, limit) for n, limit in zip(shape, most)]
    stride = len(data) // shape[-1]
    parts = [cut(shape[:-1], kind, data[i * stride : (i + 1) * stride], most[:-1])[1] for i in range(least[-1])]
    return least, b"".join(parts)


def limits(name, group, d):
    part = name.split(".")[-1]
    if part in ("k", "v"):
        return [None, None, 1, 1]
    if part == "q":
        return [None, None, group, 1]
    if part == "hidden_norm":
        return [None, 1]
    if part == "w_o":
        return [group * d, None, 1]
    return None


def text_bytes(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def write(path, keys, tensors):
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    for name, kind, value in keys:
        head += text_bytes(name) + struct.pack("<I", kind)
        head += text_bytes(value) if kind == TEXT else struct.pack("<" + SCALARS[kind], value)
    body = b""
    for name, shape, kind, data in tensors:
        head += text_bytes(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", kind, len(body))
        body += data + bytes(-len(data) % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % ALIGNMENT) + body)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: kvzip_extract.py IN OUT")
    keys, tensors = read(sys.argv[1])
    number = {name: value for name, _, value in keys}
    group, d = number["n_head"] // number["n_head_kv"], number["head_dim"]
    kept = []
    for name, shape, kind, data in tensors:
        if name.endswith(".hidden"):
            continue
        most = limits(name, group, d)
        if most:
            shape, data = cut(shape, kind, data, most)
        kept.append((name, shape, kind, data))
    keys += [("extract.n_layer", U32, 1), ("extract.n_head_kv", U32, 1)]
    write(sys.argv[2], keys, kept)


if __name__ == "__main__":
    main()
