"""Cases of the record layer, alerts and key updates after the handshake. Each gets an open session."""

import os
import struct

import bitcoin
from tls13 import ALERT, CCS, CLOSE_NOTIFY, DATA, FINISHED, HANDSHAKE, KEY_UPDATE, MAX, handshake

UNEXPECTED, BAD_MAC, OVERFLOW, ILLEGAL, DECODE = (f"alert {n}" for n in (10, 20, 22, 47, 50))
NOT_REQUESTED, REQUESTED = handshake(KEY_UPDATE, b"\0"), handshake(KEY_UPDATE, b"\1")

CASES = {}


def case(name):
    """Adds a case."""
    def add(function):
        assert name not in CASES, name
        CASES[name] = function
        return function
    return add


def ends(name, how, act):
    """Adds a case: after `act` the connection ends in this way."""
    def run(client):
        act(client)
        end = client.end()
        assert end in how if isinstance(how, tuple) else end == how, f"{end} instead of {how}"
    CASES[name] = run


def lives(name, act):
    """Adds a case: after `act` a ping is answered."""
    def run(client):
        act(client)
        client.alive()
    CASES[name] = run


def sized(length):
    """P2P messages of so many bytes."""
    return bitcoin.padding(length)


# Lengths (5.1, 5.2, 5.4).

lives("largest plaintext, 2^14", lambda c: c.data(sized(MAX)))
lives("largest plaintext by padding", lambda c: c.data(sized(100), MAX - 100))
for _padding in (1, 15, 16, 255, 4000):
    lives(f"padding of {_padding}", lambda c, p=_padding: c.data(sized(40), p))
ends("plaintext of 2^14 + 1", OVERFLOW, lambda c: c.data(sized(MAX + 1)))
ends("plaintext with padding of 2^14 + 1", OVERFLOW, lambda c: c.data(sized(MAX), 1))
ends("ciphertext of 2^14 + 256, of which too much is padding", OVERFLOW, lambda c: c.data(sized(40), MAX + 256 - 16 - 1 - 40))
ends("ciphertext of 2^14 + 257", OVERFLOW, lambda c: c.data(sized(40), MAX + 257 - 16 - 1 - 40))
ends("header that says 2^14 + 257, and no more", OVERFLOW, lambda c: c.raw(struct.pack(">BHH", DATA, 0x0303, MAX + 257)))
ends("header that says 65535, and no more", OVERFLOW, lambda c: c.raw(struct.pack(">BHH", DATA, 0x0303, 65535)))
ends("handshake record with padding of 2^14 + 1", OVERFLOW, lambda c: c.record(HANDSHAKE, NOT_REQUESTED, MAX))
for _length in (0, 1, 15):
    ends(f"ciphertext of {_length}, less than a tag", (BAD_MAC, DECODE),
         lambda c, n=_length: c.raw(struct.pack(">BHH", DATA, 0x0303, n) + bytes(n)))


# Empty records (5.1, 5.4).

lives("empty application data", lambda c: c.data(b""))
lives("empty application data with padding", lambda c: c.data(b"", 300))
lives("empty application data with the most padding", lambda c: c.data(b"", MAX))
ends("a thousand empty records", UNEXPECTED, lambda c: [c.data(b"") for _ in range(1000)])
ends("inner plaintext of nothing", UNEXPECTED, lambda c: c.raw(c.write_keys.seal(b"")))
ends("inner plaintext of zeros", UNEXPECTED, lambda c: c.raw(c.write_keys.seal(bytes(1))))
ends("inner plaintext of many zeros", UNEXPECTED, lambda c: c.raw(c.write_keys.seal(bytes(5000))))
ends("empty handshake record", UNEXPECTED, lambda c: c.record(HANDSHAKE, b""))
ends("empty handshake record with padding", UNEXPECTED, lambda c: c.record(HANDSHAKE, b"", 30))


@case("empty records between the parts of a message")
def _(c):
    for part in (b"", sized(200)[:1], b"", sized(200)[1:150], b"", sized(200)[150:], b""):
        c.data(part)
    c.alive()


# Splits and joins (5.1).

@case("a message in records of one byte")
def _(c):
    message = bitcoin.ping(77)
    c.raw(b"".join(c.sealed(DATA, message[i:i + 1]) for i in range(len(message))))
    c.await_command("pong", struct.pack("<Q", 77))


@case("a record byte by byte")
def _(c):
    for byte in c.sealed(DATA, bitcoin.ping(78)):
        c.raw(bytes([byte]))
    c.await_command("pong", struct.pack("<Q", 78))


@case("many messages in a record")
def _(c):
    c.data(b"".join(bitcoin.ping(n) for n in range(200)))
    c.await_command("pong", struct.pack("<Q", 199))


@case("many records in a segment, and a half")
def _(c):
    records = b"".join(c.sealed(DATA, bitcoin.ping(n)) for n in range(100))
    c.raw(records[:-20])
    c.await_command("pong", struct.pack("<Q", 98))
    c.raw(records[-20:])
    c.await_command("pong", struct.pack("<Q", 99))


@case("300 KB, in the largest records")
def _(c):
    for _ in range(18):
        c.data(sized(MAX))
    c.alive()


# What does not authenticate (5.2).

def flip(c, at, bit):
    record = bytearray(c.sealed(DATA, bitcoin.ping(1)))
    record[at] ^= bit
    c.raw(bytes(record))


for _at in range(1, 17):
    ends(f"bit of the tag flipped, {_at} from the end", BAD_MAC, lambda c, a=_at: flip(c, -a, 1 << (a % 8)))
for _at in (5, 6, 20, 40):
    ends(f"bit of the ciphertext flipped at {_at}", BAD_MAC, lambda c, a=_at: flip(c, a, 128))
ends("application data in the clear", BAD_MAC, lambda c: c.raw(struct.pack(">BHH", DATA, 0x0303, 32) + bitcoin.ping(1)[:32]))


@case("a record again")
def _(c):
    record = c.sealed(DATA, bitcoin.ping(1))
    c.raw(record + record)
    assert c.end() == BAD_MAC


@case("records in the wrong order")
def _(c):
    first, second = c.sealed(DATA, bitcoin.ping(1)), c.sealed(DATA, bitcoin.ping(2))
    c.raw(second + first)
    assert c.end() == BAD_MAC


@case("a record left out")
def _(c):
    c.sealed(DATA, bitcoin.ping(1))
    c.data(bitcoin.ping(2))
    assert c.end() == BAD_MAC


@case("half a record and an end")
def _(c):
    c.raw(c.sealed(DATA, bitcoin.ping(1))[:-1])
    c.socket.shutdown(1)
    assert c.end() in ("closed", "alert 0", BAD_MAC), "neither closed nor an alert"


# Types that do not belong there (5, 5.1).

for _kind, _what in ((CCS, b"\1"), (ALERT, b"\1\0"), (ALERT, b"\2\x50"), (HANDSHAKE, NOT_REQUESTED), (HANDSHAKE, b""), (24, b"\1\0\0"),
                     (0, b""), (25, b"x"), (255, b"x")):
    ends(f"content type {_kind} in the clear, {_what.hex() or 'empty'}", UNEXPECTED,
         lambda c, k=_kind, w=_what: c.raw(struct.pack(">BHH", k, 0x0303, len(w)) + w))
for _kind in (CCS, 24, 25, 99, 255):
    ends(f"content type {_kind} inside", UNEXPECTED, lambda c, k=_kind: c.record(k, b"\1"))


# Alerts (6).

@case("close_notify")
def _(c):
    c.record(ALERT, bytes([1, CLOSE_NOTIFY]))
    assert c.end() == "alert 0"


@case("close_notify of level fatal, the level has no meaning")
def _(c):
    c.record(ALERT, bytes([2, CLOSE_NOTIFY]))
    assert c.end() == "alert 0"


@case("close_notify in one segment with data before and behind")
def _(c):
    c.raw(c.sealed(DATA, bitcoin.ping(5)) + c.sealed(ALERT, bytes([1, 0])) + c.sealed(DATA, b"rubbish, not to be read"))
    assert c.end() == "alert 0"


@case("user_canceled, then close_notify")
def _(c):
    c.record(ALERT, bytes([1, 90]))
    c.alive()
    c.record(ALERT, bytes([1, CLOSE_NOTIFY]))
    assert c.end() == "alert 0"


for _description in (10, 20, 22, 40, 42, 47, 50, 51, 70, 80, 109, 116, 255):
    ends(f"alert {_description}: no alert in return", "closed", lambda c, d=_description: c.record(ALERT, bytes([2, d])))
ends("alert of level warning is fatal all the same", "closed", lambda c: c.record(ALERT, bytes([1, 80])))
ends("empty alert", (UNEXPECTED, DECODE), lambda c: c.record(ALERT, b""))
ends("empty alert with padding", (UNEXPECTED, DECODE), lambda c: c.record(ALERT, b"", 30))
ends("alert of one byte", DECODE, lambda c: c.record(ALERT, b"\1"))
ends("alert of three bytes", DECODE, lambda c: c.record(ALERT, b"\1\0\0"))
ends("two alerts in a record", DECODE, lambda c: c.record(ALERT, b"\1\x5a\1\x5a"))
ends("a thousand warnings", UNEXPECTED, lambda c: [c.record(ALERT, b"\1\x5a") for _ in range(1000)])


@case("nothing but an end of the stream")
def _(c):
    c.socket.shutdown(1)
    assert c.end() in ("alert 0", "closed"), "neither close_notify nor an end"


# Key updates (4.6.3).

def update(c, message=NOT_REQUESTED, cut=None, between=b""):
    cut = cut or len(message)
    parts = [message[:cut], message[cut:]]
    c.record(HANDSHAKE, parts[0])
    if parts[1]:
        c.raw(between)
        c.record(HANDSHAKE, parts[1])
    c.write_keys = c.write_keys.updated()


lives("key update", update)
for _cut in (1, 2, 3, 4):
    lives(f"key update cut after {_cut} bytes", lambda c, n=_cut: update(c, cut=n))


@case("key update cut after each byte")
def _(c):
    for byte in NOT_REQUESTED:
        c.record(HANDSHAKE, bytes([byte]))
    c.write_keys = c.write_keys.updated()
    c.alive()


for _cut in (1, 2, 3, 4):
    ends(f"data inside a key update, after {_cut} bytes", UNEXPECTED,
         lambda c, n=_cut: (c.record(HANDSHAKE, NOT_REQUESTED[:n]), c.data(bitcoin.ping(1))))
ends("an alert inside a key update", UNEXPECTED, lambda c: (c.record(HANDSHAKE, NOT_REQUESTED[:2]), c.record(ALERT, b"\1\0")))


@case("key update that asks for one")
def _(c):
    update(c, REQUESTED)
    c.alive()
    assert c.updates == 1, "one in return"
    c.alive()


@case("twenty key updates, each asking, with data between")
def _(c):
    for n in range(20):
        update(c, REQUESTED)
        c.alive()
        assert c.updates == n + 1


@case("five asking key updates in a segment: at least one in return")
def _(c):
    for _ in range(5):
        update(c, REQUESTED)
    c.alive()
    assert 1 <= c.updates <= 5, c.updates


@case("data in one segment with a key update")
def _(c):
    before = c.sealed(DATA, bitcoin.ping(1)) + c.sealed(HANDSHAKE, REQUESTED)
    c.write_keys = c.write_keys.updated()
    c.raw(before + c.sealed(DATA, bitcoin.ping(2)))
    c.await_command("pong", struct.pack("<Q", 2))


ends("the old key after a key update", BAD_MAC, lambda c: (c.record(HANDSHAKE, NOT_REQUESTED), c.data(bitcoin.ping(1))))
ends("key update with another value", ILLEGAL, lambda c: c.record(HANDSHAKE, handshake(KEY_UPDATE, b"\2")))
ends("key update with value 255", ILLEGAL, lambda c: c.record(HANDSHAKE, handshake(KEY_UPDATE, b"\xff")))
ends("empty key update", DECODE, lambda c: c.record(HANDSHAKE, handshake(KEY_UPDATE, b"")))
ends("key update of two bytes", DECODE, lambda c: c.record(HANDSHAKE, handshake(KEY_UPDATE, b"\0\0")))
ends("key update that says 2^24 - 1 bytes", DECODE, lambda c: c.record(HANDSHAKE, bytes([KEY_UPDATE, 255, 255, 255, 0])))
ends("two key updates in a record", UNEXPECTED, lambda c: c.record(HANDSHAKE, NOT_REQUESTED * 2))
ends("something behind a key update", UNEXPECTED, lambda c: c.record(HANDSHAKE, NOT_REQUESTED + b"\0"))


@case("a thousand key updates without data")
def _(c):
    for _ in range(1000):
        update(c)
    assert c.end() == UNEXPECTED


# Other handshake messages: there is none that a client may send now (4.6).

for _name, _message in {
    "HelloRequest": handshake(0, b""), "ClientHello": handshake(1, os.urandom(100)), "ServerHello": handshake(2, os.urandom(80)),
    "NewSessionTicket": handshake(4, os.urandom(60)), "EndOfEarlyData": handshake(5, b""), "Certificate": handshake(11, bytes(4)),
    "CertificateRequest": handshake(13, bytes(3)), "CertificateVerify": handshake(15, os.urandom(70)),
    "Finished": handshake(FINISHED, os.urandom(32)), "an unknown one": handshake(99, b"x"), "message_hash": handshake(254, os.urandom(32)),
}.items():
    ends(f"{_name} after the handshake", UNEXPECTED, lambda c, m=_message: c.record(HANDSHAKE, m))
