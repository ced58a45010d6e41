"""A chat of many users, encrypted end to end, over TCP.

`chat server` introduces users to each other and passes their messages on, which it
cannot read. `chat client` is an ordinary program on stdin and stdout. The messages of
both are described in chat.proto: `make -C examples` generates the module `chat_pb2`.
"""
