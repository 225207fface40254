"""Which addresses may be put under load: those of this machine. Standard library and semindex.errors."""

import contextlib
import ipaddress
from urllib.parse import urlsplit

from semindex.errors import UserError


def local(url: str) -> str:
    """Return a url of this machine; UserError for any other, which is nobody's to put under load."""
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return url.rstrip("/")
    raise UserError(f"{url}: only a service on this machine (127.0.0.1, localhost, [::1]) is put under load")
