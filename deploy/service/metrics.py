"""What Prometheus reads."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from deploy.service.serving import Service


class Metrics:
    """Counters of requests, and gauges over the service."""

    def __init__(self, service: "Service") -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("semindex_requests", "Requests by path, method and status",
                                ["path", "method", "status"], registry=self.registry)
        self.seconds = Histogram("semindex_request_seconds", "Seconds a request", ["path"], registry=self.registry,
                                 buckets=(.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10))
        index, compute, cache = (lambda: service.generation.index), service.compute, service.shared.cache
        for name, text, value in (
                ("entries", "Entries", lambda: len(index().questions)),
                ("questions", "Questions that can be found", lambda: len(index())),
                ("pending", "Questions that a rebuild would take in or clear", lambda: index().pending),
                ("rebuilds", "Snapshots written", lambda: service.rebuilds),
                ("waiting_texts", "Texts that wait for their vectors", lambda: compute.waiting),
                ("batches", "Batches encoded", lambda: compute.numbers.batches),
                ("encoded_texts", "Texts encoded", lambda: compute.numbers.texts),
                ("dropped_texts", "Texts whose client had left", lambda: compute.numbers.dropped),
                ("cache_hits", "Vectors found in the cache", lambda: cache.hits),
                ("cache_misses", "Vectors not in the cache", lambda: cache.misses)):
            Gauge(f"semindex_{name}", text, registry=self.registry).set_function(value)
