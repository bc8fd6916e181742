#!/usr/bin/env python3
"""Kills workers on an S3-compatible server again and again: every row is encoded once.

    cargo build --release -p care-cli --features s3
    pip install "moto[server]" boto3 numpy
    s3_faults.py CARE MODEL CORPUS [--workers 4] [--kills 100] [--shard-rows 100] [--lease 3] [-- OPTION ..]

CARE is the program, MODEL what its `--model` takes, CORPUS a JSON Lines file with `_id` and `text`, OPTIONs are the
model's. The server is moto's, in this process on the loopback address; corpus and job are in its bucket. Workers are
ended by SIGKILL at random moments and replaced. At the end `verify` must find nothing, the merged vectors must be those of
`care embed` bit by bit, and after a byte is flipped, a shard is removed or a marker is torn, `verify` must say so.
"""
import argparse
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time

import boto3
import numpy as np
from moto.server import ThreadedMotoServer

BUCKET = "corpus"
JOB = f"s3://{BUCKET}/job"


def call(args, *command, model=True, check=True):
    line = [args.care, *command, *(["--model", args.model, *args.options] if model else [])]
    done = subprocess.run(line, env=args.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if check and done.returncode:
        sys.exit(f"{' '.join(line)} failed:\n{done.stderr}")
    return done


def work(args):
    line = [args.care, "encode", "work", "--job", JOB, "--lease", str(args.lease), "--model", args.model, *args.options]
    return subprocess.Popen(line, env=args.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def encode(args):
    """Lets workers encode, of which one after the other is killed; returns how many were killed."""
    draw, workers, killed = random.Random(args.seed), [work(args) for _ in range(args.workers)], 0
    while workers:
        time.sleep(draw.uniform(0.05, args.pause))
        for worker in [worker for worker in workers if worker.poll() is not None]:
            if worker.returncode:
                sys.exit(f"a worker failed: {worker.stderr.read().decode()}")
            workers.remove(worker)
        if workers and killed < args.kills:
            victim = draw.choice(workers)
            if victim.poll() is None:
                victim.kill()
                victim.wait()
                killed += 1
                workers.remove(victim)
                workers.append(work(args))
    return killed


def damage(args, s3):
    """What `verify` says of three faults, each of which is mended again."""
    objects = [found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET, Prefix="job/")["Contents"]]
    vectors = next(key for key in objects if "/vectors/" in key)
    marker = next(key for key in objects if "/commits/" in key)
    for what, key, change in (
        ("a flipped byte", vectors, lambda body: body[:99] + bytes([body[99] ^ 4]) + body[100:]),
        ("missing vectors", vectors, lambda body: None),
        ("a torn marker", marker, lambda body: body[: len(body) // 2]),
    ):
        body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        changed = change(body)
        if changed is None:
            s3.delete_object(Bucket=BUCKET, Key=key)
        else:
            s3.put_object(Bucket=BUCKET, Key=key, Body=changed)
        found = call(args, "encode", "verify", "--job", JOB, model=False, check=False)
        assert found.returncode, f"{what} was not found"
        s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        print(json.dumps({"fault": what, "verify": found.stderr.strip().splitlines()[-1]}, ensure_ascii=False), flush=True)
    call(args, "encode", "verify", "--job", JOB, model=False)


def main(args, folder):
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    secrets = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    endpoint = f"http://{host}:{port}"
    args.env = {**os.environ, **secrets, "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "RAYON_NUM_THREADS": "1"}
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
    s3.create_bucket(Bucket=BUCKET)
    s3.upload_file(args.corpus, BUCKET, "documents/corpus.jsonl")
    call(args, "encode", "plan", "--input", f"s3://{BUCKET}/documents/", "--job", JOB, "--dtype", "f32",
         "--shard-rows", str(args.shard_rows))
    start = time.perf_counter()
    killed = encode(args)
    took = time.perf_counter() - start
    call(args, "encode", "verify", "--job", JOB, "--texts", model=False)
    merged, embedded = f"{folder}/merged.npy", f"{folder}/embedded.npy"
    call(args, "encode", "merge", "--job", JOB, "--output", merged, model=False)
    call(args, "embed", "--role", "document", "--input", args.corpus, "--output", embedded)
    left, right = np.load(merged), np.load(embedded)
    assert left.shape == right.shape and left.tobytes() == right.tobytes(), "the vectors differ"
    print(json.dumps({"rows": len(left), "killed": killed, "s": round(took, 1), "equal": True}), flush=True)
    damage(args, s3)
    server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("care")
    parser.add_argument("model")
    parser.add_argument("corpus")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--shard-rows", type=int, default=100)
    parser.add_argument("--lease", type=int, default=3)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between kills, at most")
    parser.add_argument("--seed", type=int, default=1)
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments = parser.parse_args(sys.argv[1:at])
    arguments.options = sys.argv[at + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        main(arguments, folder)
