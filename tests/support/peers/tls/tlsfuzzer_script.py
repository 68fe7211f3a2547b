"""Runs one script of tlsfuzzer against a server that speaks Bitcoin P2P instead of HTTP.

    tlsfuzzer_script.py CHECKOUT SCRIPT -h HOST -p PORT [arguments of the script]

tlsfuzzer's scripts send `GET / HTTP/1.0` and expect application data in return. Here what they send is replaced, in
the same length where the length is what is tested: first by a version message, then by pings, so that each request
has one answer. Nothing else of tlsfuzzer is changed, and nothing of it is copied.
"""

import importlib
import sys

import bitcoin

# What nearly every script sends, when nothing depends on its length.
PLAIN_REQUEST = b"GET / HTTP/1.0\r\n\r\n"


def request(length, first):
    """Bytes that are answered at once; exactly `length` of them, unless that is too short for what must be said."""
    said = bitcoin.version() if first else bitcoin.ping(length)
    rest = length - len(said)
    return said + bitcoin.padding(rest) if rest >= bitcoin.HEADER else said


def speak_bitcoin(messages):
    """Replaces what the scripts say in application data."""
    plain = messages.ApplicationDataGenerator.generate

    def generate(self, status):
        if not self.payload.startswith(b"GET /"):
            return plain(self, status)
        first = getattr(status, "greeted", None) is not status.msg_sock
        status.greeted = status.msg_sock
        length = 0 if self.payload == PLAIN_REQUEST else len(self.payload)
        http, self.payload = self.payload, bytearray(request(length, first))
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
    importlib.import_module("tlsfuzzer._apps." + name).main()


if __name__ == "__main__":
    main()
