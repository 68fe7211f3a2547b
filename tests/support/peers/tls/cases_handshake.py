"""Cases of the handshake. Each gets a way to connect."""

import os
import struct

from tlslite.constants import ExtensionType, GroupName
from tlslite.extensions import ALPNExtension, TLSExtension

import bitcoin
from tls13 import (AES_128, AES_256, ALERT, CCS, CHACHA, CLOSE_NOTIFY, DATA, FINISHED, HANDSHAKE, KEY_UPDATE, MAX, TLS13, Ended, handshake)

UNEXPECTED, BAD_MAC, OVERFLOW, FAILURE, ILLEGAL, DECODE, DECRYPT, VERSION = (
    f"alert {n}" for n in (10, 20, 22, 40, 47, 50, 51, 70))
MISSING, NO_ALPN = "alert 109", "alert 120"

CASES = {}


def case(name):
    """Adds a case."""
    def add(function):
        assert name not in CASES, name
        CASES[name] = function
        return function
    return add


def ends(name, how, act):
    """Adds a case: a connection on which `act` was done ends in one of these ways."""
    def run(connect):
        client = connect()
        act(client)
        end = client.end()
        assert end in how if isinstance(how, tuple) else end == how, f"{end} instead of {how}"
    CASES[name] = run


def plain(kind, body, version=0x0303):
    """A record in the clear."""
    return struct.pack(">BHH", kind, version, len(body)) + bytes(body)


def with_fields(**fields):
    """Says hello with these fields of the client changed."""
    def act(client):
        for name, value in fields.items():
            setattr(client, name, value)
        client.hello()
    return act


def to_flight(connect, suite=AES_128):
    """A client that has the server's flight and has to answer."""
    client = connect(suite)
    client.hello()
    client.flight()
    return client


# Handshakes as they may be.

for _label, _suite in {"AES-128-GCM": AES_128, "AES-256-GCM": AES_256, "CHACHA20-POLY1305": CHACHA}.items():
    CASES[f"full, {_label}"] = lambda connect, s=_suite: connect(s).session().alive()


@case("each group")
def _(connect):
    for group in (GroupName.x25519, GroupName.secp256r1, GroupName.secp384r1):
        client = connect()
        client.groups = client.shares = [group]
        client.session().alive()


@case("no legacy session id, change_cipher_spec neither sent nor needed")
def _(connect):
    client = connect()
    client.session_id = bytearray()
    client.session().alive()


@case("change_cipher_spec before Finished")
def _(connect):
    client = to_flight(connect)
    client.raw(plain(CCS, b"\1"))
    client.finish()
    client.greet()


for _cut in (1, 7, 100):
    @case(f"ClientHello in records of {_cut}")
    def _(connect, cut=_cut):
        client = connect()
        client.hello(cut)
        client.flight()
        client.finish()
        client.greet()


@case("Finished in records of one byte")
def _(connect):
    client = to_flight(connect)
    message = client.finished()
    client.spread(message, 1)
    client.open_traffic(message)
    client.greet()


@case("Finished and data in one segment")
def _(connect):
    client = to_flight(connect)
    message = client.finished()
    finished = client.sealed(HANDSHAKE, message)
    client.open_traffic(message)
    client.raw(finished + client.sealed(DATA, bitcoin.version()))
    client.await_command("version")


@case("Finished with the most padding")
def _(connect):
    client = to_flight(connect)
    message = client.finished()
    client.record(HANDSHAKE, message, MAX - len(message))
    client.open_traffic(message)
    client.greet()


@case("everything byte by byte")
def _(connect):
    client = connect()
    send = client.socket.sendall
    client.raw = lambda data: [send(data[i:i + 1]) for i in range(len(data))]
    client.session().alive()


@case("unknown versions, suites and extensions are not looked at")
def _(connect):
    client = connect()
    client.versions = [(0x7A, 0x7A), (3, 5), TLS13, (3, 3)]
    client.suites = [0x1A1A, 0x13FF, AES_128]
    client.groups = [0x2A2A, 0x7FFF, GroupName.x25519]
    client.more_extensions = [TLSExtension(extType=t).create(t, bytearray(os.urandom(9))) for t in (0x3A3A, 4711, 65000)]
    client.session().alive()


@case("ClientHello of 12 KB")
def _(connect):
    client = connect()
    client.more_extensions = [TLSExtension(extType=21).create(21, bytearray(12_000))]
    client.session().alive()


@case("ClientHello of 60 KB, over several records")
def _(connect):
    client = connect()
    client.more_extensions = [TLSExtension(extType=21).create(21, bytearray(60_000))]
    client.hello(MAX)
    client.flight()
    client.finish()
    client.greet()


# HelloRetryRequest (4.1.4).

@case("a group without share: HelloRetryRequest, then a session")
def _(connect):
    client = connect()
    client.groups, client.shares = [GroupName.secp521r1, GroupName.secp256r1], [GroupName.secp521r1]
    client.hello()
    assert client.take_retry() == GroupName.secp256r1
    client.shares = [GroupName.secp256r1]
    client.session().alive()


@case("no share at all: HelloRetryRequest, then a session")
def _(connect):
    client = connect()
    client.shares = []
    client.hello()
    assert client.take_retry() == GroupName.x25519
    client.shares = [GroupName.x25519]
    client.session().alive()


@case("the wrong share after a HelloRetryRequest")
def _(connect):
    client = connect()
    client.groups, client.shares = [GroupName.x25519, GroupName.secp256r1], []
    client.hello()
    client.take_retry()
    client.shares = [GroupName.secp384r1]
    client.hello()
    end = client.end()
    assert end in (ILLEGAL, FAILURE), end


# Hellos that are refused.

ends("TLS 1.2 only, by supported_versions", VERSION, with_fields(versions=[(3, 3)]))
ends("TLS 1.2 and older only", VERSION, with_fields(versions=[(3, 3), (3, 2), (3, 1)]))
ends("no supported_versions at all", VERSION, with_fields(without=[ExtensionType.supported_versions]))
ends("unknown versions only", VERSION, with_fields(versions=[(3, 5), (0x7A, 0x7A)]))
ends("no suite that we have", FAILURE, with_fields(suites=[0x1304, 0x1305, 0xC02F]))
ends("no suite at all", (FAILURE, DECODE, ILLEGAL), with_fields(suites=[]))
ends("no group that we have", FAILURE, with_fields(groups=[GroupName.secp521r1], shares=[GroupName.secp521r1]))
ends("no signature scheme at all", (MISSING, FAILURE), with_fields(without=[ExtensionType.signature_algorithms]))
ends("no key_share extension", (MISSING, FAILURE), with_fields(without=[ExtensionType.key_share]))
ends("no supported_groups extension", (MISSING, FAILURE), with_fields(without=[ExtensionType.supported_groups]))
ends("an extension twice", (ILLEGAL, DECODE),
     with_fields(more_extensions=[TLSExtension(extType=4711).create(4711, bytearray()) for _ in range(2)]))


@case("ALPN without ours")
def _(connect):
    client = connect()
    client.more_extensions = [ALPNExtension().create([bytearray(b"http/1.1")])]
    client.hello()
    # A ServerHello may be there before the alert.
    try:
        client.flight()
    except Ended as ended:
        assert str(ended) == NO_ALPN, ended
        return
    raise AssertionError("taken")


@case("ALPN with ours")
def _(connect):
    client = connect()
    client.more_extensions = [ALPNExtension().create([bytearray(b"h2"), bytearray(b"bitcoin/1")])]
    client.session().alive()


@case("a key share that is zero")
def _(connect):
    client = connect()
    message = bytearray(client.client_hello())
    message[-32:] = bytes(32)
    client.raw(plain(HANDSHAKE, message))
    end = client.end()
    assert end in (ILLEGAL, FAILURE), end


@case("a key share of the wrong length")
def _(connect):
    client = connect()
    for field in (0, 1, 31, 33):
        client = connect()
        share = struct.pack(">HHH", field + 4, GroupName.x25519, field) + os.urandom(field)
        client.without = [ExtensionType.key_share]
        client.more_extensions = [TLSExtension(extType=51).create(51, bytearray(share))]
        client.hello()
        end = client.end()
        assert end in (ILLEGAL, FAILURE, DECODE), f"{field} bytes: {end}"


# What is no hello.

ends("HTTP", (UNEXPECTED, DECODE, VERSION, OVERFLOW, "closed"), lambda c: c.raw(b"GET / HTTP/1.0\r\n\r\n"))
ends("P2P in the clear", (UNEXPECTED, DECODE, VERSION, OVERFLOW, "closed"), lambda c: c.raw(bitcoin.version()))
ends("application data first", UNEXPECTED, lambda c: c.raw(plain(DATA, os.urandom(50))))
ends("Finished first", UNEXPECTED, lambda c: c.raw(plain(HANDSHAKE, handshake(FINISHED, os.urandom(32)))))
ends("an empty handshake record", (UNEXPECTED, DECODE), lambda c: c.raw(plain(HANDSHAKE, b"")))
ends("an empty ClientHello", DECODE, lambda c: c.raw(plain(HANDSHAKE, handshake(1, b""))))
ends("a ClientHello cut short", DECODE, lambda c: c.raw(plain(HANDSHAKE, handshake(1, c.client_hello()[4:-5]))))
ends("a ClientHello with something behind it", DECODE, lambda c: c.raw(plain(HANDSHAKE, handshake(1, c.client_hello()[4:] + b"x"))))
ends("a record of 2^14 + 1", (OVERFLOW, DECODE), lambda c: c.raw(plain(HANDSHAKE, handshake(1, os.urandom(MAX + 1 - 4)))))
ends("a header that says 65535", (OVERFLOW, DECODE), lambda c: c.raw(struct.pack(">BHH", HANDSHAKE, 0x0301, 65535)))
ends("a ClientHello of 2^24 - 1, begun", (UNEXPECTED, FAILURE, DECODE, OVERFLOW, ILLEGAL),
     lambda c: [c.raw(plain(HANDSHAKE, b"\1\xff\xff\xff" + bytes(16_000)))] + [c.raw(plain(HANDSHAKE, bytes(16_000))) for _ in range(5)])
ends("a fatal alert first", "closed", lambda c: c.raw(plain(ALERT, b"\2\x28")))
ends("close_notify first", ("closed", "alert 0"), lambda c: c.raw(plain(ALERT, b"\1\0")))
ends("an alert of one byte first", (DECODE, UNEXPECTED), lambda c: c.raw(plain(ALERT, b"\2")))


# Instead of a Finished.

def instead(name, how, act):
    """Adds a case: the server's flight is answered by `act`."""
    def run(connect):
        client = to_flight(connect)
        act(client)
        # From here on the server seals with its application keys, alerts too.
        client.read_keys = type(client.read_keys)(client.suite, client.application[1])
        end = client.end()
        assert end in how if isinstance(how, tuple) else end == how, f"{end} instead of {how}"
    CASES[name] = run


def flipped(c, at):
    message = bytearray(c.finished())
    message[at] ^= 1
    return bytes(message)


for _at in (4, 5, 20, 35):
    instead(f"Finished with a bit flipped at {_at}", DECRYPT, lambda c, a=_at: c.spread(flipped(c, a)))
instead("Finished cut short", (DECODE, DECRYPT), lambda c: c.spread(handshake(FINISHED, c.finished()[4:-1])))
instead("Finished too long", (DECODE, DECRYPT), lambda c: c.spread(handshake(FINISHED, c.finished()[4:] + b"x")))
instead("empty Finished", (DECODE, DECRYPT), lambda c: c.spread(handshake(FINISHED, b"")))
instead("Finished in the clear", (UNEXPECTED, BAD_MAC), lambda c: c.raw(plain(HANDSHAKE, c.finished())))
instead("Finished with something behind it", UNEXPECTED, lambda c: c.spread(c.finished() + handshake(KEY_UPDATE, b"\0")))
instead("data before Finished", UNEXPECTED, lambda c: c.data(bitcoin.version()))
instead("empty data before Finished", UNEXPECTED, lambda c: c.data(b""))
instead("key update before Finished", UNEXPECTED, lambda c: c.spread(handshake(KEY_UPDATE, b"\0")))
instead("ClientHello again", (UNEXPECTED, BAD_MAC), lambda c: c.spread(c.client_hello()))
# rustls says nothing of it, and the connection ends.
instead("an empty handshake record sealed", (UNEXPECTED, DECODE, "closed"), lambda c: c.record(HANDSHAKE, b""))
instead("inner plaintext of zeros before Finished", UNEXPECTED, lambda c: c.raw(c.write_keys.seal(bytes(30))))
instead("change_cipher_spec of another value", (UNEXPECTED, ILLEGAL, DECODE), lambda c: c.raw(plain(CCS, b"\2")))
instead("change_cipher_spec of two bytes", (UNEXPECTED, ILLEGAL, DECODE), lambda c: c.raw(plain(CCS, b"\1\1")))
instead("change_cipher_spec sealed", UNEXPECTED, lambda c: c.record(CCS, b"\1"))
instead("a flipped tag", BAD_MAC, lambda c: c.raw(c.sealed(HANDSHAKE, c.finished())[:-1] + b"?"))
# rustls takes records of up to 2^14 + 2048 bytes for those of TLS 1.2, and finds that this one does not authenticate.
instead("a record of 2^14 + 257", (OVERFLOW, BAD_MAC), lambda c: c.raw(struct.pack(">BHH", DATA, 0x0303, MAX + 257) + bytes(MAX + 257)))
instead("a fatal alert", "closed", lambda c: c.record(ALERT, b"\2\x28"))
instead("an end of the stream", ("closed", "alert 0"), lambda c: c.socket.shutdown(1))


# Tickets (4.2.11, 4.6.1).

def ticket(connect, suite=AES_128):
    client = connect(suite).session()
    client.alive()
    assert len(client.tickets) == 1, f"{len(client.tickets)} tickets"
    return client.tickets[0]


for _label, _suite in {"AES-128-GCM": AES_128, "AES-256-GCM": AES_256, "CHACHA20-POLY1305": CHACHA}.items():
    @case(f"resumed, {_label}")
    def _(connect, suite=_suite):
        client = connect(suite)
        client.ticket = ticket(connect, suite)
        client.session().alive()
        assert client.resumed
        again = connect(suite)
        again.ticket = client.tickets[0]
        assert again.session().resumed, "by the second session's ticket"


@case("a ticket says nothing of early data")
def _(connect):
    assert all(e.extType != ExtensionType.early_data for e in ticket(connect).extensions)


@case("resumed after a HelloRetryRequest")
def _(connect):
    client = connect()
    client.ticket = ticket(connect)
    client.shares = []
    client.hello()
    client.take_retry()
    client.shares = [GroupName.x25519]
    assert client.session().resumed


@case("a ticket of a suite with another hash: a full handshake")
def _(connect):
    client = connect(AES_256)
    client.ticket = ticket(connect)
    assert not client.session().resumed


@case("a ticket with any byte changed: a full handshake")
def _(connect):
    good = ticket(connect)
    for at in (0, 5, 15, 16, 20, 40, len(good.identity) - 1):
        client = connect()
        client.ticket = good
        client.identity = bytearray(good.identity)
        client.identity[at] ^= 4
        assert not client.session().resumed, f"byte {at}"


@case("a ticket of rubbish, of one byte, cut short or long: a full handshake")
def _(connect):
    good = ticket(connect)
    for identity in (os.urandom(200), b"x", good.identity[:-1], good.identity[:20], good.identity + b"x", os.urandom(5000)):
        client = connect()
        client.ticket, client.identity = good, identity
        assert not client.session().resumed, f"{len(identity)} bytes"


@case("a wrong binder")
def _(connect):
    client = connect()
    client.ticket, client.binder_flip = ticket(connect), 1
    client.hello()
    end = client.end()
    assert end in (DECRYPT, ILLEGAL), end


@case("a ticket is good twice")
def _(connect):
    good = ticket(connect)
    for _ in range(2):
        client = connect()
        client.ticket = good
        assert client.session().resumed


@case("pre_shared_key that is not the last extension")
def _(connect):
    client = connect()
    client.ticket = ticket(connect)
    offer, client.offer = client.offer, lambda: TLSExtension(extType=4711).create(4711, bytearray())
    client.more_extensions = [offer()]
    client.bind = lambda message: None
    client.hello()
    assert client.end() == ILLEGAL


# The end of a handshake that is broken off.

@case("many that go away in the middle")
def _(connect):
    for step in range(30):
        client = connect()
        if step % 3:
            client.hello()
        if step % 3 == 2:
            client.flight()
        client.socket.close()
    connect().session().alive()


@case("close_notify right behind Finished")
def _(connect):
    client = to_flight(connect)
    client.finish()
    client.record(ALERT, bytes([1, CLOSE_NOTIFY]))
    assert client.end() == "alert 0"
