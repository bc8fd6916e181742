"""Official clients, unchanged, against a server of this crate.

    cargo run -p care-serve --example fake_server -- 8080 INDEX &
    pip install openai cohere huggingface_hub langchain-openai llama-index-embeddings-openai requests
    python official_clients.py http://127.0.0.1:8080

Every client says the role of its texts in the way it has: by a model name, a base URL or a field. A line per client tells
its version and what was checked; the exit status is 1 if a check fails.
"""

import importlib.metadata
import math
import sys

import requests

BASE = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
INFO = requests.get(f"{BASE}/info", timeout=10).json()
NAME = INFO["model_id"]
KEY = "any"
QUERY, DOCUMENTS = "头痛怎么办", ["偏头痛发作时应避光休息", "高血压患者宜低盐饮食"]


def near(a, b):
    return len(a) == len(b) and all(math.isclose(x, y, abs_tol=1e-6) for x, y in zip(a, b))


def expected(role, texts):
    answer = requests.post(f"{BASE}/{role}/embed", json={"inputs": texts}, timeout=60)
    answer.raise_for_status()
    return answer.json()


QUERY_VECTOR = expected("query", [QUERY])[0]
DOCUMENT_VECTORS = expected("document", DOCUMENTS)


def check_openai():
    import openai

    client = openai.OpenAI(base_url=f"{BASE}/v1", api_key=KEY)
    assert [model.id for model in client.models.list()] == [f"{NAME}/query", f"{NAME}/document"]
    assert client.models.retrieve(f"{NAME}/query").id == f"{NAME}/query"
    # The client asks for base64 unless told otherwise, and decodes it.
    answer = client.embeddings.create(model=f"{NAME}/query", input=QUERY)
    assert near(answer.data[0].embedding, QUERY_VECTOR) and answer.usage.prompt_tokens > 0
    answer = client.embeddings.create(model=f"{NAME}/document", input=DOCUMENTS, encoding_format="float", user="u")
    assert all(near(row.embedding, vector) for row, vector in zip(answer.data, DOCUMENT_VECTORS))
    answer = client.embeddings.create(model=NAME, input=QUERY, extra_body={"input_type": "query"})
    assert near(answer.data[0].embedding, QUERY_VECTOR)
    of_path = openai.OpenAI(base_url=f"{BASE}/document/v1", api_key=KEY)
    answer = of_path.embeddings.create(model=NAME, input=DOCUMENTS)
    assert all(near(row.embedding, vector) for row, vector in zip(answer.data, DOCUMENT_VECTORS))
    for arguments, error in [
        ({"model": NAME, "input": QUERY}, openai.BadRequestError),
        ({"model": "other", "input": QUERY}, openai.NotFoundError),
        ({"model": f"{NAME}/query", "input": QUERY, "dimensions": 7}, openai.BadRequestError),
        ({"model": f"{NAME}/query", "input": []}, openai.BadRequestError),
    ]:
        try:
            client.embeddings.create(**arguments)
        except error as refused:
            assert refused.body["message"] and refused.body["type"] == "invalid_request_error", refused.body
        else:
            raise AssertionError(f"{arguments} was not refused")
    for dim in INFO["dimensions"]:
        answer = client.embeddings.create(model=f"{NAME}/query", input=QUERY, dimensions=dim)
        assert len(answer.data[0].embedding) == dim
    return "openai", "models, str and list, base64 and float, three ways of a role, dimensions, errors"


def check_cohere():
    import cohere
    import numpy

    client = cohere.ClientV2(base_url=BASE, api_key=KEY)
    kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    answer = client.embed(model=NAME, texts=DOCUMENTS, input_type="search_document", embedding_types=kinds)
    embeddings = answer.embeddings
    assert all(near(row, vector) for row, vector in zip(embeddings.float_, DOCUMENT_VECTORS))
    assert embeddings.ubinary == [numpy.packbits(numpy.array(v) > 0).tolist() for v in DOCUMENT_VECTORS]
    assert embeddings.binary == [[byte - 128 for byte in row] for row in embeddings.ubinary]
    assert embeddings.uint8 == [[code + 128 for code in row] for row in embeddings.int8]
    import base64

    decoded = [numpy.frombuffer(base64.b64decode(row), "<f4").tolist() for row in embeddings.base64]
    assert decoded == [as_f32(vector) for vector in DOCUMENT_VECTORS]
    answer = client.embed(model=NAME, texts=[QUERY], input_type="search_query", embedding_types=["float"])
    assert near(answer.embeddings.float_[0], QUERY_VECTOR)
    inputs = [{"content": [{"type": "text", "text": QUERY}]}]
    answer = client.embed(model=NAME, inputs=inputs, input_type="search_query", truncate="END")
    assert near(answer.embeddings.float_[0], QUERY_VECTOR)
    try:
        client.embed(model=NAME, texts=[QUERY], input_type="clustering")
    except cohere.BadRequestError as refused:
        assert "input_type" in refused.body["message"]
    else:
        raise AssertionError("clustering was not refused")
    return "cohere", "texts and inputs, six embedding_types, both input_types, an error"


def as_f32(vector):
    import numpy

    return numpy.array(vector, "<f4").tolist()


def check_hugging_face():
    from huggingface_hub import InferenceClient

    client = InferenceClient(model=f"{BASE}/query/embed")
    assert near(client.feature_extraction(QUERY)[0].tolist(), QUERY_VECTOR)
    client = InferenceClient(model=f"{BASE}/embed")
    answer = client.feature_extraction(QUERY, prompt_name="query", normalize=True, truncate=True)
    assert near(answer[0].tolist(), QUERY_VECTOR)
    scores = InferenceClient(model=f"{BASE}/similarity").sentence_similarity(QUERY, DOCUMENTS)
    dots = [sum(x * y for x, y in zip(QUERY_VECTOR, vector)) for vector in DOCUMENT_VECTORS]
    assert near(scores, dots)
    return "huggingface_hub", "feature_extraction by path and by prompt_name, sentence_similarity"


def check_langchain():
    from langchain_openai import OpenAIEmbeddings

    # By default it sends token ids of OpenAI's vocabulary, which is refused: they mean other texts here.
    def embeddings(role):
        return OpenAIEmbeddings(
            model=f"{NAME}/{role}", base_url=f"{BASE}/v1", api_key=KEY, check_embedding_ctx_length=False
        )

    assert near(embeddings("query").embed_query(QUERY), QUERY_VECTOR)
    vectors = embeddings("document").embed_documents(DOCUMENTS)
    assert all(near(*pair) for pair in zip(vectors, DOCUMENT_VECTORS))
    return "langchain-openai", "embed_query and embed_documents, one model name each"


def check_llama_index():
    from llama_index.embeddings.openai import OpenAIEmbedding

    def embedding(role):
        return OpenAIEmbedding(model_name=f"{NAME}/{role}", api_base=f"{BASE}/v1", api_key=KEY)

    assert near(embedding("query").get_query_embedding(QUERY), QUERY_VECTOR)
    vectors = embedding("document").get_text_embedding_batch(DOCUMENTS)
    assert all(near(*pair) for pair in zip(vectors, DOCUMENT_VECTORS))
    return "llama-index-embeddings-openai", "query and batch of texts, one model name each"


failed = False
for check in [check_openai, check_cohere, check_hugging_face, check_langchain, check_llama_index]:
    try:
        package, what = check()
        print(f"ok      {package} {importlib.metadata.version(package)}: {what}")
    except Exception as error:  # All clients are tried.
        failed = True
        print(f"FAILED  {check.__name__}: {type(error).__name__}: {str(error)[:500]}")
sys.exit(failed)
