#!/usr/bin/env python3
"""Runs a batch file of `care label batch write` against a chat endpoint, one request after the other.

    python3 run_batch.py REQUESTS.jsonl http://127.0.0.1:8080/v1 > output.jsonl

What `vllm run-batch` and OpenAI's batch endpoint do, for servers that have neither. Writes their output form.
"""
import json
import sys
import urllib.error
import urllib.request

requests, endpoint = sys.argv[1], sys.argv[2].rstrip("/")
for line in open(requests, encoding="utf-8"):
    request = json.loads(line)
    body = json.dumps(request["body"]).encode()
    call = urllib.request.Request(f"{endpoint}/chat/completions", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(call, timeout=600) as answer:
            response, error = {"status_code": answer.status, "body": json.load(answer)}, None
    except urllib.error.HTTPError as problem:
        response, error = {"status_code": problem.code, "body": {"error": problem.read().decode(errors="replace")}}, None
    except OSError as problem:
        response, error = None, {"code": "failed", "message": str(problem)}
    print(json.dumps({"id": request["custom_id"], "custom_id": request["custom_id"], "response": response, "error": error}))
