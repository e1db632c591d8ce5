#!/bin/sh
# Run once by the Postgres image on an empty volume: login roles with no more rights than their process needs.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set database="$POSTGRES_DB" --set reader="$TIDEGATE_GATEWAY_PASSWORD" --set writer="$TIDEGATE_PERSISTENCE_PASSWORD" \
    --set events="$TIDEGATE_EVENTS_PASSWORD" --set processing="$TIDEGATE_PROCESSING_PASSWORD" \
    --set maintainer="$TIDEGATE_MAINTENANCE_PASSWORD" --set intake="$TIDEGATE_JOBS_INTAKE_PASSWORD" \
    --set executor="$TIDEGATE_EXECUTOR_PASSWORD" --set documents_intake="$TIDEGATE_DOCUMENTS_INTAKE_PASSWORD" \
    --set documents_embed="$TIDEGATE_DOCUMENTS_EMBED_PASSWORD" \
    --set documents_store="$TIDEGATE_DOCUMENTS_STORE_PASSWORD" <<'SQL'
CREATE ROLE tidegate_read NOLOGIN;
CREATE ROLE tidegate_write NOLOGIN;
CREATE ROLE tidegate_maintain NOLOGIN;
CREATE ROLE tidegate_jobs NOLOGIN;
CREATE ROLE tidegate_documents NOLOGIN;
CREATE ROLE tidegate_gateway LOGIN PASSWORD :'reader' IN ROLE tidegate_read;
CREATE ROLE tidegate_persistence LOGIN PASSWORD :'writer' IN ROLE tidegate_write;
CREATE ROLE tidegate_events LOGIN PASSWORD :'events' IN ROLE tidegate_write;
CREATE ROLE tidegate_processing LOGIN PASSWORD :'processing' IN ROLE tidegate_write;
CREATE ROLE tidegate_maintenance LOGIN PASSWORD :'maintainer' IN ROLE tidegate_maintain;
CREATE ROLE tidegate_jobs_intake LOGIN PASSWORD :'intake' IN ROLE tidegate_jobs;
CREATE ROLE tidegate_executor LOGIN PASSWORD :'executor' IN ROLE tidegate_jobs;
CREATE ROLE tidegate_documents_intake LOGIN PASSWORD :'documents_intake' IN ROLE tidegate_documents;
CREATE ROLE tidegate_documents_embed LOGIN PASSWORD :'documents_embed' IN ROLE tidegate_documents;
CREATE ROLE tidegate_documents_store LOGIN PASSWORD :'documents_store' IN ROLE tidegate_documents;
SQL
