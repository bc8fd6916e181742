#!/usr/bin/env python3
"""Trains and evaluates the paper's comparisons, the grid of grid.toml; needs only Python 3.11 and `care`.

    grid.py MODEL DATA [--scale full] [--seeds 1,2,3] [--rows "NAME;.."] [--given CELL=DIR]

MODEL is a folder of multilingual-e5-small, DATA the folder that ../toyhom/prepare.py writes. Everything goes to
runs/paper/SCALE. A cell is identified by its settings, its seed, its data and the cells it starts from: a finished one is not
computed again, an interrupted one resumes, and one whose settings have changed is a new one. --given large=DIR takes what
`care train` wrote to DIR elsewhere as the cell `large`, for every seed. --care is the program, with words before it if need
be: --care "nice -n 10 target/release/care". table.py writes the table.
"""
import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import tomllib

HERE = os.path.dirname(os.path.abspath(__file__))

# How recipes name the folder of the grid.
ROOT = "../../runs/paper/"


def load(name):
    with open(os.path.join(HERE, name), "rb") as file:
        return tomllib.load(file)


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def lines(path):
    with open(path, encoding="utf-8") as file:
        return list(file)


def sha256(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def toml(value):
    """A value as TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(of)}" for key, of in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def put(config, key, value):
    """Sets a key such as stage.0.loss."""
    *parents, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    for part in parents:
        config = config[part]
    config[last] = value


def paths(config, key=""):
    """The keys of a configuration whose values are paths of the grid, with the values."""
    items = config.items() if isinstance(config, dict) else enumerate(config)
    for part, value in items:
        if isinstance(value, (dict, list)):
            yield from paths(value, f"{key}{part}.")
        elif isinstance(value, str) and value.startswith(ROOT):
            yield f"{key}{part}", value.removeprefix(ROOT)


class Grid:
    def __init__(self, args):
        self.file = load("grid.toml")
        self.scale = self.file["scale"][args.scale]
        self.folder = os.path.abspath(os.path.join(HERE, ROOT, args.scale))
        self.care = shlex.split(args.care)
        self.seeds = [int(seed) for seed in args.seeds.split(",")]
        self.given = dict(given.split("=", 1) for given in args.given)
        names = [name.strip() for name in args.rows.split(";")] if args.rows else None
        unknown = set(names or []) - {row["name"] for row in self.file["row"]}
        if unknown:
            sys.exit(f"no such rows: {', '.join(sorted(unknown))}")
        self.rows = [row for row in self.file["row"] if not names or row["name"] in names]
        self.hashes = {}

    def at(self, *parts):
        return os.path.join(self.folder, *parts)

    def content(self, path):
        """A hash of the files of a folder of the grid."""
        if path not in self.hashes:
            digest = hashlib.sha256()
            for folder, folders, names in os.walk(self.at(path), followlinks=True):
                folders.sort()
                for name in sorted(names):
                    with open(os.path.join(folder, name), "rb") as file:
                        digest.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
            if os.path.isfile(self.at(path)):
                with open(self.at(path), "rb") as file:
                    digest = hashlib.file_digest(file, "sha256")
            self.hashes[path] = digest.hexdigest()
        return self.hashes[path]

    def resolve(self, path, seed):
        """Where a path of the grid is for a seed, and what identifies its content."""
        kind, *rest = path.split("/")
        if kind != "cells":
            return self.at(path), self.content(path) if kind in ("data", "model") else ""
        if rest[0] in self.given:
            folder = os.path.abspath(os.path.join(self.given[rest[0]], *rest[1:]))
            return folder, self.content(folder)
        key = self.cell(rest[0], seed)[1]
        return self.at("cells", self.cell_folder(rest[0], seed, key), *rest[1:]), [key, rest[1:]]

    def cell_folder(self, name, seed, key):
        return f"{name}-{self.seed(name, seed)}-{key[:10]}"

    def seed(self, name, seed):
        return 1 if self.file["cell"][name].get("once") else seed

    def cell(self, name, seed):
        """The settings of a cell beside its recipe, its fingerprint and the cells that it starts from."""
        cell, seed = self.file["cell"][name], self.seed(name, seed)
        config = load(cell["recipe"])
        changes = dict(cell.get("set", {}))
        stage = config["stage"][0]
        changes |= {f"stage.0.{key}": value for key, value in self.scale.get(stage["kind"], {}).items()}
        for key, value in changes.items():
            put(config, key, value)
        del config["output"]
        settings = {key: value for key, value in changes.items() if not str(value).startswith(ROOT)}
        settings["seed"] = config["seed"] = seed
        parents, identity = [], []
        for key, path in paths(config):
            settings[key], content = self.resolve(path, seed)
            identity.append([key, content])
            parents += [path.split("/")[1]] if path.startswith("cells/") else []
        for key, _ in identity:
            put(config, key, "")
        return settings, sha256([config, identity]), parents

    def train(self, name, seed):
        if name in self.given:
            return
        settings, key, parents = self.cell(name, seed)
        for parent in parents:
            self.train(parent, seed)
        folder = self.at("cells", self.cell_folder(name, seed, key))
        if os.path.isdir(os.path.join(folder, "model")):
            return
        options = [f"{key}={toml(value)}" for key, value in {"output": folder, **settings}.items()]
        command = ["train", "--config", os.path.join(HERE, self.file["cell"][name]["recipe"])]
        command += [word for option in options for word in ("--set", option)]
        begun = os.path.exists(os.path.join(folder, "log.jsonl"))
        self.call(f"{name}, seed {seed}", command + (["--resume"] if begun else []))
        # The trained pair is what is left to use.
        shutil.rmtree(os.path.join(folder, "checkpoints"), ignore_errors=True)

    def call(self, what, command):
        start = time.time()
        print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)
        done = subprocess.run(self.care + command, stdout=subprocess.DEVNULL)
        if done.returncode:
            sys.exit(f"{what}: care ended with status {done.returncode}")
        print(f"{time.strftime('%H:%M:%S')} {what}: {time.time() - start:.0f} s", flush=True)

    def towers(self, row, seed):
        """The networks of a row, and what identifies them."""
        return [self.resolve(row[role].removeprefix(ROOT), seed) for role in ("query", "document") if role in row]

    def is_trained(self, row):
        return any(row.get(role, "").startswith(ROOT + "cells/") for role in ("query", "document"))

    def result(self, row, seed):
        """The folder of a row's result."""
        towers = [] if row["query"] == "bm25" else [content for _, content in self.towers(row, seed)]
        identity = [towers, row.get("dim"), row.get("query_layers"), self.content("data/test")]
        seed = seed if self.is_trained(row) else 1
        return self.at("results", f"{slug(row['name'])}-{seed}-{sha256(identity)[:10]}")

    def evaluate(self, row, seed):
        for role in ("query", "document"):
            if row.get(role, "").startswith(ROOT + "cells/"):
                self.train(row[role].removeprefix(ROOT).split("/")[1], seed)
        folder = self.result(row, seed)
        if os.path.exists(os.path.join(folder, "test.json")):
            return
        command = ["eval", "--task", self.at("data/test"), "--output", folder]
        if row["query"] == "bm25":
            command += ["--model", "bm25"]
        else:
            towers = [path for path, _ in self.towers(row, seed)]
            command += ["--model", towers[0], "--pooling", "mean", "--max-length", "96", "--cache", self.at("vectors")]
            command += ["--query-instruction", "query: ", "--document-instruction", "passage: "]
            command += ["--document-model", towers[1]] if len(towers) > 1 else []
            command += ["--dim", str(row["dim"])] if "dim" in row else []
            layers = ",".join(map(str, row.get("query_layers", [])))
            command += ["--query-layers", layers] if layers else []
        self.call(f"test of `{row['name']}`, seed {seed}", command)

    def run(self, model, data):
        self.prepare(model, data)
        for seed in self.seeds:
            for row in self.rows:
                if seed == self.seeds[0] or self.is_trained(row):
                    self.evaluate(row, seed)

    def prepare(self, model, data):
        """The data of the scale, and a link to the model."""
        os.makedirs(self.folder, exist_ok=True)
        if not os.path.lexists(self.at("model")):
            os.symlink(os.path.abspath(model), self.at("model"))
        if os.path.isdir(self.at("data")):
            return
        new = self.at("data.new")
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(data, new, ignore=lambda _, names: [name for name in names if name in ("dev", "cmedqq")])
        corpus, judged = f"{new}/test/corpus.jsonl", lines(f"{new}/test/qrels/test.tsv")[1:]
        judged = {line.split("\t")[1] for line in judged}
        rows = [(json.loads(line)["_id"] in judged, line) for line in lines(corpus)]
        others = [line for is_judged, line in rows if not is_judged]
        wanted = self.scale.get("documents", len(rows)) - (len(rows) - len(others))
        kept = set(others[:: max(1, len(others) // wanted)][:wanted])
        keep(corpus, [line for is_judged, line in rows if is_judged or line in kept])
        for name in os.listdir(f"{new}/align"):
            texts = lines(f"{new}/align/{name}")
            count = self.scale.get("texts", len(texts))
            keep(f"{new}/align/{name}", texts[:: max(1, len(texts) // count)][:count])
        os.rename(new, self.at("data"))


def keep(path, texts):
    os.remove(path)
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(texts)


def slug(name):
    return "-".join("".join(c if c.isalnum() else " " for c in name).split()).lower()


def options(doc):
    """The options that the grid and its table share."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="full", choices=load("grid.toml")["scale"])
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--rows", help="names of rows, separated by `;`")
    parser.add_argument("--given", action="append", default=[], metavar="CELL=DIR")
    parser.add_argument("--care", default=os.path.join(HERE, "../../target/release/care"))
    return parser


def main():
    parser = options(__doc__)
    parser.add_argument("model")
    parser.add_argument("data")
    args = parser.parse_args()
    Grid(args).run(args.model, args.data)


if __name__ == "__main__":
    main()
