"""Clients against the running service: ours, and OpenAI's own."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import SUBJECTS
from service import running

from deploy.client.client import Client, ServiceError

TEXTS = [f"{subject}怎么办" for subject in SUBJECTS]


@pytest.mark.slow
def test_the_client_encodes_as_bert_as_service_and_searches(server):
    client = Client(server.address + "/")
    rows = np.array(client.encode(TEXTS))
    assert rows.shape == (len(TEXTS), server.ask("GET", "/info")[1]["dimension"])
    np.testing.assert_allclose(rows, server.ask("POST", "/encode", {"texts": TEXTS})[1]["result"], atol=1e-5)
    many = np.array(client.encode(TEXTS * 30))  # more than a request holds
    np.testing.assert_allclose(many, np.tile(rows, (30, 1)), atol=1e-5)
    tokens = np.array(client.encode([list(text) for text in TEXTS], is_tokenized=True))
    np.testing.assert_allclose(tokens, np.array(client.encode([" ".join(text) for text in TEXTS])), atol=1e-5)
    assert client.search(TEXTS[3], top=1)["hits"][0]["answer"] == "答3"
    replies = client.search(TEXTS, method="keyword")
    assert [reply["hits"][0]["answer"] for reply in replies] == [f"答{i}" for i in range(len(SUBJECTS))]
    for wrong in ("卡丢了", [], ["a", ""], [["a"]]):
        with pytest.raises(ValueError, match="texts"):
            client.encode(wrong)
    with pytest.raises(ServiceError, match="422: texts") as caught:
        client.encode(["长" * 9000])
    assert caught.value.status == 422
    with pytest.raises(ServiceError, match="no answer of the service"):
        Client("http://127.0.0.1:1").encode(["a"])


@pytest.mark.slow
def test_the_client_sends_its_key(place, tmp_path):
    with running("--model_dir", place / "export", "--data_dir", tmp_path, "--read_key", "secret") as server:
        assert len(Client(server.address, "secret").encode(["a"])) == 1
        for key in (None, "other"):
            with pytest.raises(ServiceError, match="401"):
                Client(server.address, key).encode(["a"])


def test_the_client_comes_again_when_it_is_told_to():
    class Busy(BaseHTTPRequestHandler):
        asked = 0

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            Busy.asked += 1
            done = Busy.asked == 3
            body = json.dumps({"result": [[1.0]]} if done else {"error": "full", "status": 429}).encode()
            self.send_response(200 if done else 429)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(ServiceError, match="429: full"):
            Client(address, tries=2).encode(["a"])
        assert Client(address, tries=1).encode(["a"]) == [[1.0]]
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_openais_client_gets_its_embeddings(server):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=server.address + "/v1", api_key="none", max_retries=0)
    wanted = np.array(server.ask("POST", "/encode", {"texts": TEXTS})[1]["result"])
    width = wanted.shape[1]
    for more in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):  # {}: the client asks for base64 itself
        answer = client.embeddings.create(input=TEXTS, model="text-embedding-3-small", **more)
        assert answer.model == "text-embedding-3-small" and [row.index for row in answer.data] == list(range(len(TEXTS)))
        rows = [row.embedding for row in answer.data]
        if more.get("encoding_format") == "base64":
            rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in rows]
        np.testing.assert_allclose(rows, wanted, atol=1e-5)
    one = client.embeddings.create(input=TEXTS[0], model="x", dimensions=4).data[0].embedding
    np.testing.assert_allclose(one, wanted[0, :4] / np.linalg.norm(wanted[0, :4]), atol=1e-5)
    for wrong in ({"input": "", "model": "x"}, {"input": "a", "model": "x", "dimensions": width + 1}):
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            client.embeddings.create(**wrong)
        assert caught.value.status_code == 422
    with pytest.raises(openai.APIStatusError):  # ids of a vocabulary that is not ours
        client.embeddings.create(input=[[1, 2, 3]], model="x")
