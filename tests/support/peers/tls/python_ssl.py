"""Python's ssl module as a client of the relay's TLS listener.

    python_ssl.py HOST PORT AUTHORITY [connections]

Makes so many connections one after the other, each but the first with the session of the one before: version, verack,
ping, and an orderly end (close_notify both ways, which unwrap() waits for). Then one more, which copies standard input
and output until standard input ends. Says on standard error, in a line of JSON each, what came of them.
"""

import json
import os
import select
import socket
import ssl
import sys

import bitcoin


def connect(context, host, port, session):
    raw = socket.create_connection((host, port), timeout=60)
    return context.wrap_socket(raw, server_hostname="localhost", session=session)


def tell(tls, **more):
    facts = {"version": tls.version(), "cipher": tls.cipher()[0], "reused": tls.session_reused, **more}
    print(json.dumps(facts), file=sys.stderr, flush=True)


def greet(tls):
    """The P2P handshake and a ping; ends when the pong is there."""
    tls.sendall(bitcoin.version())
    data, greeted = b"", False
    while True:
        read = tls.recv(65536)
        assert read, "closed before the pong"
        found, data = bitcoin.messages(data + read)
        commands = [command for command, _ in found]
        if "version" in commands and not greeted:
            greeted = True
            tls.sendall(bitcoin.message("verack") + bitcoin.ping(7))
        if "pong" in commands:
            return


def end(tls):
    """Our close_notify, then the peer's: an SSL error if it does not come."""
    tls.settimeout(60)
    tls.unwrap().close()


def take(tls):
    """What has come: None for nothing yet, b"" for the end."""
    tls.setblocking(False)
    try:
        return tls.recv(65536)
    except ssl.SSLWantReadError:
        return None
    except ssl.SSLError:
        return b""
    finally:
        tls.settimeout(60)


def copy(tls):
    """In one thread: OpenSSL's connections may not be read and written at the same time."""
    sources = [0, tls]
    while True:
        ready = [tls] if tls in sources and tls.pending() else select.select(sources, [], [])[0]
        if tls in ready:
            read = take(tls)
            if read:
                os.write(1, read)
            elif read == b"":
                sources = [0]
        if 0 in ready:
            read = os.read(0, 65536)
            if not read:
                return
            tls.sendall(read)


def main():
    host, port, authority = sys.argv[1:4]
    context = ssl.create_default_context(cafile=authority)
    session = None
    for _ in range(int(sys.argv[4]) if len(sys.argv) > 4 else 0):
        tls = connect(context, host, port, session)
        greet(tls)
        session = tls.session
        tell(tls, has_ticket=session is not None and session.has_ticket)
        end(tls)
    tls = connect(context, host, port, session)
    tell(tls)
    copy(tls)


if __name__ == "__main__":
    main()
