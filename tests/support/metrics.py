"""Metrics as a Prometheus reads them."""

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.support.http_clients import AsyncHttpClient
from tests.support.polling import HTTP_TIMEOUT_SECONDS

METRICS_TOKEN = "an-operators-own-token"


@dataclass(frozen=True, slots=True)
class Scrape:
    """The samples of one scrape."""

    text: str
    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    @classmethod
    def from_text(cls, text: str) -> "Scrape":
        """Parse a page."""
        samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        return cls(text, samples)

    @property
    def series(self) -> frozenset[tuple[str, frozenset[tuple[str, str]]]]:
        """The name and the labels of each series."""
        return frozenset(self.samples)

    def value(self, name: str, **labels: str) -> float:
        """Return the value of one series; 0 if there is none."""
        return self.samples.get((name, frozenset(labels.items())), 0.0)

    def total(self, name: str, **labels: str) -> float:
        """Add up the series that have these labels, and perhaps others."""
        return sum(
            value
            for (sample, present), value in self.samples.items()
            if sample == name and set(labels.items()) <= present
        )


async def scrape(url: str, token: str = METRICS_TOKEN) -> Scrape:
    """Scrape the metrics below a URL."""
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        answer = await http.get(f"{url}/metrics", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    return Scrape.from_text(answer.text)
