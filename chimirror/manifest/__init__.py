"""Manifests: the description of an application as an AsyncAPI 3.0 document.

Layer 2, pure. Knows no request, no file and no socket. Imports framing and protocol.

- document: the whole manifest, and the entry of an application in the catalog
- messages, control_channel: the messages of framings, and of control connections
- interface: the [interface] table of an application file
- schema, draft07: checks of JSON Schema draft-07
- cycles: nodes of a graph that lead back to themselves
"""
