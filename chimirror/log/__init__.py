"""Records of sessions: written to the journal, or to stderr as text or JSON.

Layer 1. `records` has one method per kind of record, `record_writer` queues records and
lines until there is room for them, `sinks` chooses the format and writes them to the
journal, `stream_sinks` to a descriptor. `stderr` prints lines of the program itself in
the same format. `output_logger` cuts application output into lines. `rate_limit` bounds
the records of one kind. `serving` names the processes whose records count. The package
knows no WebSocket and no session object. May import only builtin_modules and text.
"""
