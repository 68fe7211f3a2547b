"""The little of Bitcoin's P2P protocol that a TLS test needs: a version, a verack, pings, and padding of any length."""

import hashlib
import struct
import time

REGTEST = bytes.fromhex("fabfb5da")
HEADER = 24


def message(command, payload=b""):
    """A framed v1 message."""
    digest = hashlib.sha256(hashlib.sha256(payload).digest()).digest()
    return REGTEST + command.encode().ljust(12, b"\0") + struct.pack("<I", len(payload)) + digest[:4] + payload


def version(agent=b"/breakwater-tls-test:0.1/"):
    """A version message of a client that wants blocks and no transactions."""
    address = bytes(26)
    payload = struct.pack("<iQq", 70016, 0, int(time.time())) + address + address
    payload += struct.pack("<Q", time.monotonic_ns()) + bytes([len(agent)]) + agent + struct.pack("<i?", 0, False)
    return message("version", payload)


def ping(nonce):
    """A ping; the answer is pong with the same nonce."""
    return message("ping", struct.pack("<Q", nonce))


def padding(length):
    """A message of exactly `length` bytes that every node ignores; at least its header."""
    return message("bwtestpad", bytes(length - HEADER))


def messages(data):
    """The (command, payload) of each whole message at the front of `data`, and the bytes behind them."""
    found = []
    while len(data) >= HEADER:
        assert data[:4] == REGTEST, "no message begins with " + bytes(data[:4]).hex()
        length = struct.unpack("<I", data[16:20])[0]
        if len(data) < HEADER + length:
            break
        command = bytes(data[4:16]).rstrip(b"\0").decode()
        found.append((command, bytes(data[HEADER:HEADER + length])))
        data = data[HEADER + length:]
    return found, data
