"""Where Milvus is, and how an index is kept in it. Standard library only."""

import os
import re
from dataclasses import dataclass, field, replace
from typing import Any

from semindex.errors import UserError

URI, TOKEN = "MILVUS_URI", "MILVUS_TOKEN"  # environment variables


@dataclass
class MilvusSettings:
    """uri: a file that ends in .db (Milvus Lite) or http://HOST:PORT of a server; token: user:password or a key, never
    printed; collection: the alias that an index is found under, its collections are called after it; timeout: seconds
    that a server which went away is waited for; full_text: auto or never, whether Milvus does the keyword search.
    """

    uri: str = ""
    token: str = field(default="", repr=False)
    collection: str = "semindex"
    timeout: float = 120.0
    full_text: str = "auto"

    def __post_init__(self) -> None:
        self.uri = self.uri.rstrip("/")

    @classmethod
    def from_flags(cls, args: Any) -> "MilvusSettings":
        """Take them from the flags of milvus_flags.add_milvus; what they leave out from the environment."""
        given = {name: getattr(args, f"milvus_{name}", None) for name in cls.__dataclass_fields__}
        return cls(**{name: value for name, value in given.items() if value is not None}).with_environment()

    def with_environment(self) -> "MilvusSettings":
        """Return them with address and token of the environment where there is none."""
        return replace(self, uri=self.uri or os.environ.get(URI, ""), token=self.token or os.environ.get(TOKEN, ""))

    @property
    def lite(self) -> bool:
        """Whether this is a file of Milvus Lite."""
        return "://" not in self.uri

    def check(self) -> None:
        """Raise UserError where the address or the name can be none."""
        if not self.uri:
            raise UserError(f"--index_type milvus needs --milvus_uri (or {URI} in the environment): a file that ends "
                            "in .db for Milvus Lite, or http://HOST:PORT of a server")
        if self.lite and not self.uri.endswith(".db"):
            raise UserError(f"--milvus_uri {self.uri}: the name of a Milvus Lite file ends in .db; a server's address "
                            "starts with http:// or https://")
        if not self.lite and not re.match(r"(https?|tcp|unix)://.", self.uri):
            raise UserError(f"--milvus_uri {self.shown}: a server's address starts with http:// or https://")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,199}", self.collection):
            raise UserError(f"--milvus_collection {self.collection}: a name has letters, digits and _ alone, begins "
                            "with no digit and is at most 200 long")

    @property
    def shown(self) -> str:
        """The address without what may be secret in it."""
        return re.sub(r"://[^@/]*@", "://", self.uri)

    def hide(self, text: str) -> str:
        """Return a text without the token and its parts."""
        secrets = [self.token, *self.token.split(":", 1)[1:], *re.findall(r"://([^@/]*)@", self.uri)]
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text
