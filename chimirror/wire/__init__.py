"""The wire: what bytes of the peer mean, and the bytes that answer them.

Law: everything here is a pure function of bytes and settings. No module of this
package may import os, socket, select or time, nor anything of chimirror.system.
"""
