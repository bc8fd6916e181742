#!/usr/bin/env python3
"""Tests of grid.py and table.py with a program in the place of `care` that trains nothing: python3 test_grid.py"""
import argparse
import json
import os
import sys
import tempfile
import unittest

import grid
import table

# Notes its arguments; `train` dies once if the file `kill` is there, else writes a pair; `eval` writes a result.
CARE = """
import json, os, sys
here, args = sys.argv[1], sys.argv[2:]
with open(here + "/calls", "a") as file:
    file.write(json.dumps(args) + "\\n")
if args[0] == "train":
    output = next(json.loads(arg[7:]) for arg in args if arg.startswith("output="))
    os.makedirs(output, exist_ok=True)
    open(output + "/log.jsonl", "a").close()
    if os.path.exists(here + "/kill"):
        os.remove(here + "/kill")
        os.kill(os.getpid(), 9)
    for tower in ("query", "document"):
        folder = f"{output}/model/{tower}_0_Transformer"
        os.makedirs(folder)
if args[0] == "eval":
    folder = args[args.index("--output") + 1]
    os.makedirs(folder)
    score = 0.25 if folder.split("-")[-2] == "1" else 0.75
    result = {"scores": {"test": [{"main_score": score, "recall_at_100": score}]},
              "care": {"evidence": {"queries": {"a": score, "b": score}}}}
    with open(folder + "/test.json", "w") as file:
        json.dump(result, file)
"""


class Tests(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        with open(self.at("care.py"), "w") as file:
            file.write(CARE)
        for path, text in (("test/corpus.jsonl", '{"_id": "x"}\n{"_id": "y"}\n'), ("test/queries.jsonl", ""),
                           ("test/qrels/test.tsv", "head\na\tx\t1\n"), ("align/align-queries.jsonl", "{}\n" * 300),
                           ("train/train.jsonl", ""), ("dev/queries.jsonl", "")):
            os.makedirs(os.path.dirname(self.at(f"data/{path}")), exist_ok=True)
            with open(self.at(f"data/{path}"), "w") as file:
                file.write(text)
        os.makedirs(self.at("model"))

    def at(self, name):
        return os.path.join(self.folder, name)

    def grid(self, rows, seeds="1"):
        care = f"{sys.executable} {self.at('care.py')} {self.folder}"
        args = argparse.Namespace(scale="tiny", care=care, seeds=seeds, rows=rows, given=[])
        made = grid.Grid(args)
        made.folder = self.at("runs")
        return made

    def run_grid(self, made):
        """The commands that a run calls: the first word, and for trainings the name of the cell, `+` if it resumes."""
        if os.path.exists(self.at("calls")):
            os.remove(self.at("calls"))
        failed = False
        try:
            made.run(self.at("model"), self.at("data"))
        except SystemExit:
            failed = True
        calls = []
        for line in grid.lines(self.at("calls")) if os.path.exists(self.at("calls")) else []:
            args = json.loads(line)
            outputs = [os.path.basename(json.loads(arg[7:])) for arg in args if arg.startswith("output=")]
            calls.append(outputs[0].rsplit("-", 1)[0] + ("+" if "--resume" in args else "") if outputs else args[0])
        return calls + (["failed"] if failed else [])

    def test_a_finished_cell_is_kept_and_a_killed_one_resumes(self):
        rows = "both stages, the paper's order;stage 1 only"
        open(self.at("kill"), "w").close()
        self.assertEqual(self.run_grid(self.grid(rows)), ["stage1-1", "failed"])
        self.assertEqual(self.run_grid(self.grid(rows)), ["stage1-1+", "both-1", "eval", "eval"])
        self.assertEqual(self.run_grid(self.grid(rows)), [])
        self.assertEqual(self.run_grid(self.grid(rows, "1,2")), ["stage1-2", "both-2", "eval", "eval"])
        changed = self.grid(rows)
        changed.file["cell"]["both"]["set"] = {"stage.0.learning_rate": 1e-5}
        self.assertEqual(self.run_grid(changed), ["both-1", "eval"])

    def test_a_change_concerns_the_cells_that_start_from_it_and_seeds_all_but_those_made_once(self):
        def keys(seed=1, **changes):
            made = self.grid(None)
            made.prepare(self.at("model"), self.at("data"))
            for name, rate in changes.items():
                made.file["cell"][name]["set"] = {"stage.0.learning_rate": rate}
            return {name: made.cell(name, seed)[1] for name in made.file["cell"]}

        before = keys()
        self.assertEqual({name for name, key in keys(stage1=1e-5).items() if key != before[name]}, {"stage1", "both"})
        self.assertEqual({name for name, key in keys(seed=2).items() if key == before[name]}, {"half"})
        self.assertEqual(len(set(before.values())), len(before))

    def test_a_row_is_the_mean_over_its_seeds(self):
        made = self.grid("stage 1 only", "1,2,3")
        self.run_grid(self.grid("stage 1 only", "1,2"))
        result, seeds, _ = table.average(made, made.rows[0])
        self.assertEqual(seeds, [0.25, 0.75])
        self.assertEqual(result["care"]["evidence"]["queries"], {"a": 0.5, "b": 0.5})
        self.assertEqual(result["scores"]["test"][0]["main_score"], 0.5)

    def test_values_are_written_as_toml(self):
        import tomllib
        value = {"loss": [{"kind": "info-nce", "temperature": 0.1, "dims": [64, 384]}], "path": 'a "b" \\ 病', "yes": True}
        self.assertEqual(tomllib.loads(f"value = {grid.toml(value)}")["value"], value)


if __name__ == "__main__":
    unittest.main()
