"""The base model and, one file each, the heads."""

from models import lean_paddlenlp

lean_paddlenlp.install()
