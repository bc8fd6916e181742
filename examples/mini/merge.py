#!/usr/bin/env python3
"""Merges a trained encoder with the one it was trained from: each weight becomes a mean of the two.

    pip install numpy safetensors
    merge.py BASE TRAINED SHARE OUT

BASE and TRAINED are saved encoders with the same files, SHARE is TRAINED's part of each weight, from 0 to 1. OUT is a copy of
TRAINED with the merged weights. A training on one source forgets some of what the encoder knew of others; the mean keeps
most of both (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903; LM-Cocktail for embeddings, Xiao et al. 2023, arXiv 2311.13534).
"""
import glob
import os
import shutil
import sys

from safetensors.numpy import load_file, save_file


def main(base, trained, share, out):
    share = float(share)
    assert 0 <= share <= 1, f"SHARE is {share}, allowed: 0 to 1"
    part = f"{out}.part"
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(trained, part)
    for path in glob.glob(f"{trained}/**/*.safetensors", recursive=True):
        name = os.path.relpath(path, trained)
        before, after = load_file(os.path.join(base, name)), load_file(path)
        assert before.keys() == after.keys(), f"{name}: {sorted(before.keys() ^ after.keys())} are in one encoder only"
        merged = {key: (1 - share) * before[key] + share * after[key] for key in after}
        save_file(merged, os.path.join(part, name), metadata={"format": "pt"})
    os.rename(part, out)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
