"""The table of streams, and of the topics that they come from; all other modules ask it for what differs by domain."""

from collections.abc import Mapping

from processors.fanout.streams import jobs, runs
from processors.fanout.streams.contract import Source, Stream

SOURCES: Mapping[str, Source] = {source.topic.name: source for source in (*runs.SOURCES, *jobs.SOURCES)}
STREAMS: Mapping[str, Stream] = {stream.name: stream for stream in (*runs.STREAMS, *jobs.STREAMS)}
