#!/usr/bin/env python3
"""`care serve` under load, beside other servers of the same weights.

    pip install torch transformers sentence-transformers onnx onnxruntime fastapi "uvicorn[standard]" orjson
    cargo build --release -p care-cli && cargo build --release -p care-serve --example load
    load_peer.py throughput MODEL QUESTIONS            requests a second of every server, in turns
    load_peer.py documents MODEL QUESTIONS CORPUS      latency of questions while documents are added, and while not
    load_peer.py overload MODEL QUESTIONS              ten times as many requests as can be answered
    load_peer.py memory MODEL QUESTIONS                memory over many requests

MODEL is a Hugging Face folder with mean pooling, QUESTIONS a file of rows with `query` or `text`, CORPUS one of documents.
Each request has one question and is answered with its vector. Client and servers are on this machine and share its cores:
the client, the example `load`, is the same for all. It runs on the loopback address, and for a limited number of requests.

Peers: sentence-transformers and ONNX Runtime behind FastAPI (fastapi_server.py), with and without batching; with --tei
PROGRAM, text-embeddings-inference, built with its feature `ort`, on the same graphs; with --tei-candle PROGRAM, the same
built with its feature `candle`. Of ONNX Runtime's two int8 graphs (see inference_peer.py) both are served. Every server
has the defaults of its command line, but its log goes to a file.

Prints JSON lines. `cosine` is the lowest similarity of a vector to that of `care-f32`; `cpu_ms` is processor time of the
server per request. Ratios are of requests a second: above 1, `care serve` is faster.
"""
import argparse
import collections
import contextlib
import functools
import glob
import importlib.util
import itertools
import json
import math
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
# Of ONNX Runtime's graphs, as inference_peer.py names them.
KINDS = ("f32", "int8", "int8-fused")
Sample = collections.namedtuple("Sample", "arrived latency status")


def post(url, body, seconds=600):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return json.load(answer)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def say(**line):
    print(json.dumps(line), flush=True)


class Server:
    """A server in a process of its own."""

    def __init__(self, folder, name, command, path="/embed", environment=()):
        self.name, self.precision, port = name, "int8" if "int8" in name else "f32", str(free_port())
        self.url = f"http://127.0.0.1:{port}"
        self.path = path
        self.log = os.path.join(folder, f"{name}.log")
        with open(self.log, "wb") as log:
            command = [*command, "--port", port]
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env={**os.environ, **dict(environment)})

    def wait(self, seconds=300):
        for _ in range(seconds * 5):
            if self.process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        with open(self.log, encoding="utf-8") as log:
            sys.exit(f"{self.name} is not ready: {log.read()[-2000:]}")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def vector(self, question):
        return post(self.url + self.path, {"inputs": question})[0]

    def cpu(self):
        """Seconds of processor time."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """MB in memory now, and at most."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            fields = dict(line.split(":", 1) for line in status)
        return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))


class Bench:
    """What all measurements share."""

    def __init__(self, arguments, stack):
        self.arguments, self.stack = arguments, stack
        self.folder = stack.enter_context(tempfile.TemporaryDirectory())
        with open(arguments.questions, encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        self.questions = [row.get("query", row.get("text")) for row in rows]

    def built(self, name, given):
        target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
        return given or os.path.join(target, "release", name)

    def start(self, *what, **more):
        """Starts a server that is stopped at the end."""
        server = Server(self.folder, *what, **more)
        self.stack.callback(server.stop)
        return server

    def model_options(self):
        queries, documents = self.arguments.query_instruction, self.arguments.document_instruction
        return ["--model", self.arguments.model, "--query-instruction", queries, "--document-instruction", documents]

    def care(self, precision, *options):
        program = self.built("care", self.arguments.care)
        command = [program, "serve", *self.model_options(), "--precision", precision, *options]
        command += shlex.split(self.arguments.serve_options)
        return self.start(f"care-{precision}", command, "/query/embed")

    def fastapi(self, name, batching, graph=None):
        command = [sys.executable, os.path.join(HERE, "fastapi_server.py"), self.arguments.model]
        command += ["--instruction", self.arguments.query_instruction] + ["--graph", graph] * bool(graph)
        return self.start(name, command + ["--batching"] * batching)

    def tei(self, name, program, graph=None):
        """text-embeddings-inference, which reads a folder; a graph in it goes before weights."""
        model = os.path.join(self.folder, name)
        os.mkdir(model)
        for file in os.listdir(self.arguments.model):
            os.symlink(os.path.abspath(os.path.join(self.arguments.model, file)), os.path.join(model, file))
        if graph:
            os.symlink(graph, os.path.join(model, "model.onnx"))
        command = [program, "--model-id", model, "--pooling", "mean", "--dtype", "float32", "--auto-truncate"]
        command += ["--default-prompt", self.arguments.query_instruction, "--hostname", "127.0.0.1"]
        libraries = glob.glob(os.path.join(onnxruntime_folder(), "capi", "libonnxruntime.so*"))
        environment = {"ORT_DYLIB_PATH": library for library in libraries} | {"HF_HUB_OFFLINE": "1"}
        command += ["--prometheus-port", str(free_port())]
        return self.start(name, command, environment=environment)

    def servers(self):
        """The servers that are wanted, ready."""
        tei, candle = self.arguments.tei, self.arguments.tei_candle
        starts = {f"care-{precision}": lambda p=precision: self.care(p) for precision in ("f32", "int8")}
        for ending, batching in (("", False), ("-batching", True)):
            name = f"sentence-transformers-f32{ending}"
            starts[name] = lambda n=name, b=batching: self.fastapi(n, b)
            for kind in KINDS:
                name = f"onnxruntime-{kind}{ending}"
                starts[name] = lambda n=name, b=batching, k=kind: self.fastapi(n, b, self.graphs[k])
        for kind in KINDS if tei else ():
            name = f"tei-{kind}"
            starts[name] = lambda n=name, k=kind: self.tei(n, tei, self.graphs[k])
        if candle:
            starts["tei-candle-f32"] = lambda: self.tei("tei-candle-f32", candle)
        wanted = self.arguments.servers.split(",") if self.arguments.servers else list(starts)
        unknown = [name for name in wanted if name not in starts]
        if unknown:
            sys.exit(f"unknown servers: {', '.join(unknown)}; known: {', '.join(starts)}")
        servers = [starts[name]() for name in wanted]
        for server in servers:
            server.wait()
        return servers

    @functools.cached_property
    def graphs(self):
        """Files of ONNX Runtime's graphs, by kind."""
        sys.path.insert(0, os.path.join(ROOT, "care-encoders", "benches"))
        from inference_peer import network, onnx_graphs

        return onnx_graphs(network(self.arguments.model), self.folder)

    def drive(self, server, pattern, questions, path=None, field="inputs"):
        """Sends questions, one per request."""
        with tempfile.NamedTemporaryFile("w", dir=self.folder, encoding="utf-8") as bodies:
            bodies.writelines(json.dumps({field: question}, ensure_ascii=False) + "\n" for question in questions)
            bodies.flush()
            command = [self.built("examples/load", self.arguments.client), server.url + (path or server.path)]
            done = subprocess.run([*command, bodies.name, pattern], check=True, stdout=subprocess.PIPE, text=True)
        rows = (line.split() for line in done.stdout.splitlines())
        return [Sample(int(arrived) / 1e6, int(latency) / 1e6, int(status)) for arrived, latency, status in rows]

    def capacity(self, server):
        """Requests a second of a server with --connections connections, after it is warm."""
        pattern = f"{self.arguments.connections}x{self.arguments.probe}"
        self.drive(server, f"{self.arguments.connections}x200", self.questions)
        return rate(self.drive(server, pattern, self.questions))


def onnxruntime_folder():
    return os.path.dirname(importlib.util.find_spec("onnxruntime").origin)


def percentile(values, part):
    values = sorted(values)
    return values[max(0, math.ceil(part * len(values)) - 1)] if values else None


def milliseconds(values):
    """p50, p99 and maximum."""
    values = list(values)
    parts = {"p50_ms": percentile(values, 0.5), "p99_ms": percentile(values, 0.99), "max_ms": max(values, default=None)}
    return {name: value and round(value * 1e3, 1) for name, value in parts.items()}


def accepted(samples):
    return [sample.latency for sample in samples if sample.status == 200]


def statuses(samples):
    """Number of answers per status; 0 is none."""
    return dict(sorted(collections.Counter(sample.status for sample in samples).items()))


def seconds_of(samples):
    return max(sample.arrived + sample.latency for sample in samples) - min(sample.arrived for sample in samples)


def rate(samples):
    return len(accepted(samples)) / seconds_of(samples)


def cosine(left, right):
    return sum(a * b for a, b in zip(left, right)) / math.hypot(*left) / math.hypot(*right)


def throughput(bench):
    arguments, servers = bench.arguments, bench.servers()
    asked = list(itertools.islice(itertools.cycle(bench.questions), arguments.requests))
    probes = bench.questions[:16]
    reference = [servers[0].vector(question) for question in probes]
    agreement = {}
    for server in servers:
        vectors = map(server.vector, probes)
        agreement[server.name] = min(cosine(ours, theirs) for ours, theirs in zip(reference, vectors))
        bench.drive(server, f"{arguments.connections}x200", bench.questions[-200:])
    samples, parts, processor = ({server.name: [] for server in servers} for _ in range(3))
    each = -(-len(asked) // arguments.parts)
    for number, first in enumerate(range(0, len(asked), each)):
        part = asked[first : first + each]
        # The order alternates, so that no server always comes after the same other.
        for server in servers[:: 1 if number % 2 == 0 else -1]:
            time.sleep(1)
            before = server.cpu()
            driven = bench.drive(server, f"{arguments.connections}x{len(part)}", part)
            processor[server.name].append(server.cpu() - before)
            samples[server.name] += driven
            parts[server.name].append((len(accepted(driven)), seconds_of(driven)))
    rates = {}
    for server in servers:
        name, mine = server.name, samples[server.name]
        rates[name] = sum(answered for answered, _ in parts[name]) / sum(seconds for _, seconds in parts[name])
        say(
            server=name, requests_per_s=round(rates[name], 1), **milliseconds(accepted(mine)), statuses=statuses(mine),
            cpu_ms=round(sum(processor[name]) / len(mine) * 1e3, 2), cosine=round(agreement[name], 5),
            parts=[round(answered / seconds, 1) for answered, seconds in parts[name]],
        )
    for precision in ("f32", "int8"):
        care = f"care-{precision}"
        peers = {server.name: rates[server.name] for server in servers if server.precision == precision}
        ours = peers.pop(care, None)
        if ours and peers:
            say(precision=precision, ratios={name: round(ours / theirs, 2) for name, theirs in peers.items()})


def documents(bench):
    arguments = bench.arguments
    with open(arguments.corpus, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    first, rest = rows[: arguments.indexed], iter(rows[arguments.indexed :])
    corpus, index = (os.path.join(bench.folder, name) for name in ("corpus.jsonl", "index"))
    with open(corpus, "w", encoding="utf-8") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in first)
    program = bench.built("care", arguments.care)
    options = [*bench.model_options(), "--precision", arguments.precision]
    subprocess.run([program, "index", "build", *options, "--index", index, "--corpus", corpus], check=True)
    server = bench.care(arguments.precision, "--index", index)
    server.wait()
    capacity = bench.capacity(server)
    patterns = {"closed": f"{arguments.connections}x{int(capacity * arguments.seconds)}"}
    for part in (0.25, 0.5):
        patterns[f"{part} of capacity"] = f"{capacity * part}:{arguments.seconds}@{arguments.connections}"
    if arguments.patterns:
        patterns = {name: pattern for name, pattern in patterns.items() if name in arguments.patterns.split(",")}
    routes = {"embed": (server.path, "inputs"), "search": ("/search", "query")}
    for (load, pattern), (route, (path, field)) in itertools.product(patterns.items(), routes.items()):
        without, beside, took = [], [], []
        for number in range(arguments.rounds):
            without += bench.drive(server, pattern, bench.questions, path, field)
            added = [{"id": row["_id"], "text": row["text"]} for row in itertools.islice(rest, arguments.documents)]
            times = []

            def add():
                # After the client has begun.
                time.sleep(2)
                for at in range(0, len(added), arguments.documents_per_request):
                    times.append(time.monotonic())
                    post(f"{server.url}/documents", {"documents": added[at : at + arguments.documents_per_request]})
                times.append(time.monotonic())

            adding = threading.Thread(target=add)
            begun = time.monotonic()
            adding.start()
            samples = bench.drive(server, pattern, bench.questions, path, field)
            adding.join()
            took.append(round(times[-1] - times[0], 1))
            beside += [sample for sample in samples if times[0] - begun <= sample.arrived <= times[-1] - begun]
        alone, loaded = milliseconds(accepted(without)), milliseconds(accepted(beside))
        say(
            load=load, route=route, requests_per_s=round(capacity, 1), without=alone, beside=loaded, seconds_to_add=took,
            questions=len(beside), statuses=statuses(without + beside),
            **{name: loaded[f"{name}_ms"] and round(loaded[f"{name}_ms"] / alone[f"{name}_ms"], 2) for name in ("p50", "p99")},
        )


def overload(bench):
    arguments = bench.arguments
    server = bench.care(arguments.precision)
    server.wait()
    capacity = bench.capacity(server)
    phases = [(capacity / 2, 10), (capacity * arguments.times, 20), (capacity / 2, 20)]
    pattern = ",".join(f"{rate}:{seconds}" for rate, seconds in phases) + f"@{arguments.overload_connections}"
    samples = bench.drive(server, pattern, bench.questions)
    starts = [0, 10, 30, math.inf]
    split = [[s for s in samples if start <= s.arrived < end] for start, end in itertools.pairwise(starts)]
    for name, (offered, _), part in zip(("before", "overload", "after"), phases, split):
        refused = [sample.latency for sample in part if sample.status in (429, 503)]
        ends = [sample.arrived + sample.latency for sample in part if sample.status == 200]
        say(
            phase=name, offered_per_s=round(offered, 1), statuses=statuses(part), accepted=milliseconds(accepted(part)),
            refused=milliseconds(refused), accepted_per_s=round(len(ends) / (max(ends) - part[0].arrived), 1),
        )
    usual = 2 * percentile(accepted(split[0]), 0.99)
    late = [sample.arrived for sample in split[2] if sample.status != 200 or sample.latency > usual]
    answered = max(sample.arrived + sample.latency for sample in split[1])
    say(
        capacity_per_s=round(capacity, 1), only_200_429_503=set(statuses(samples)) <= {200, 429, 503},
        last_of_overload_answered_after_s=round(answered - starts[2], 2),
        usual_again_after_s=round(max(late, default=starts[2]) - starts[2], 2),
    )


def memory(bench):
    arguments = bench.arguments
    server = bench.care(arguments.precision)
    server.wait()
    begun, asked = time.monotonic(), iter(itertools.cycle(bench.questions))
    say(requests=0, rss_mb=round(server.memory()[0], 1))
    for done in range(arguments.every, arguments.requests + 1, arguments.every):
        part = list(itertools.islice(asked, arguments.every))
        samples = bench.drive(server, f"{arguments.connections}x{len(part)}", part)
        now, most = server.memory()
        say(
            requests=done, rss_mb=round(now, 1), peak_mb=round(most, 1), statuses=statuses(samples),
            requests_per_s=round(rate(samples), 1), seconds=round(time.monotonic() - begun),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = {"throughput": throughput, "documents": documents, "overload": overload, "memory": memory}
    parser.add_argument("what", choices=what)
    parser.add_argument("model")
    parser.add_argument("questions")
    parser.add_argument("corpus", nargs="?")
    parser.add_argument("--query-instruction", default="query: ")
    parser.add_argument("--document-instruction", default="passage: ")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--requests", type=int, help="20,000; of memory 200,000")
    parser.add_argument("--parts", type=int, default=4, help="turns of each server")
    parser.add_argument("--servers", help="names of servers, with commas between; all by default")
    parser.add_argument("--precision", default="f32", help="of `care serve`, except in throughput")
    parser.add_argument("--probe", type=int, default=2000, help="requests by which the capacity is measured")
    parser.add_argument("--rounds", type=int, default=3, help="how often documents are added per row")
    parser.add_argument("--seconds", type=int, default=30, help="length of a round without documents, and of one with them")
    parser.add_argument("--patterns", help="kinds of load for documents, with commas between; all by default")
    parser.add_argument("--indexed", type=int, default=200, help="documents that are in the index at the start")
    parser.add_argument("--documents", type=int, default=150, help="documents that are added")
    parser.add_argument("--documents-per-request", type=int, default=150)
    parser.add_argument("--times", type=float, default=10, help="overload: the capacity by so much")
    parser.add_argument("--overload-connections", type=int, default=900)
    parser.add_argument("--every", type=int, default=20_000, help="requests between two lines of memory")
    parser.add_argument("--serve-options", default="", help='of `care serve`, e.g. "--max-concurrent-requests 128"')
    parser.add_argument("--care", help="the program, already built")
    parser.add_argument("--client", help="the example `load`, already built")
    parser.add_argument("--tei", help="text-embeddings-inference with its feature `ort`")
    parser.add_argument("--tei-candle", help="text-embeddings-inference with its feature `candle`")
    arguments = parser.parse_args()
    if arguments.what == "documents" and not arguments.corpus:
        parser.error("documents needs CORPUS")
    arguments.requests = arguments.requests or (200_000 if arguments.what == "memory" else 20_000)
    # So that servers are stopped then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with contextlib.ExitStack() as stack:
        what[arguments.what](Bench(arguments, stack))


if __name__ == "__main__":
    main()
