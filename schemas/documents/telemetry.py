"""The metrics of the processes that handle documents."""

from schemas.process.telemetry import OF_PROCESSORS, WRONG_PARTITION, Kind, Metric

SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 600.0)

DOCUMENTS_ENDED = Metric(
    name="tidegate_documents_total",
    kind=Kind.COUNTER,
    help="Jobs of documents that this process brought to their end, by outcome",
    labels=("outcome",),
)
DOCUMENT_FAILURES = Metric(
    name="tidegate_document_failures_total",
    kind=Kind.COUNTER,
    help="Jobs of documents that failed, by stage and reason",
    labels=("stage", "reason"),
)
DOCUMENTS_WAITING = Metric(
    name="tidegate_documents_waiting",
    kind=Kind.GAUGE,
    help="Documents that are submitted and not stored, by lane, counted to 100,000",
    labels=("lane",),
)
DOCUMENT_COST_WAITING = Metric(
    name="tidegate_document_cost_waiting",
    kind=Kind.GAUGE,
    help="Characters of the documents that are submitted and not stored, by lane",
    labels=("lane",),
)
DOCUMENT_LANE_OLDEST = Metric(
    name="tidegate_document_lane_oldest_seconds",
    kind=Kind.GAUGE,
    help="Age of the oldest document that is submitted and not stored, by lane; 0 where none is",
    labels=("lane",),
)
DOCUMENT_DRAIN_SECONDS = Metric(
    name="tidegate_document_drain_seconds",
    kind=Kind.GAUGE,
    help="Seconds until all that waits is stored, at the rate of the last minute: the depth to scale embedders by",
)
DOCUMENT_CHANGES_WAITING = Metric(
    name="tidegate_document_changes_waiting",
    kind=Kind.GAUGE,
    help="Changes of documents that are not in document.events yet, counted to 10,000",
)
DOCUMENT_CHANGES_PUBLISHED = Metric(
    name="tidegate_document_changes_published_total",
    kind=Kind.COUNTER,
    help="Changes of documents written to document.events",
)
CHUNKS = Metric(
    name="tidegate_document_chunks_total",
    kind=Kind.COUNTER,
    help="Chunks that got a vector, by where it came from: cache or computed",
    labels=("source",),
)
STAGE_DURATION = Metric(
    name="tidegate_document_stage_seconds",
    kind=Kind.HISTOGRAM,
    help="Busy time of a document in a stage, waiting excluded",
    labels=("stage",),
    buckets=SECONDS,
)
DOCUMENT_LATENCY = Metric(
    name="tidegate_document_latency_seconds",
    kind=Kind.HISTOGRAM,
    help="From the gateway's receipt of a document to the commit that made it live",
    buckets=SECONDS,
)
TURNS_WAITING = Metric(
    name="tidegate_document_turns_waiting",
    kind=Kind.GAUGE,
    help="Pieces of work that wait for a turn of the embedders, by lane",
    labels=("lane",),
)
EMBEDDERS_AWAY = Metric(
    name="tidegate_document_embedders_away",
    kind=Kind.GAUGE,
    help="Embedders of this process that have not answered since it started: no book can be embedded with them",
)
INDEX_DEAD_RATIO = Metric(
    name="tidegate_document_index_dead_ratio",
    kind=Kind.GAUGE,
    help="Dead rows beside live ones in the tables of chunks, as Postgres estimates them, by embedder",
    labels=("embedder",),
)
RE_EMBEDDING = Metric(
    name="tidegate_documents_reembedding",
    kind=Kind.GAUGE,
    help="Collections that are being embedded with another embedder",
)
SEARCH_DURATION = Metric(
    name="tidegate_search_seconds",
    kind=Kind.HISTOGRAM,
    help="Time of a leg of a search, whether it has an answer or not",
    labels=("leg",),
)
SEARCH_FAILURES = Metric(
    name="tidegate_search_failures_total",
    kind=Kind.COUNTER,
    help="Searches whose leg failed or took too long; the other one was answered, if it could be",
    labels=("leg",),
)
SEARCH_SHORT = Metric(
    name="tidegate_search_short_total",
    kind=Kind.COUNTER,
    help="Searches with fewer hits than asked for whose scan ended short: more may match",
)

OF_SEARCH = (SEARCH_DURATION, SEARCH_FAILURES, SEARCH_SHORT)
OF_INTAKE = (
    *OF_PROCESSORS,
    WRONG_PARTITION,
    DOCUMENTS_ENDED,
    DOCUMENT_FAILURES,
    DOCUMENTS_WAITING,
    DOCUMENT_COST_WAITING,
    DOCUMENT_LANE_OLDEST,
    DOCUMENT_DRAIN_SECONDS,
    DOCUMENT_CHANGES_WAITING,
    DOCUMENT_CHANGES_PUBLISHED,
    INDEX_DEAD_RATIO,
    RE_EMBEDDING,
)
OF_EMBED = (*OF_PROCESSORS, DOCUMENTS_ENDED, DOCUMENT_FAILURES, CHUNKS, STAGE_DURATION, TURNS_WAITING, EMBEDDERS_AWAY)
OF_STORE = (*OF_PROCESSORS, DOCUMENTS_ENDED, DOCUMENT_FAILURES, STAGE_DURATION, DOCUMENT_LATENCY)
