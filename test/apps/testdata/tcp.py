"""TCP echo: `tcp.py serve PORT`, or `tcp.py ask ADDR PORT SECONDS`, which sends
a numbered line and waits for its echo again and again, and prints how many came
back and the longest time that one took, in milliseconds."""
import socket
import sys
import threading
import time


def answer(c):
    with c:
        echo(c)


def echo(c):
    while True:
        data = c.recv(65536)
        if not data:
            return
        c.sendall(data)


def serve(port):
    s = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    print("ready", flush=True)
    while True:
        c, _ = s.accept()
        threading.Thread(target=answer, args=(c,), daemon=True).start()


def ask(addr, port, seconds):
    s = socket.create_connection((addr, port), 10)
    s.settimeout(10)
    f = s.makefile("rwb")
    end, n, worst = time.monotonic() + seconds, 0, 0.0
    print("connected", flush=True)
    while time.monotonic() < end:
        began = time.monotonic()
        line = b"%d\n" % n
        f.write(line)
        f.flush()
        if f.readline() != line:
            sys.exit("line %d was not echoed" % n)
        n += 1
        worst = max(worst, time.monotonic() - began)
        time.sleep(0.002)
    print(n, int(worst * 1000))


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
ask(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
