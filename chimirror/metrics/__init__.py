"""Metrics of a host: which series there are, and how they are written.

Layer 2, pure. Knows no clock, no file, no socket and no session. The server and
chimirror-ctl fill the same series. Imports protocol.

- families: name, type and help of each series
- exposition: samples in Prometheus text 0.0.4 or OpenMetrics 1.0
- labels: the reason of an end as a label with few values
- agent_check: the line for the agent-check of HAProxy
"""
