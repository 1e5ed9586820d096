"""Replay: what rule sets would have done to the requests in log files, with the code that decides in Lambda.

On any input, replay names exactly the clients that an exact count names. The order of lines and files does not matter,
and memory is bounded whatever the size of the log. Two passes make that possible.

The first pass reads the log once, for all rule sets together. Each chunk of lines is decoded and reduced to *strips*:
per source and address family the clients, the times, and the rows that each scope matches. Strips go to a *spool*:
about a million requests stay in memory, and the others take 12 bytes or more each in a temporary file. Meanwhile the
*prefilter* of each rule set adds up requests per group of clients. The order of strips is irrelevant, because a count
belongs to the slot of its own time.

    files -> chunks -> decoder -> strips -> spool
                                       `--> prefilter (totals per group and minute)

The second pass runs once per rule set. A client with no more requests in two neighbouring minutes than a rule allows in
one shorter window cannot be over that limit, and this holds for most clients. The prefilter lets only the others
through, and tallies them by slot. The tallies fill a *ledger*; when it grows too large it is written to disk in parts,
by group of clients, and comes back as several smaller ledgers. A group is one network of the rules' shortest prefixes:
clients of different groups never share a block, so each ledger can be evaluated separately.

    spool -> prefilter -> tallies -> counts -> ledgers -> breaches

Every ledger is searched for *breaches*: ``core.windows`` detects clients over a rule's limit, and ``core.decisions``
decides about each offence (block, longer block, nothing) in order of time. Other analyses read the same ledgers:
traffic over time, peaks of all clients, or the model of AWS WAF's rate-based rule.

The circuit breakers of production do not change a replay, nor do its blocks of guilty networks. ``breaker_model`` and
``network_model`` report what they would have done.

``engine`` runs both passes; ``strips``, ``prefilter``, ``counts`` and ``breaches`` are their steps, in that order.
"""
