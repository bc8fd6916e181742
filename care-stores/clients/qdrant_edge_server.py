"""Qdrant's engine behind the part of its REST interface that care-stores uses, for machines without a Qdrant server.

    pip install qdrant-edge-py qdrant-client
    python qdrant_edge_server.py 6333 FOLDER &
    CARE_TEST_QDRANT=http://127.0.0.1:6333 cargo test -p care-stores --features qdrant --test qdrant

Points are stored, filtered and scored by qdrant-edge, which is the server's own segment code in a library. Every body is checked
with the models of Qdrant's Python client, which are made from the server's OpenAPI description. Routes, status codes and the
metadata of collections are this script's, so it is no proof of what the server's HTTP layer does.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import qdrant_edge as edge
from pydantic import ValidationError
from qdrant_client.http import models

FOLDER = Path(sys.argv[2])
COLLECTIONS = {}
LOCK = threading.Lock()
TYPES = {"float32": edge.VectorStorageDatatype.Float32, "float16": edge.VectorStorageDatatype.Float16}


class Refused(Exception):
    def __init__(self, status, problem):
        super().__init__(problem)
        self.status = status


def create(name, body):
    models.CreateCollection(**body)
    if name in COLLECTIONS:
        raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
    vectors = body["vectors"]
    params = edge.EdgeVectorParams(
        size=vectors["size"], distance=getattr(edge.Distance, vectors["distance"]), datatype=TYPES[vectors["datatype"]]
    )
    folder = FOLDER / name
    folder.mkdir(parents=True)
    COLLECTIONS[name] = (edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors=params)), body)
    return True


def info(shard, created):
    state = shard.info()
    return {
        "status": "green",
        "optimizer_status": "ok",
        "points_count": state.points_count,
        "segments_count": state.segments_count,
        "payload_schema": {},
        "config": {
            "params": {"vectors": created["vectors"]},
            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
            "optimizer_config": {"deleted_threshold": 0.2, "vacuum_min_vector_number": 1000, "default_segment_number": 0,
                                 "flush_interval_sec": 5},
            "metadata": created.get("metadata"),
        },
    }


def as_list(conditions):
    if conditions is None:
        return None
    return [condition(one) for one in (conditions if isinstance(conditions, list) else [conditions])]


def condition(body):
    """A condition of the REST interface as one of the engine."""
    if "has_id" in body:
        return edge.HasIdCondition(set(body["has_id"]))
    if "is_empty" in body:
        return edge.IsEmptyCondition(body["is_empty"]["key"])
    if "key" not in body:
        return filter_of(body)
    if "range" in body:
        return edge.FieldCondition(body["key"], range=edge.RangeFloat(**body["range"]))
    match = body["match"]
    match = edge.MatchAny(match["any"]) if "any" in match else edge.MatchValue(match["value"])
    return edge.FieldCondition(body["key"], match=match)


def filter_of(body):
    if body is None:
        return None
    return edge.Filter(*(as_list(body.get(part)) for part in ("must", "should", "must_not")))


def record(point, body, more=None):
    answer = {"id": str(point.id), **(more or {})}
    payload = body.get("with_payload")
    if isinstance(payload, list):
        answer["payload"] = {name: value for name, value in point.payload.items() if name in payload}
    elif payload:
        answer["payload"] = point.payload
    if body.get("with_vector"):
        answer["vector"] = point.vector
    return answer


def query(search):
    return edge.QueryRequest(
        limit=search["limit"],
        query=edge.Query.Nearest(search["query"]),
        filter=filter_of(search.get("filter")),
        params=edge.SearchParams(exact=search["params"]["exact"]),
        with_payload=True,
        with_vector=False,
    )


def put(shard, body):
    models.PointsList(**body)
    size = shard_size(shard)
    for point in body["points"]:
        if len(point["vector"]) != size:
            raise Refused(400, f"Wrong input: Vector dimension error: expected dim: {size}, got {len(point['vector'])}")
    points = [edge.Point(point["id"], point["vector"], point["payload"]) for point in body["points"]]
    shard.update(edge.UpdateOperation.upsert_points(points))
    return {"operation_id": 0, "status": "completed"}


def shard_size(shard):
    return next(created["vectors"]["size"] for known, created in COLLECTIONS.values() if known is shard)


def delete(shard, body):
    models.PointIdsList(**body)
    shard.update(edge.UpdateOperation.delete_points(body["points"]))
    return {"operation_id": 0, "status": "completed"}


def retrieve(shard, body):
    models.PointRequest(**body)
    found = shard.retrieve(body["ids"], with_payload=True, with_vector=True)
    return [record(point, body) for point in found]


def scroll(shard, body):
    models.ScrollRequest(**body)
    request = edge.ScrollRequest(offset=body.get("offset"), limit=body["limit"], with_payload=True, with_vector=True)
    points, following = shard.scroll(request)
    return {"points": [record(point, body) for point in points], "next_page_offset": following and str(following)}


def query_batch(shard, body):
    models.QueryRequestBatch(**body)
    answers = []
    for search in body["searches"]:
        points = shard.query(query(search))
        answers.append(
            {"points": [record(point, search, {"score": point.score, "version": point.version}) for point in points]}
        )
    models.QueryResponse(**answers[0])
    return answers


def count(shard, body):
    models.CountRequest(**body)
    return {"count": shard.count(edge.CountRequest(exact=body["exact"]))}


ROUTES = {
    ("PUT", "points"): put,
    ("POST", "points"): retrieve,
    ("POST", "points/delete"): delete,
    ("POST", "points/count"): count,
    ("POST", "points/scroll"): scroll,
    ("POST", "points/query/batch"): query_batch,
}


def respond(method, path, body):
    parts = path.split("?")[0].split("/", 3)
    if parts[1] != "collections":
        raise Refused(404, "")
    name, route = parts[2], parts[3] if len(parts) > 3 else ""
    if (method, route) == ("PUT", ""):
        return create(name, body)
    if name not in COLLECTIONS:
        raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
    shard, created = COLLECTIONS[name]
    if (method, route) == ("GET", ""):
        return info(shard, created)
    return ROUTES[method, route](shard, body)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        try:
            with LOCK:
                status, answer = 200, {"result": respond(self.command, self.path, body), "status": "ok", "time": 0.0}
        except Refused as refused:
            status, answer = refused.status, {"status": {"error": str(refused)}, "time": 0.0}
        except (ValidationError, ValueError, KeyError) as problem:
            status, answer = 400, {"status": {"error": f"Format error: {problem}"}, "time": 0.0}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = answer

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
