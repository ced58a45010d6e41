"""Layer 4: responses to plain HTTP GET requests.

Modules:
    responder: Chooses the response, builds manifests and the catalog.
    console: the console page and its files.
    web_client: the client library for web pages.
    static_response: StaticResponse, a file of web/ with an ETag.
    json_response: JSONResponse, a JSON document with an ETag.
    text_page: TextPage, a description of the endpoint in plain text.

Programs load these modules with the first such request. May import apps, manifest, io
and protocol. Must not import session/. The modules only build responses, and the
session sends them.
"""
