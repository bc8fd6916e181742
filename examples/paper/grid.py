#!/usr/bin/env python3
"""The paper's table: trains and evaluates the grid of grid.toml, and writes its table; needs only Python 3.11 and `care`.

    grid.py run MODEL DATA [--scale full] [--seeds 1,2,3] [--rows NAME,..]
    grid.py cost  [--scale full]
    grid.py table [--scale full] [--seeds 1,2,3] [--published]

MODEL is a folder of multilingual-e5-small, DATA the folder that ../toyhom/prepare.py writes. Everything goes to
runs/paper/SCALE. A cell is identified by its settings, its seed, its data and the cells it starts from: a finished one is not
computed again, an interrupted one resumes, and one whose settings have changed is a new one. --care is the program, with
words before it if need be: --care "nice -n 10 target/release/care".

`cost` measures what a query costs; run it on a machine that does nothing else. `table` writes table.md, table.tex and
table.csv: nDCG@10 of the questions, averaged over the seeds, with 95 % intervals from bootstrap samples of the questions, and
the paired test against the baseline from `care report`.
"""
import argparse
import csv
import hashlib
import json
import os
import shlex
import shutil
import struct
import subprocess
import sys
import time
import tomllib

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../toyhom"))
from triplets import interval  # noqa: E402

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


def size(folder):
    """Layers of a network, and its parameters in millions: all, and without the token table."""
    with open(os.path.join(folder, "model.safetensors"), "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    counts = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            counts[name] = 1
            for of in tensor["shape"]:
                counts[name] *= of
    table = sum(count for name, count in counts.items() if "word_embeddings" in name)
    layers = read(os.path.join(folder, "config.json"))["num_hidden_layers"]
    return layers, sum(counts.values()) / 1e6, (sum(counts.values()) - table) / 1e6


def cost(grid):
    """Milliseconds per query of each number of layers: the test questions in one call, less a call with one question."""
    questions = [json.loads(line)["text"] for line in lines(grid.at("data/test/queries.jsonl"))]
    found = {}
    for row in grid.rows:
        if row["query"] == "bm25" or "query_layers" in row:
            continue
        folder = grid.towers(row, grid.seeds[0])[0][0]
        if not os.path.isdir(folder) or size(folder)[0] in found:
            continue
        seconds = {}
        for count in (1, len(questions)):
            source = grid.at("cost.txt")
            with open(source, "w", encoding="utf-8") as file:
                file.writelines(text.replace("\n", " ") + "\n" for text in questions[:count])
            command = ["embed", "--model", folder, "--pooling", "mean", "--max-length", "96", "--role", "query"]
            command += ["--instruction", "query: ", "--input", source, "--output", grid.at("cost.npy")]
            times = []
            for _ in range(5):
                start = time.perf_counter()
                subprocess.run(grid.care + command, check=True, capture_output=True)
                times.append(time.perf_counter() - start)
            seconds[count] = sorted(times)[2]
        found[size(folder)[0]] = 1000 * (seconds[len(questions)] - seconds[1]) / (len(questions) - 1)
        print(f"{size(folder)[0]} layers: {found[size(folder)[0]]:.2f} ms per query", flush=True)
    with open(grid.at("cost.json"), "w", encoding="utf-8") as file:
        json.dump(found, file)


def average(grid, row):
    """The result of a row, averaged over the seeds that are there: the file of one, with the means in it."""
    files = [os.path.join(grid.result(row, seed), "test.json") for seed in grid.seeds]
    files = [file for file in dict.fromkeys(files) if os.path.exists(file)]
    if not files:
        return None
    found = [read(file) for file in files]
    mean = lambda values: sum(values) / len(values)
    scores = [file["scores"]["test"][0] for file in found]
    queries = [file["care"]["evidence"]["queries"] for file in found]
    result = found[0]
    for key, value in scores[0].items():
        if isinstance(value, float):
            result["scores"]["test"][0][key] = mean([of[key] for of in scores])
    result["care"]["evidence"]["queries"] = {key: mean([of[key] for of in queries]) for key in queries[0]}
    folder = grid.at("mean", slug(row["name"]))
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "test.json"), "w", encoding="utf-8") as file:
        json.dump(result, file)
    return result, [of["main_score"] for of in scores], folder


# Columns of table.csv for a row; for a published score `data` to `source` are filled.
FIELDS = ["method", "query_layers", "parameters", "parameters_without_tokens", "ms_per_query", "score", "low", "high", "seeds",
          "lowest_seed", "highest_seed", "recall@100", "difference", "difference_low", "difference_high", "p", "p_holm", "data",
          "measure", "source"]


def table(grid, published):
    averages = [(row, of) for row in grid.rows if (of := average(grid, row))]
    averages.sort(key=lambda pair: not pair[0].get("baseline"))
    if not averages or not averages[0][0].get("baseline"):
        sys.exit("the baseline has no result yet")
    folders = [f"{row['name']}={folder}" for row, (_, _, folder) in averages]
    command = grid.care + ["report", *folders, "--output", grid.at("report")] + (["--published"] if published else [])
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    with open(grid.at("report/summary.csv"), encoding="utf-8", newline="") as file:
        tested = list(csv.DictReader(file))
    compared = {line["model"]: line for line in tested if line["source"] == "measured"}
    times = read(grid.at("cost.json")) if os.path.exists(grid.at("cost.json")) else {}
    rows = [fields(grid, row, of, compared[row["name"]], times) for row, of in averages]
    others = [line for line in tested if line["source"] != "measured"]
    shown = [[HEADER, *map(cells, rows)]] + ([pivot(others)] if others else [])
    note = f"{others[0]['source']}. Other data, so not to be compared with the rows above" if others else ""
    for name, text in (("md", markdown(shown, note)), ("tex", latex(shown, note))):
        with open(grid.at(f"table.{name}"), "w", encoding="utf-8") as file:
            file.write(text)
    with open(grid.at("table.csv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        for line in others:
            keys = {"method": "model", "score": "score", "data": "task", "measure": "measure", "source": "source"}
            writer.writerow({key: line[of] for key, of in keys.items()})
    print(markdown(shown, note), end="")


def fields(grid, row, of, compared, times):
    """What table.csv says of a row."""
    result, seeds, _ = of
    main = result["scores"]["test"][0]
    low, high = interval(list(result["care"]["evidence"]["queries"].values())).strip("[]").split(", ")
    line = {"method": row["name"], "score": main["main_score"], "low": low, "high": high, "seeds": len(seeds),
            "lowest_seed": min(seeds), "highest_seed": max(seeds), "recall@100": main["recall_at_100"], "data": "test",
            "measure": "ndcg@10", "source": "measured"}
    if row["query"] != "bm25":
        layers, every, inner = size(grid.towers(row, grid.seeds[0])[0][0])
        kept = len(row["query_layers"]) if "query_layers" in row else layers
        line |= {"query_layers": kept, "parameters": every - inner * (1 - kept / layers),
                 "parameters_without_tokens": inner * kept / layers, "ms_per_query": times.get(str(kept), "")}
    names = {"difference": "difference", "difference_low": "low", "difference_high": "high", "p": "p", "p_holm": "p_holm"}
    return line | {key: compared[of] for key, of in names.items()}


HEADER = ["method", "layers", "parameters, M", "ms/query", "nDCG@10", "95 % interval", "seeds", "recall@100", "difference",
          "95 % interval", "p (Holm)"]


def cells(line):
    """A row as people read it."""
    number = lambda key, form: format(float(line[key]), form) if line.get(key, "") != "" else "–"
    of = [line["method"], str(line.get("query_layers", "–")), number("parameters", ".1f"), number("ms_per_query", ".2f"),
          number("score", ".4f"), f"{line['low']} to {line['high']}", str(line["seeds"]), number("recall@100", ".3f")]
    if line["seeds"] > 1:
        of[6] += f": {number('lowest_seed', '.4f')} to {number('highest_seed', '.4f')}"
    if line["difference"] == "":
        return of + ["", "", ""]
    holm = "< 0.001" if float(line["p_holm"]) < 0.001 else number("p_holm", ".3f")
    return of + [number("difference", "+.4f"), f"{number('difference_low', '+.4f')} to {number('difference_high', '+.4f')}", holm]


def pivot(others):
    """Published scores in per cent: one row per model, one column per measure."""
    columns = list(dict.fromkeys(f"{line['task']} {line['measure']}" for line in others))
    scores = {(line["model"], f"{line['task']} {line['measure']}"): f"{100 * float(line['score']):.2f}" for line in others}
    models = dict.fromkeys(line["model"] for line in others)
    return [["published", *columns]] + [[model] + [scores.get((model, column), "–") for column in columns] for model in models]


def markdown(tables, note):
    texts = ["".join("| " + " | ".join(row) + " |\n" for row in [head, ["---"] * len(head), *rows]) for head, *rows in tables]
    return f"\nP{note[1:]}.\n\n".join(texts)


def latex(tables, note):
    marks = {"%": r"\%", "<": "$<$", "–": "--", "_": r"\_", "&": r"\&", "#": r"\#"}
    line = lambda row: " & ".join("".join(marks.get(c, c) for c in cell) for cell in row) + " \\\\\n"
    texts = ["\\begin{tabular}{l" + "r" * (len(head) - 1) + "}\n\\toprule\n" + line(head) + "\\midrule\n"
             + "".join(map(line, rows)) + "\\bottomrule\n\\end{tabular}\n" for head, *rows in tables]
    return "% needs the package booktabs\n" + f"\n% {note}\n".join(texts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "cost", "table"):
        command = commands.add_parser(name)
        if name == "run":
            command.add_argument("model")
            command.add_argument("data")
        if name == "table":
            command.add_argument("--published", action="store_true")
        command.add_argument("--scale", default="full", choices=load("grid.toml")["scale"])
        command.add_argument("--seeds", default="1,2,3")
        command.add_argument("--rows", help="names of rows, separated by `;`")
        command.add_argument("--care", default=os.path.join(HERE, "../../target/release/care"))
    args = parser.parse_args()
    grid = Grid(args)
    match args.command:
        case "run":
            grid.run(args.model, args.data)
        case "cost":
            cost(grid)
        case "table":
            table(grid, args.published)


if __name__ == "__main__":
    main()
