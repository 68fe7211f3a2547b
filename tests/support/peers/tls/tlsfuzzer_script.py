"""Runs one script of tlsfuzzer against a server that speaks Bitcoin P2P instead of HTTP.

    tlsfuzzer_script.py CHECKOUT SCRIPT -h HOST -p PORT [arguments of the script]

tlsfuzzer's scripts send `GET / HTTP/1.0` and expect application data in return. Here what they send is replaced, in
the same length where the length is what is tested: first by a version message, then by pings, so that each request
has one answer. The names given by -e may be shell patterns. Nothing else of tlsfuzzer is changed, and nothing of it is
copied.
"""

import fnmatch
import importlib
import sys

import bitcoin

# What nearly every script sends, when nothing depends on its length.
PLAIN_REQUEST = b"GET / HTTP/1.0\r\n\r\n"


class Names(set):
    """Names of conversations, or shell patterns of them."""

    def __contains__(self, name):
        return set.__contains__(self, name) or any(fnmatch.fnmatchcase(str(name), str(n)) for n in self)


def request(length, first):
    """Bytes that are answered at once; exactly `length` of them, unless that is too short for what must be said."""
    said = bitcoin.version() if first else bitcoin.ping(length)
    rest = length - len(said)
    return said + bitcoin.padding(rest) if rest >= bitcoin.HEADER else said


class Speech:
    """What is said on a connection instead of HTTP. A request in parts stays one in parts."""

    def __init__(self):
        self.first, self.rest = True, None

    def instead_of(self, http):
        if http.startswith(b"GET"):
            self.rest = request(0 if http == PLAIN_REQUEST else len(http), self.first)
            self.first = False
        if not self.rest or not http:
            return http
        length = len(self.rest) if http.endswith(b"\r\n\r\n") else len(http)
        said, self.rest = self.rest[:length], self.rest[length:]
        return bytearray(said)


def speak_bitcoin(messages):
    """Replaces what the scripts say in application data."""
    plain = messages.ApplicationDataGenerator.generate
    speeches = {}

    def generate(self, status):
        speech = speeches.setdefault(id(status.msg_sock), (status.msg_sock, Speech()))[1]
        http, self.payload = self.payload, speech.instead_of(self.payload)
        try:
            return plain(self, status)
        finally:
            self.payload = http

    messages.ApplicationDataGenerator.generate = generate


def main():
    checkout, script = sys.argv[1:3]
    sys.path.insert(0, checkout)
    speak_bitcoin(importlib.import_module("tlsfuzzer.messages"))
    name = script.removesuffix(".py").replace("-", "_")
    sys.argv = [script] + sys.argv[3:]
    module = importlib.import_module("tlsfuzzer._apps." + name)
    # The scripts keep the names of -e in a set of their own.
    module.set = Names
    module.main()


if __name__ == "__main__":
    main()
