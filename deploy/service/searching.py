"""Endpoints that read: search, vectors in three dialects, similarity."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import orjson
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from pydantic import ValidationError

from deploy.service.bodies import BERT, LONGEST, MOST_TEXTS, Bert, Embeddings, Pairs, Search
from deploy.service.problems import place_of, problem
from deploy.service.serving import Service

FEW = 8  # queries whose hits are written at once; more are written beside the event loop


def routes(service: Service, reader: Any, timely: Callable[..., Awaitable[Any]]) -> APIRouter:
    """Return the endpoints. reader: the dependency that asks for a key; timely: awaits work of a request, as long as
    it may take and its client is there."""
    app = APIRouter(dependencies=[reader])

    @app.post("/search")
    async def search(request: Request, body: Search) -> Response:
        """Find entries: of each query its state (answer, suggest, none), confidence and hits, with ranks a source."""
        queries = [body.query] if isinstance(body.query, str) else body.query
        found = await timely(request, service.search(queries, body.top, body.method))
        return _rendered(found) if len(queries) <= FEW else await asyncio.to_thread(_rendered, found)

    @app.post("/similarity")
    async def similarity(request: Request, body: Pairs) -> dict[str, Any]:
        """The cosine of each pair."""
        flat = [text for pair in body.pairs for text in pair]
        vectors = await timely(request, service.vectors(flat, "query"))
        return {"cosines": [round(float(value), 6) for value in await asyncio.to_thread(_cosines, vectors)]}

    @app.post("/encode", openapi_extra=BERT)
    async def encode(request: Request) -> Response:
        """Vectors as bert-as-service answers: JSON or a form of id, texts, is_tokenized."""
        asked = await _bert_request(request)
        if isinstance(asked, Response):
            return asked
        vectors = await timely(request, service.vectors(asked["texts"], "query"))
        rows = orjson.Fragment(await asyncio.to_thread(_dumps, vectors))  # written once, told twice
        own = orjson.Fragment(json.dumps(asked["id"]))  # a number may be larger than orjson writes
        return _rendered({"id": own, "result": rows, "results": rows, "status": 200})

    @app.get("/status/server")
    async def status() -> dict[str, Any]:
        """What bert-as-service tells of itself."""
        encoder = service.model.encoder
        return {"status": 200, "max_seq_len": encoder.tokenizer.max_seq_length, "dimension": encoder.dimension,
                "num_request": service.compute.numbers.batches}

    @app.post("/v1/embeddings")
    async def embeddings(request: Request, body: Embeddings) -> Response:
        """Vectors as OpenAI's clients expect them."""
        texts = [body.input] if isinstance(body.input, str) else body.input
        width = service.model.encoder.dimension
        if body.dimensions and body.dimensions > width:
            raise HTTPException(422, f"dimensions: the encoder's vectors have {width} numbers")
        vectors = await timely(request, service.vectors(texts, body.input_type))
        rows = await asyncio.to_thread(_embeddings, vectors, body.dimensions, body.encoding_format)
        tokens = await asyncio.to_thread(service.tokens, texts, body.input_type)
        data = [{"object": "embedding", "index": place, "embedding": row} for place, row in enumerate(rows)]
        return await asyncio.to_thread(
            _rendered, {"object": "list", "model": body.model or service.model.fingerprint[:12], "data": data,
                        "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})

    return app


def _rendered(content: dict[str, Any]) -> Response:
    """Return an object as JSON."""
    return Response(_dumps(content), media_type="application/json")


def _dumps(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _cosines(vectors: np.ndarray) -> np.ndarray:
    rows = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.clip((rows[::2] * rows[1::2]).sum(axis=1), -1, 1)


def _embeddings(vectors: np.ndarray, width: int | None, form: str) -> list[Any]:
    """Return vectors, cut to a width and made unit vectors again, as lists or base64 of little-endian float32."""
    if width and width < vectors.shape[1]:
        vectors = vectors[:, :width] / np.maximum(np.linalg.norm(vectors[:, :width], axis=1, keepdims=True), 1e-12)
    rows = vectors.astype("<f4")
    return [base64.b64encode(row.tobytes()).decode() for row in rows] if form == "base64" else list(rows)


async def _bert_request(request: Request) -> dict[str, Any] | Response:
    """Return id and texts of a request to /encode, or the error to answer."""
    raw = await request.body()
    try:
        if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            form = parse_qs(raw.decode("utf-8"), keep_blank_values=True, max_num_fields=MOST_TEXTS + 8)
            tokenized = form.get("is_tokenized", ["false"])[-1].lower() in ("true", "1")
            texts = form.get("texts", [])
            content: Any = {"texts": [text.split() for text in texts] if tokenized else texts,
                            "is_tokenized": tokenized}
            content |= {"id": form["id"][-1]} if "id" in form else {}
        else:
            content = json.loads(raw)
        body = Bert.model_validate(content)
        json.dumps(body.id, ensure_ascii=False, allow_nan=False).encode()  # it goes back as it came
    except ValidationError as error:
        first = error.errors()[0]
        return problem(422, f"{place_of(first['loc'])}: {first['msg']}")
    except (ValueError, RecursionError) as error:
        text = str(error).splitlines()[0]
        return problem(422 if raw else 400, f"no request of bert-as-service: {text}")
    if any(isinstance(text, list) != body.is_tokenized for text in body.texts):
        return problem(422, f"texts: each must be a text of 1 to {LONGEST} characters, or with is_tokenized a list of "
                            "tokens")
    return {"id": body.id, "texts": [" ".join(text) if isinstance(text, list) else text for text in body.texts]}
