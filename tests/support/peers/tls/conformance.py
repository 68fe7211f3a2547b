"""Conformance of a TLS 1.3 server's handshake, record layer and alerts: what tlsfuzzer's scripts for TLS 1.3 look at,
as far as it concerns a server that speaks Bitcoin's P2P protocol. Written from RFC 8446; sections in brackets.

    conformance.py HOST PORT [part of a case's name]

A line per case, `PASS name` or `FAIL name: why`; the status is 1 when one has failed. Each case has a connection of its
own. Cases of the record layer run with each of the three cipher suites.
"""

import sys
import traceback

import cases_handshake
import cases_records
from tls13 import AES_128, AES_256, CHACHA, Client

SUITES = {"AES-128-GCM": AES_128, "AES-256-GCM": AES_256, "CHACHA20-POLY1305": CHACHA}


def cases(address):
    """Name and what to do, for all cases."""
    for name, case in cases_handshake.CASES.items():
        yield f"handshake: {name}", lambda case=case: case(lambda suite=AES_128: Client(address, suite))
    for label, suite in SUITES.items():
        for name, case in cases_records.CASES.items():
            yield f"{label}: {name}", lambda case=case, suite=suite: case(Client(address, suite).session())


def main():
    address, wanted = (sys.argv[1], int(sys.argv[2])), sys.argv[3] if len(sys.argv) > 3 else ""
    failed = count = 0
    for name, run in cases(address):
        if wanted not in name:
            continue
        count += 1
        try:
            run()
            print(f"PASS {name}")
        except Exception as error:
            failed += 1
            line = traceback.extract_tb(error.__traceback__)[-1]
            place = next(f.lineno for f in reversed(traceback.extract_tb(error.__traceback__)) if "cases_" in f.filename)
            print(f"FAIL {name}: {type(error).__name__} {error} (case's line {place}, {line.name})")
    print(f"{count} cases, {failed} failed")
    sys.exit(1 if failed or not count else 0)


if __name__ == "__main__":
    main()
