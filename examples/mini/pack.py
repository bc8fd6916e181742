#!/usr/bin/env python3
"""Copies a saved pair into a crate and writes the hash of its files.

    pack.py PAIR CRATE

The hash is the SHA-256 of each file's path below the folder, a zero byte, its content and its length as eight bytes,
little-endian, in the order of the paths.
"""
import hashlib
import os
import shutil
import sys


def main(pair, crate):
    model = os.path.join(crate, "model")
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(pair, model)
    paths = sorted(os.path.relpath(os.path.join(folder, name), model)
                   for folder, _, names in os.walk(model) for name in names)
    digest, total = hashlib.sha256(), 0
    for path in paths:
        os.chmod(os.path.join(model, path), 0o644)
        with open(os.path.join(model, path), "rb") as file:
            content = file.read()
        digest.update(path.replace(os.sep, "/").encode() + b"\0" + content + len(content).to_bytes(8, "little"))
        total += len(content)
        print(f"{len(content):10} {path}")
    with open(os.path.join(crate, "model.sha256"), "w", encoding="utf-8") as file:
        file.write(digest.hexdigest() + "\n")
    print(f"{total:10} bytes, {digest.hexdigest()}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
