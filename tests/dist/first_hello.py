"""Starts a `serin` that was unpacked somewhere, with no tool on PATH, and waits for its hello.

Run in a network namespace of its own (`unshare --net`) it has no network but loopback, which this
script brings up first. Prints one line of JSON: seconds until `hello` answered, and what it said.
"""

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request

PATIENCE_S = 60
LOOK_EVERY_S = 0.01
# linux/sockios.h and linux/if.h: set the flags of an interface, "up".
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1


def bring_loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def first_hello(folder, work):
    """Seconds from the command to the first page, and the page."""
    begin = time.monotonic()
    bare = {"PATH": work, "HOME": work}
    with open(os.path.join(work, "said"), "wb") as said:
        command = [os.path.join(folder, "serin"), "up", "app", "--listen", "127.0.0.1:0"]
        command += ["--gateway", "127.0.0.1:0"]
        serin = subprocess.Popen(command, cwd=work, env=bare, stdout=said, stderr=said)
    try:
        while time.monotonic() - begin < PATIENCE_S:
            if serin.poll() is not None:
                break
            try:
                with open(os.path.join(work, "app/.serin/run.json"), "rb") as file:
                    gateway = json.load(file)["gateway"]
                with urllib.request.urlopen(gateway + "/hello", timeout=5) as answer:
                    page = answer.read().decode()
                return time.monotonic() - begin, page
            except (OSError, ValueError):
                time.sleep(LOOK_EVERY_S)
        with open(os.path.join(work, "said"), encoding="utf-8") as file:
            sys.exit(f"no hello within {PATIENCE_S} s; serin said: {file.read()}")
    finally:
        serin.send_signal(signal.SIGINT)
        serin.wait()


def main():
    folder, work, network = sys.argv[1:]
    if network == "none":
        bring_loopback_up()
    seconds, page = first_hello(folder, work)
    print(json.dumps({"seconds": seconds, "page": page}))


main()
