-- The log as the tables know it. Where it was cut off, or its topic was deleted and created again, an operator accepts
-- it as it is (`tidegate topics accept`): rows whose place is gone stay, and their place moves out of the way of the new
-- records. The nth acceptance moves them from partition p to p - n * 100000, so a negative partition is a lost place.

CREATE TABLE log_topics (
    topic    text PRIMARY KEY,
    topic_id text NOT NULL  -- Kafka's: another one once the topic is deleted and created again
);

CREATE TABLE log_acceptances (
    acceptance  integer     PRIMARY KEY,  -- 1, 2, 3, ...
    accepted_at timestamptz NOT NULL DEFAULT now(),
    positions   json        NOT NULL      -- what was accepted: group, topic, partition, from where to where, why
);

GRANT SELECT ON log_topics TO tidegate_read, tidegate_write, tidegate_maintain;
GRANT INSERT ON log_topics TO tidegate_write;
