"""
The statements of searches.

`{chunks}` is the table of an embedder's chunks, whose name stands in document_embedders; `{filtered}` and `{admitted}`
are the join and the conditions of a filter, or nothing. Rows of a table of chunks are of live versions alone.
"""

from typing import LiteralString

# One row without a collection where there is none: it says whether the extension is there.
SCOPES: LiteralString = """
    SELECT ready.has_vectors, each.collection, each.config::text, made.embedder, made.name, made.dimensions, made.chunks
    FROM (SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') AS has_vectors) AS ready
    LEFT JOIN (
        SELECT collection, config, embedder FROM document_collections
        WHERE tenant_id = %(tenant)s AND (%(collections)s::text[] IS NULL OR collection = ANY (%(collections)s::text[]))
        ORDER BY collection LIMIT %(limit)s) AS each ON true
    LEFT JOIN document_embedders AS made USING (embedder)
    ORDER BY each.collection
"""

FILTERED: LiteralString = """
    JOIN documents AS document
      ON document.tenant_id = chunk.tenant_id AND document.collection = chunk.collection
     AND document.document = chunk.document
"""

_IN_SCOPE: LiteralString = "chunk.tenant_id = %(tenant)s AND chunk.collection = ANY (%(collections)s::text[])"

# By the index of places, up to what is searched exactly.
SCOPE_CHUNKS: LiteralString = f"""
    SELECT count(*) AS count FROM (SELECT FROM {{chunks}} AS chunk WHERE {_IN_SCOPE} LIMIT %(limit)s) AS counted
"""  # noqa: S608  the parts are literals

# The chunks of the documents that a filter admits, of as many documents as may have so many chunks.
FILTERED_CHUNKS: LiteralString = """
    SELECT coalesce(sum(coalesce(counted.chunks, 0)), 0)::bigint AS count
    FROM (SELECT document.chunks FROM documents AS document
          WHERE document.tenant_id = %(tenant)s AND document.collection = ANY (%(collections)s::text[])
            AND document.live_revision IS NOT NULL {admitted}
          LIMIT %(limit)s) AS counted
"""

# Each distance is computed: the sort is outside, so that no index on vectors serves it.
EXACT: LiteralString = f"""
    WITH measured AS MATERIALIZED (
        SELECT chunk.id, chunk.collection, chunk.document, chunk.vector <#> %(vector)s::halfvec AS distance
        FROM {{chunks}} AS chunk {{filtered}}
        WHERE {_IN_SCOPE} {{admitted}}
    )
    SELECT id, collection, document, -distance AS score FROM measured ORDER BY distance, id LIMIT %(candidates)s
"""  # noqa: S608  the parts are literals

# The same where a filter admits few documents: from them to their chunks, whatever else the scope holds.
EXACT_OF_FILTERED: LiteralString = """
    WITH admitted AS MATERIALIZED (
        SELECT document.tenant_id, document.collection, document.document FROM documents AS document
        WHERE document.tenant_id = %(tenant)s AND document.collection = ANY (%(collections)s::text[])
          AND document.live_revision IS NOT NULL {admitted}
    ),
    measured AS MATERIALIZED (
        SELECT chunk.id, chunk.collection, chunk.document, chunk.vector <#> %(vector)s::halfvec AS distance
        FROM admitted JOIN {chunks} AS chunk USING (tenant_id, collection, document)
    )
    SELECT id, collection, document, -distance AS score FROM measured ORDER BY distance, id LIMIT %(candidates)s
"""

# An iterative scan in relaxed order gives what it finds a little out of order: sorted again outside.
NEAREST: LiteralString = f"""
    WITH nearest AS MATERIALIZED (
        SELECT chunk.id, chunk.collection, chunk.document, chunk.vector <#> %(vector)s::halfvec AS distance
        FROM {{chunks}} AS chunk {{filtered}}
        WHERE {_IN_SCOPE} {{admitted}}
        ORDER BY chunk.vector <#> %(vector)s::halfvec LIMIT %(candidates)s
    )
    SELECT id, collection, document, -distance AS score FROM nearest ORDER BY distance + 0, id
"""  # noqa: S608  the parts are literals

# A setting that is not known, or of a wrong value, only warns and means off: it is read back. The cast loads the
# extension, before which its settings are unknown.
LOAD_VECTORS: LiteralString = "SELECT '[1]'::halfvec"
SET_SCAN: LiteralString = """
    SELECT set_config('hnsw.ef_search', '100', true), set_config('hnsw.iterative_scan', 'relaxed_order', true),
           set_config('hnsw.max_scan_tuples', '20000', true)
"""
SCAN: LiteralString = """
    SELECT current_setting('hnsw.ef_search') AS ef_search, current_setting('hnsw.iterative_scan') AS iterative_scan,
           current_setting('hnsw.max_scan_tuples') AS max_scan_tuples
"""
SCAN_EXPECTED = {"ef_search": "100", "iterative_scan": "relaxed_order", "max_scan_tuples": "20000"}

# The query's words, of which any one is enough: all of them together are nearly never in one chunk. Quoted by hand,
# since to_tsquery reads operators; the first words of a long query count.
QUERY_WORDS: LiteralString = r"""
    SELECT array_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''') AS words
    FROM (SELECT lexeme
          FROM unnest(to_tsvector(%(config)s::regconfig, replace(%(query)s, '/', ' ')))
          ORDER BY positions[1], lexeme LIMIT %(lexemes)s) AS first
"""

# A word weighs the more the fewer chunks have it: by `ts_rank` alone, a name that is everywhere would count as much as
# the one word that only the answer has.
MATCHING: LiteralString = f"""
    WITH matching AS MATERIALIZED (
        SELECT chunk.id, chunk.collection, chunk.document, chunk.words
        FROM {{chunks}} AS chunk {{filtered}}
        WHERE {_IN_SCOPE} AND chunk.words @@ array_to_string(%(words)s::text[], ' | ')::tsquery {{admitted}}
    ),
    weighted AS MATERIALIZED (
        SELECT word, ln(1 + (SELECT count(*) FROM matching)::double precision / count(*)) AS weight
        FROM unnest(%(words)s::text[]::tsquery[]) AS word JOIN matching ON matching.words @@ word
        GROUP BY word
    )
    SELECT id, collection, document, (SELECT sum(weight * ts_rank(words, word, 1)) FROM weighted) AS score
    FROM matching ORDER BY score DESC, id LIMIT %(candidates)s
"""  # noqa: S608  the parts are literals

ROWS: LiteralString = """
    SELECT chunk.id, chunk.ordinal, chunk.start_at, chunk.end_at, chunk.heading, chunk.text,
           document.live_revision AS revision, document.metadata::text
    FROM {chunks} AS chunk {filtered}
    WHERE chunk.id = ANY (%(chunk_ids)s::bigint[]) AND chunk.tenant_id = %(tenant)s
      AND document.live_revision IS NOT NULL
"""
