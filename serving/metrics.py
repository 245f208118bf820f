"""What /metrics tells: one Prometheus registry for each app, never the process-wide one."""

import math
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


class Metrics:
    """Counters and histograms of one server.

    Args:
      queued, clients: read when the metrics are asked for.
      model_id: likewise, "" where no model is loaded.
    """

    def __init__(
        self, queued: Callable[[], int], clients: Callable[[], int], model_id: Callable[[], str]
    ) -> None:
        self.registry = CollectorRegistry()
        self._model_id = model_id
        self._model = Gauge("policy_model_info", "The loaded model.", ["id"], registry=self.registry)
        self._requests = Counter(
            "policy_requests", "Requests by route and status.", ["route", "code"], registry=self.registry
        )
        self._latency = Histogram(
            "policy_latency_seconds",
            "Time of a request by stage.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batch = Histogram(
            "policy_batch_size",
            "Requests that shared a policy call.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self._uncertainty = Histogram(
            "policy_centroid_deviation",
            "Standard deviation of the drawn midpoints, image fractions.",
            buckets=_FRACTIONS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "policy_requests_in_flight", "Requests being answered.", registry=self.registry
        )
        depth = Gauge("policy_queue_depth", "Requests that wait for the policy.", registry=self.registry)
        depth.set_function(queued)
        sessions = Gauge("policy_clients", "Clients that hold a state.", registry=self.registry)
        sessions.set_function(clients)

    def request(self, route: str, code: int) -> None:
        self._requests.labels(route, str(code)).inc()

    def stage(self, name: str, seconds: float) -> None:
        """``name``: decode, queue, infer, sample (a call with draws) or total."""
        self._latency.labels(name).observe(seconds)

    def batch(self, size: int, seconds: float, sampled: bool) -> None:
        """One policy call; its signature is that of ``Engine.on_batch``."""
        self._batch.observe(size)
        self.stage("sample" if sampled else "infer", seconds)

    def uncertainty(self, centroid_variance: float) -> None:
        self._uncertainty.observe(math.sqrt(centroid_variance))

    def text(self) -> bytes:
        """The exposition format."""
        self._model.clear()
        if self._model_id():
            self._model.labels(self._model_id()).set(1)
        return generate_latest(self.registry)
