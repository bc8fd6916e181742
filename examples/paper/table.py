#!/usr/bin/env python3
"""The table of the paper's comparisons, from the results of grid.py; needs only Python 3.11 and `care`.

    table.py cost  [--scale full]
    table.py write [--scale full] [--seeds 1,2,3] [--published] [--baseline NAME]

`cost` measures the processor time of a query, which other work on the machine changes little. `write` writes table.md, table.tex and
table.csv to runs/paper/SCALE: nDCG@10 of the questions, averaged over the seeds, with 95 % intervals from bootstrap samples of
the questions, and the paired test against the baseline from `care report`. --published adds the scores that the paper reports.
--rows, --given and --care are as in grid.py.
"""
import csv
import json
import os
import struct
import subprocess
import sys

from grid import HERE, Grid, lines, options, read, slug

sys.path.insert(0, os.path.join(HERE, "../toyhom"))
from triplets import interval  # noqa: E402


def size(folder):
    """Layers of a network, and millions of parameters: of all of it, of its token table, and of a layer."""
    with open(os.path.join(folder, "model.safetensors"), "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    counts = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            counts[name] = 1
            for of in tensor["shape"]:
                counts[name] *= of
    layers = read(os.path.join(folder, "config.json"))["num_hidden_layers"]
    millions = lambda part: sum(count for name, count in counts.items() if part in name) / 1e6
    return layers, millions(""), millions("word_embeddings"), millions("encoder.layer.") / layers


def cost(grid):
    """Milliseconds of processor time per query for each number of layers: the test questions in one call, less a call with
    one question; the median of five."""
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
                before = os.times()
                subprocess.run(grid.care + command, check=True, capture_output=True)
                after = os.times()
                times.append(sum(after[2:4]) - sum(before[2:4]))
            seconds[count] = sorted(times)[2]
        found[size(folder)[0]] = 1000 * (seconds[len(questions)] - seconds[1]) / (len(questions) - 1)
        print(f"{size(folder)[0]} layers: {found[size(folder)[0]]:.2f} ms of processor time per query", flush=True)
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
    seeds = [of["main_score"] for of in scores]
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
    return result, seeds, folder


# Columns of table.csv for a row; for a published score `data` to `source` are filled.
FIELDS = ["method", "query_layers", "parameters", "parameters_without_tokens", "cpu_ms_per_query", "score", "low", "high", "seeds",
          "lowest_seed", "highest_seed", "recall@100", "difference", "difference_low", "difference_high", "p", "p_holm", "data",
          "measure", "source"]


def table(grid, published, baseline):
    averages = [(row, of) for row in grid.rows if (of := average(grid, row))]
    averages.sort(key=lambda pair: pair[0]["name"] != baseline)
    if not averages or averages[0][0]["name"] != baseline:
        sys.exit(f"the baseline `{baseline}` has no result yet; --baseline takes another row")
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
        layers, every, tokens, layer = size(grid.towers(row, grid.seeds[0])[0][0])
        kept = len(row["query_layers"]) if "query_layers" in row else layers
        every -= (layers - kept) * layer
        line |= {"query_layers": kept, "parameters": every, "parameters_without_tokens": every - tokens,
                 "cpu_ms_per_query": times.get(str(kept), "")}
    names = {"difference": "difference", "difference_low": "low", "difference_high": "high", "p": "p", "p_holm": "p_holm"}
    return line | {key: compared[of] for key, of in names.items()}


HEADER = ["method", "layers", "parameters, M", "CPU ms/query", "nDCG@10", "95 % interval", "seeds", "recall@100", "difference",
          "95 % interval", "p (Holm)"]


def cells(line):
    """A row as people read it."""
    number = lambda key, form: format(float(line[key]), form) if line.get(key, "") != "" else "–"
    of = [line["method"], str(line.get("query_layers", "–")), number("parameters", ".1f"), number("cpu_ms_per_query", ".2f"),
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
    parser = options(__doc__)
    parser.add_argument("command", choices=["cost", "write"])
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--baseline", help="name of a row; by default the one that grid.toml marks")
    args = parser.parse_args()
    grid = Grid(args)
    if args.command == "cost":
        return cost(grid)
    table(grid, args.published, args.baseline or next(row["name"] for row in grid.file["row"] if row.get("baseline")))


if __name__ == "__main__":
    main()
