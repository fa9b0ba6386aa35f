"""Traces of single messages, where an operator wants them (https://opentelemetry.io).

    deliver        until the last word of the answer stands on the platform
      respond      access, order, history, model, record
        wait       for earlier answers in the same conversation
        history    the turns that the question follows
        prompt     those, fitted into the context
        chat       the model, with the names of https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/

A span names the conversation as the log does. It holds no text of anybody's, also not of errors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

__all__ = ["Span", "current_span", "span", "start_tracing"]

_Value = str | int | float | bool
_tracer = trace.get_tracer("glmbot")
_EXPORT_S = 5
_log = logging.getLogger(__name__)


def start_tracing(endpoint: str, share: float, version: str) -> Callable[[], None]:
    """Send spans to an OTLP/HTTP collector, of that share of all messages. Returns what ends it; that may take
    some seconds. Raises ImportError when the library is missing.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(share)),
        resource=Resource.create({SERVICE_NAME: "glmbot", SERVICE_VERSION: version}),
    )
    exporter = _told_once(OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_S))
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def _told_once(exporter: SpanExporter) -> SpanExporter:
    """The library logs every batch that a collector did not take, several times over; once is enough."""
    from opentelemetry.sdk.trace.export import SpanExportResult

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    export, away = exporter.export, False

    def told(spans: Sequence[ReadableSpan]) -> SpanExportResult:
        nonlocal away
        result = export(spans)
        if (failed := result is not SpanExportResult.SUCCESS) != away:
            away = failed
            if failed:
                _log.warning("traces can't be sent to [tracing] endpoint; they are dropped until it answers")
            else:
                _log.info("traces are sent again")
        return result

    exporter.export = told
    return exporter


@contextmanager
def span(
    name: str, attributes: Mapping[str, _Value] | None = None, parent: Span | None = None
) -> Generator[Span]:
    """A span under `parent`, or under the task's current one. It does not become the current one itself, so that
    it may be open while an async generator yields."""
    context = None if parent is None else trace.set_span_in_context(parent)
    started = _tracer.start_span(name, context, attributes=attributes)
    try:
        yield started
    except Exception as error:
        _fail(started, error)
        raise
    finally:
        started.end()


@contextmanager
def current_span(name: str, attributes: Mapping[str, _Value]) -> Generator[Span]:
    """A span that everything begun in this task and in its tasks stands under. Not for async generators."""
    with _tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as started:
        try:
            yield started
        except Exception as error:
            _fail(started, error)
            raise


def _fail(started: Span, error: Exception) -> None:
    started.set_attribute("error.type", type(error).__name__)
    started.set_status(Status(StatusCode.ERROR))
