"""Reduces full fixture folders (written by make_fixtures.py) to what the tests keep: fewer rows of each golden, and no
MTP tensors where a folder is not about them.

    pick_rows.py FIXTURES OUT NAME...

Each golden keeps `tokens` and `positions` whole; of every other tensor the rows named in its `rows` tensor, as far as it
has them: MTP layer K has 1 + K rows less. Of `w8a8` only rows that its note calls stable.
"""
import json
import re
import shutil
import struct
import sys
from pathlib import Path

WINDOW_ROWS = [0, 1, 7, 8, 9, 10, 25, 39]   # the edges of a window of 8 or 9 keys, the start, the middle and the end
FULL_ROWS = [0, 1, 10, 39]                  # where every row sees all keys
GOLDENS = ["f32", "bf16", "positions", "window8", "chunked", "w8a8", "w8a8-bf16", "w8a8-ue8m0"]
# What w8a8 goldens keep.
QUANTIZED = re.compile(r"(mtp\.layers\.\d+\.)?logits$|norm$|layers\.\d+(\.mlp\.topk_ids|\.self_attn\.attn)?$")
KEEP_MTP = {"mimo-basic", "mimo-fused-qkv", "mimo-sharded"}


def read(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    metadata = header.pop("__metadata__", {})
    body = data[8 + size:]
    return metadata, {name: (entry["dtype"], entry["shape"], body[slice(*entry["data_offsets"])])
                      for name, entry in header.items()}


def write(path, metadata, tensors):
    header, offset = {"__metadata__": dict(sorted(metadata.items()))}, 0
    ordered = sorted(tensors.items(), key=lambda item: (-len(item[1][2]) % 8, item[0]))
    for name, (dtype, shape, data) in ordered:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, (_, _, data) in ordered))


def pick(rows, dtype, shape, data):
    row, rows = len(data) // shape[0], [r for r in rows if r < shape[0]]
    return dtype, [len(rows), *shape[1:]], b"".join(data[r * row:(r + 1) * row] for r in rows)


def reduce_golden(source, target, rows, keep_mtp):
    metadata, tensors = read(source)
    whole = ("tokens", "positions")
    if metadata["recipe"].startswith("w8a8"):
        tensors = {name: tensor for name, tensor in tensors.items() if name in whole or QUANTIZED.match(name)}
    if stable := re.search(r"(\d+) leading rows are stable", metadata["note"]):
        rows = sorted({row for row in rows if row < int(stable[1])} | {int(stable[1]) - 1})
    kept = {name: tensor if name in whole else pick(rows, *tensor)
            for name, tensor in tensors.items() if keep_mtp or not name.startswith("mtp.")}
    kept["rows"] = ("I32", [len(rows)], struct.pack(f"<{len(rows)}i", *rows))
    write(target, metadata, kept)


def copy_model(source, target, keep_mtp):
    for path in source.iterdir():
        if path.name == "recipe.json" or path.is_dir():
            continue
        if path.suffix == ".safetensors" and not keep_mtp:
            metadata, tensors = read(path)
            write(target / path.name, metadata, {n: t for n, t in tensors.items() if ".mtp." not in n})
        else:
            shutil.copyfile(path, target / path.name)


def main(fixtures, out, names):
    for name in names:
        source, target = Path(fixtures) / name, Path(out) / name
        (target / "golden").mkdir(parents=True, exist_ok=True)
        copy_model(source, target, name in KEEP_MTP)
        rows = FULL_ROWS if name.startswith("minimax") else WINDOW_ROWS
        for golden in GOLDENS:
            if (source / "golden" / f"{golden}.safetensors").exists():
                reduce_golden(source / "golden" / f"{golden}.safetensors", target / "golden" / f"{golden}.safetensors",
                              rows, name in KEEP_MTP)
        if (source / "golden" / "w8a8-linear.safetensors").exists():
            shutil.copyfile(source / "golden" / "w8a8-linear.safetensors", target / "golden" / "w8a8-linear.safetensors")
        shutil.copyfile(source / "golden" / "greedy.json", target / "golden" / "greedy.json")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
