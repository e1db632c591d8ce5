"""
Live streams: the records of the log on websockets, each once and in order to a client that resumes with its cursor.

A record's way: the worker's lane of its partition (`runtime/lanes.py`) -> `Dispatch.deliver` decodes what somebody
wants -> `Hub.broadcast` finds the subscribers -> the `Outbox` of each, bounded -> its `Socket`.

A client's way: `Server` checks the key and the cursor -> `Hub.join` makes it a `Subscriber` with a position in each
partition that it covers -> where a position is behind the hub's, `CatchUp` reads the log from there and advances it,
until the hub can go on. A client whose outbox is full falls behind, and comes back the same way.

`Places` are the hub's own positions, `Tail` keeps the records that the hub passes while `CatchUp` reads, `SeqRanges`
the seqs that a subscriber has had. `Tallies` count for the dashboard; `SystemStatus` is how far the groups are.

`streams/` has what differs by domain: topics, the keys that a socket follows, messages, and what is sent once.
`streams/table.py` lists it.
"""
