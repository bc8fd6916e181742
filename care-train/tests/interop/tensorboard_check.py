#!/usr/bin/env python3
"""Reads the event files of a run as TensorBoard does, and compares them with the run's log.

    pip install tensorboard
    python3 care-train/tests/interop/tensorboard_check.py OUTPUT...
    python3 care-train/tests/interop/tensorboard_check.py --golden

OUTPUT is the folder of a run of `care train`, finished or not. Without differences it prints a line for each stage and
exits with 0. With --golden it prints the bytes that the unit test of care-train/src/tensorboard.rs expects, as written by
TensorBoard's own encoder.
"""

import io
import json
import struct
import sys
from collections import defaultdict
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter


def expected(output: Path) -> dict:
    """The scalars of a run's log: by stage and tag, the time, step and value of each."""
    found = defaultdict(lambda: defaultdict(list))
    for line in (output / "log.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        scalars = {}
        if row["event"] == "step":
            scalars["train/loss"] = row["loss"]
            scalars.update({f"train/loss/{name}": value for name, value in row["losses"].items()})
            scalars["train/learning_rate"] = row["learning_rate"]
            scalars["train/grad_norm"] = row["gradient_norm"]
            scalars["train/tokens_per_second"] = row["tokens"] / row["seconds"]
        else:
            if row["score"] is not None:
                scalars[f"{row['split']}/{row['measure']}"] = row["score"]
            if len(row["scores"]) + len(row.get("undefined", {})) > 1:
                scalars.update({f"{row['split']}/{task}": value for task, value in row["scores"].items()})
        for tag, value in scalars.items():
            value = struct.unpack("<f", struct.pack("<f", value))[0]
            found[row["stage"]][tag].append((row["time"], row["step"], value))
    return found


def compare(output: Path) -> bool:
    log = expected(output)
    folders = sorted((output / "tensorboard").iterdir())
    same = [folder.name for folder in folders] == [f"stage-{stage:04}" for stage in sorted(log)]
    if not same:
        print(f"{output}: stages {sorted(log)} in the log, folders {[folder.name for folder in folders]}")
    for folder in folders:
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        tags = log[int(folder.name.removeprefix("stage-"))]
        scalars = lambda tag: [(event.wall_time, event.step, event.value) for event in events.Scalars(tag)]
        read = {tag: scalars(tag) for tag in events.Tags()["scalars"]}
        for tag in sorted(tags.keys() | read.keys()):
            if tags.get(tag) != read.get(tag):
                print(f"{folder}: `{tag}` differs: {tags.get(tag)} in the log, {read.get(tag)} in the event file")
                same = False
        steps = len(tags.get("train/loss", []))
        print(f"{folder}: {len(read)} tags, {steps} steps")
    return same


def golden() -> None:
    value = summary_pb2.Summary.Value
    values = [value(tag="train/loss", simple_value=0.75), value(tag="dev/开发集", simple_value=-1.5)]
    for event in [
        event_pb2.Event(wall_time=1.8e9, file_version="brain.Event:2"),
        event_pb2.Event(wall_time=1.8e9, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START)),
        event_pb2.Event(wall_time=1.8e9, step=300, summary=summary_pb2.Summary(value=values)),
    ]:
        written = io.BytesIO()
        RecordWriter(written).write(event.SerializeToString())
        print(written.getvalue().hex())


if __name__ == "__main__":
    if sys.argv[1:] == ["--golden"]:
        golden()
    else:
        sys.exit(not all([compare(Path(output)) for output in sys.argv[1:]]))
