"""The service: FAQ and semantic search over HTTP, from an exported encoder and a FAQ, on the library alone."""
