"""A TLS 1.3 client that does what a test says, right or wrong, record by record.

The cryptography and the messages of the handshake are tlslite-ng's, a TLS stack in Python that shares no code with
rustls. The server's certificate is not looked at: the real clients do that. RFC 8446; sections in brackets.
"""

import hmac
import os
import socket
import struct

from tlslite.constants import (CipherSuite, ContentType, ExtensionType, GroupName, HandshakeType,
                               PskKeyExchangeMode, SignatureScheme)
from tlslite.extensions import (ClientKeyShareExtension, KeyShareEntry, PreSharedKeyExtension, PskIdentity,
                                PskKeyExchangeModesExtension, SignatureAlgorithmsExtension,
                                SupportedGroupsExtension, SupportedVersionsExtension)
from tlslite.handshakehashes import HandshakeHashes
from tlslite.keyexchange import ECDHKeyExchange
from tlslite.messages import ClientHello, NewSessionTicket, ServerHello
from tlslite.utils import cipherfactory
from tlslite.utils.codec import Parser
from tlslite.utils.cryptomath import HKDF_expand_label, derive_secret, secureHMAC

import bitcoin

CCS, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
CLOSE_NOTIFY, KEY_UPDATE, FINISHED = 0, 24, 20
TLS13 = (3, 4)
MAX = 2 ** 14

AES_128 = CipherSuite.TLS_AES_128_GCM_SHA256
AES_256 = CipherSuite.TLS_AES_256_GCM_SHA384
CHACHA = CipherSuite.TLS_CHACHA20_POLY1305_SHA256

# A HelloRetryRequest is a ServerHello with this random (4.1.3).
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


class Ended(Exception):
    """The connection is over; says how."""


def handshake(kind, body):
    """A handshake message."""
    return bytes([kind]) + len(body).to_bytes(3, "big") + bytes(body)


class Keys:
    """One direction: what a secret gives (7.3), and the count of records."""

    def __init__(self, suite, secret):
        self.suite, self.secret = suite, secret
        self.hash = "sha384" if suite == AES_256 else "sha256"
        length = 16 if suite == AES_128 else 32
        key = HKDF_expand_label(secret, b"key", b"", length, self.hash)
        self.iv = HKDF_expand_label(secret, b"iv", b"", 12, self.hash)
        make = cipherfactory.createCHACHA20 if suite == CHACHA else cipherfactory.createAESGCM
        self.cipher, self.count = make(key), 0

    def nonce(self):
        count = self.count.to_bytes(12, "big")
        self.count += 1
        return bytearray(a ^ b for a, b in zip(self.iv, count))

    def seal(self, inner):
        """A record with this inner plaintext, content type and padding included (5.2)."""
        header = struct.pack(">BHH", DATA, 0x0303, len(inner) + 16)
        return header + bytes(self.cipher.seal(self.nonce(), bytearray(inner), bytearray(header)))

    def open(self, header, sealed):
        """The content type and the content."""
        inner = self.cipher.open(self.nonce(), bytearray(sealed), bytearray(header))
        assert inner is not None, "the server's record does not authenticate"
        inner = bytes(inner).rstrip(b"\0")
        return inner[-1], inner[:-1]

    def updated(self):
        """The next keys (7.2)."""
        length = len(self.secret)
        return Keys(self.suite, HKDF_expand_label(self.secret, b"traffic upd", b"", length, self.hash))


class Ticket:
    """What a later session needs of an earlier one (4.6.1)."""

    def __init__(self, suite, message, resumption):
        algorithm = "sha384" if suite == AES_256 else "sha256"
        parsed = NewSessionTicket().parse(Parser(bytearray(message[1:])))
        self.suite, self.identity, self.age_add = suite, bytes(parsed.ticket), parsed.ticket_age_add
        self.extensions = parsed.extensions
        self.psk = HKDF_expand_label(resumption, b"resumption", parsed.ticket_nonce, len(resumption), algorithm)


class Client:
    """A connection. The steps, in order: hello(), flight(), finish(); session() is all of them."""

    def __init__(self, address, suite=AES_128):
        self.socket = socket.create_connection(address, timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.suites = [suite]
        self.groups, self.shares = [GroupName.x25519], [GroupName.x25519]
        self.versions = [TLS13]
        self.session_id = bytearray(os.urandom(32))
        self.ticket, self.binder_flip, self.identity = None, 0, None
        self.more_extensions = []
        self.without = []
        self.read_keys = self.write_keys = None
        self.hashes = HandshakeHashes()
        self.seen = []
        self.resumed = False
        self.messages = b""
        self.tickets = []
        self.plain = b""

    # What is sent.

    def raw(self, data):
        """Bytes as they are. That the server has closed already is seen when reading."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def record(self, content, data, padding=0):
        """A record: sealed once there are keys."""
        self.raw(self.sealed(content, data, padding))

    def sealed(self, content, data, padding=0):
        """The bytes of a record."""
        if self.write_keys is None:
            return struct.pack(">BHH", content, 0x0303, len(data)) + bytes(data)
        return self.write_keys.seal(bytes(data) + bytes([content]) + bytes(padding))

    def data(self, data, padding=0):
        """Application data, in one record."""
        self.record(DATA, data, padding)

    def client_hello(self):
        """A ClientHello as this client's fields say."""
        exchanges = [(group, ECDHKeyExchange(group, TLS13)) for group in self.shares]
        self.private = {group: exchange.get_random_private_key() for group, exchange in exchanges}
        entries = [KeyShareEntry().create(group, bytearray(exchange.calc_public_value(self.private[group])))
                   for group, exchange in exchanges]
        schemes = [SignatureScheme.ecdsa_secp256r1_sha256, SignatureScheme.rsa_pss_rsae_sha256]
        extensions = [SupportedVersionsExtension().create(self.versions),
                      SupportedGroupsExtension().create(self.groups),
                      SignatureAlgorithmsExtension().create(schemes),
                      PskKeyExchangeModesExtension().create([PskKeyExchangeMode.psk_dhe_ke]),
                      ClientKeyShareExtension().create(entries)]
        extensions = [e for e in extensions if e.extType not in self.without] + self.more_extensions
        if self.ticket:
            extensions.append(self.offer())
        hello = ClientHello().create((3, 3), bytearray(os.urandom(32)), self.session_id, self.suites,
                                     extensions=extensions)
        message = hello.write()
        if self.ticket:
            self.bind(message)
        return bytes(message)

    def offer(self):
        length = 48 if self.ticket.suite == AES_256 else 32
        identity = PskIdentity().create(bytearray(self.identity or self.ticket.identity), self.ticket.age_add)
        return PreSharedKeyExtension().create([identity], [bytearray(length)])

    def bind(self, message):
        """Puts the binder in its place, the last bytes of the ClientHello (4.2.11.2)."""
        algorithm = "sha384" if self.ticket.suite == AES_256 else "sha256"
        length = len(self.ticket.psk)
        early = secureHMAC(bytearray(length), self.ticket.psk, algorithm)
        key = derive_secret(early, b"res binder", None, algorithm)
        hashes = self.hashes.copy()
        hashes.update(message[:-(length + 3)])
        finished = HKDF_expand_label(key, b"finished", b"", length, algorithm)
        binder = secureHMAC(finished, hashes.digest(algorithm), algorithm)
        binder[0] ^= self.binder_flip
        message[-length:] = binder

    def hello(self, cut=None):
        """Sends the ClientHello, in records of `cut` bytes when that is given."""
        message = self.client_hello()
        self.hashes.update(bytearray(message))
        self.spread(message, cut)

    def spread(self, message, cut=None):
        """A handshake message over records of `cut` bytes."""
        cut = cut or len(message)
        self.raw(b"".join(self.sealed(HANDSHAKE, message[i:i + cut]) for i in range(0, len(message), cut)))

    def finished(self):
        """Our Finished (4.4.4)."""
        key = HKDF_expand_label(self.client_secret, b"finished", b"", len(self.client_secret), self.hash)
        return handshake(FINISHED, secureHMAC(key, self.hashes.digest(self.hash), self.hash))

    def finish(self, message=None):
        """Our Finished, and the keys after it."""
        message = message or self.finished()
        self.spread(message)
        self.open_traffic(message)

    def open_traffic(self, message):
        """The keys after our Finished, which is `message`."""
        self.hashes.update(bytearray(message))
        self.resumption = derive_secret(self.master, b"res master", self.hashes, self.hash)
        self.write_keys = Keys(self.suite, self.application[0])
        self.read_keys = Keys(self.suite, self.application[1])

    # What is received.

    def read(self, length):
        """Exactly so many bytes."""
        data = b""
        while len(data) < length:
            try:
                read = self.socket.recv(length - len(data))
            except ConnectionResetError:
                raise Ended("reset")
            except socket.timeout:
                raise Ended("silence")
            if not read:
                raise Ended("closed" if not data else "closed in a record")
            data += read
        return data

    def next_record(self):
        """The next record's content type and content; change_cipher_spec is left out."""
        while True:
            header = self.read(5)
            kind, _, length = struct.unpack(">BHH", header)
            assert length <= MAX + 256, f"the server's record has {length} bytes"
            body = self.read(length)
            if kind == CCS:
                continue
            return self.read_keys.open(header, body) if kind == DATA and self.read_keys else (kind, body)

    def next_message(self):
        """The next handshake message."""
        while len(self.messages) < 4 or len(self.messages) < 4 + int.from_bytes(self.messages[1:4], "big"):
            kind, data = self.next_record()
            if kind == ALERT:
                raise Ended(f"alert {data[1]}")
            assert kind == HANDSHAKE, f"content type {kind} in the handshake"
            self.messages += data
        length = 4 + int.from_bytes(self.messages[1:4], "big")
        message, self.messages = self.messages[:length], self.messages[length:]
        return message

    def flight(self):
        """The server's part, to its Finished, which is checked."""
        message = self.next_message()
        self.take_server_hello(message)
        while True:
            message = self.next_message()
            self.seen.append(message[0])
            if message[0] == FINISHED:
                break
            self.hashes.update(bytearray(message))
        key = HKDF_expand_label(self.server_secret, b"finished", b"", len(self.server_secret), self.hash)
        expected = secureHMAC(key, self.hashes.digest(self.hash), self.hash)
        assert hmac.compare_digest(bytes(expected), message[4:]), "the server's Finished is wrong"
        self.hashes.update(bytearray(message))
        derived = derive_secret(self.handshake_secret, b"derived", None, self.hash)
        self.master = secureHMAC(derived, bytearray(len(self.client_secret)), self.hash)
        names = [b"c ap traffic", b"s ap traffic"]
        self.application = [derive_secret(self.master, name, self.hashes, self.hash) for name in names]

    def take_server_hello(self, message):
        assert message[0] == HandshakeType.server_hello, f"handshake message {message[0]} instead of ServerHello"
        hello = ServerHello().parse(Parser(bytearray(message[1:])))
        assert bytes(hello.random) != RETRY, "HelloRetryRequest"
        assert hello.session_id == self.session_id, "legacy_session_id_echo (4.1.3)"
        self.hashes.update(bytearray(message))
        self.suite = hello.cipher_suite
        self.hash = "sha384" if self.suite == AES_256 else "sha256"
        length = 48 if self.suite == AES_256 else 32
        share = hello.getExtension(ExtensionType.key_share).server_share
        exchange = ECDHKeyExchange(share.group, TLS13)
        shared = exchange.calc_shared_key(self.private[share.group], share.key_exchange)
        self.resumed = hello.getExtension(ExtensionType.pre_shared_key) is not None
        psk = self.ticket.psk if self.resumed else bytearray(length)
        early = secureHMAC(bytearray(length), psk, self.hash)
        derived = derive_secret(early, b"derived", None, self.hash)
        self.handshake_secret = secureHMAC(derived, shared, self.hash)
        self.client_secret = derive_secret(self.handshake_secret, b"c hs traffic", self.hashes, self.hash)
        self.server_secret = derive_secret(self.handshake_secret, b"s hs traffic", self.hashes, self.hash)
        self.write_keys = Keys(self.suite, self.client_secret)
        self.read_keys = Keys(self.suite, self.server_secret)

    def take_retry(self):
        """A HelloRetryRequest: the group that the server wants. The transcript begins anew (4.4.1)."""
        message = self.next_message()
        hello = ServerHello().parse(Parser(bytearray(message[1:])))
        assert bytes(hello.random) == RETRY, "no HelloRetryRequest"
        hash_name = "sha384" if hello.cipher_suite == AES_256 else "sha256"
        digest = self.hashes.digest(hash_name)
        self.hashes = HandshakeHashes()
        self.hashes.update(bytearray(handshake(HandshakeType.message_hash, digest)))
        self.hashes.update(bytearray(message))
        return hello.getExtension(ExtensionType.key_share).selected_group

    def session(self):
        """A whole handshake, as it should be; a version message is sent and answered."""
        self.hello()
        self.flight()
        self.finish()
        self.greet()
        return self

    def greet(self):
        """version and verack."""
        self.data(bitcoin.version())
        self.await_command("version")
        self.data(bitcoin.message("verack"))

    def next_data(self):
        """The next application data. Tickets are kept, key updates of the server's followed."""
        while True:
            kind, data = self.next_record()
            if kind == DATA:
                return data
            if kind == ALERT:
                raise Ended(f"alert {data[1]}")
            while data:
                length = 4 + int.from_bytes(data[1:4], "big")
                self.after_handshake(data[:length])
                data = data[length:]

    def after_handshake(self, message):
        if message[0] == KEY_UPDATE:
            self.read_keys = self.read_keys.updated()
            self.updates = getattr(self, "updates", 0) + 1
        elif message[0] == HandshakeType.new_session_ticket:
            self.tickets.append(Ticket(self.suite, message, self.resumption))
        else:
            raise AssertionError(f"handshake message {message[0]} after the handshake")

    def await_command(self, command, payload=None):
        """Reads until this P2P message has come."""
        while True:
            found, self.plain = bitcoin.messages(self.plain)
            if any(c == command and payload in (None, p) for c, p in found):
                return
            self.plain += self.next_data()

    def alive(self, nonce=None):
        """A ping is answered: all that was sent before was taken."""
        nonce = nonce if nonce is not None else int.from_bytes(os.urandom(7), "big")
        self.data(bitcoin.ping(nonce))
        self.await_command("pong", struct.pack("<Q", nonce))

    def end(self):
        """How the connection ends, whatever comes before: the alert, which must be the last thing, or the way it was closed.

        Behind an alert a reset is as good as a close: the server need not read what we have sent too much."""
        try:
            while True:
                kind, data = self.next_record()
                if kind == ALERT:
                    break
        except Ended as ended:
            return str(ended)
        try:
            self.read(1)
        except Ended as ended:
            return f"alert {data[1]}" + ("" if str(ended) in ("closed", "reset") else f", {ended}")
        return f"alert {data[1]}, and more behind it"
