"""Client, and servers of Python's own, for the test of Python.

usage: pair.py forking|client DIR
"""
import asyncio
import concurrent.futures
import hashlib
import http.client
import os
import selectors
import socket
import socketserver
import sys
import urllib.request

D = sys.argv[2]


class Upper(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())


class Forking(socketserver.ForkingMixIn, socketserver.TCPServer):
    allow_reuse_address = True


def body(i):
    return hashlib.sha256(str(i).encode()).hexdigest().encode() * (i * 50)


def web():
    """Fetches the tree of http.server by urllib, many at once, and by one connection."""
    big = open(D + "/www/big", "rb").read()

    def get(_):
        with urllib.request.urlopen("http://127.0.0.1:8000/big", timeout=30) as r:
            return r.read() == big and r.headers["Content-Length"] == str(len(big))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(get, range(24)))
    with urllib.request.urlopen("http://[::1]:8001/big") as r:
        assert r.read() == big
    try:
        urllib.request.urlopen("http://127.0.0.1:8000/none")
        assert False, "404 expected"
    except urllib.error.HTTPError as e:
        assert e.code == 404
    c = http.client.HTTPConnection("127.0.0.1", 8000, timeout=10)
    for _ in range(5):
        c.request("HEAD", "/big")
        r = c.getresponse()
        assert r.read() == b"" and r.status == 200
    c.close()
    print("web ok")


def forking():
    """A conversation with a process of its own for each of ten clients."""
    socks = [socket.create_connection(("localhost", 8002), timeout=20) for _ in range(10)]
    for n in range(3):
        for i, s in enumerate(socks):
            s.sendall(b"line %d of client %d\n" % (n, i))
        for i, s in enumerate(socks):
            got = b""
            while not got.endswith(b"\n"):
                part = s.recv(100)
                assert part, "early end"
                got += part
            assert got == b"LINE %d OF CLIENT %d\n" % (n, i), got
    for s in socks:
        s.shutdown(socket.SHUT_WR)
        assert s.recv(1) == b""
        s.close()
    print("forking ok")


async def echo_many():
    """100 asyncio clients of an asyncio server, each with its own bytes."""
    async def serve(r, w):
        while data := await r.read(65536):
            w.write(data)
            await w.drain()
        w.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=128)
    port = server.sockets[0].getsockname()[1]

    async def client(i):
        r, w = await asyncio.open_connection("127.0.0.1", port)
        want = body(i)
        w.write(want)
        w.write_eof()
        got = await r.read()
        w.close()
        return got == want

    assert all(await asyncio.gather(*(client(i) for i in range(100))))
    server.close()
    print("asyncio ok")


def dual():
    """A dual-stack server sees IPv4 clients as mapped addresses."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as l:
        c = socket.create_connection(("127.0.0.1", l.getsockname()[1]))
        a, peer = l.accept()
        assert peer[0] == "::ffff:127.0.0.1" and peer[1] == c.getsockname()[1], peer
        a.close()
        assert c.recv(1) == b""
        c.close()
    print("dual ok")


def udp():
    """Datagrams with selectors and recvmsg; boundaries and sources are kept."""
    a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    a.bind(("127.0.0.1", 0))
    b.bind(("127.0.0.1", 0))
    a.setblocking(False)
    sel = selectors.DefaultSelector()
    sel.register(a, selectors.EVENT_READ)
    for i in range(50):
        b.sendto(b"d" * i, a.getsockname())
    for i in range(50):
        assert sel.select(5)
        data, _, _, src = a.recvmsg(2000)
        assert len(data) == i and src == b.getsockname(), (i, len(data), src)
    assert not sel.select(0)
    b.connect(("127.0.0.1", 9))  # nothing there
    b.send(b"x")
    b.settimeout(5)
    try:
        b.recv(1)
        assert False, "ECONNREFUSED expected"
    except (ConnectionRefusedError, ConnectionResetError):
        pass  # reset: a native recv(2) on a stand-in knows no other error
    print("udp ok")


def sendfile():
    """socket.sendfile (sendfile(2)) and makefile on both ends of one connection."""
    with socket.create_server(("127.0.0.1", 0)) as l:
        pid = os.fork()
        if pid == 0:
            c, _ = l.accept()
            with open(D + "/www/big", "rb") as f:
                n = c.sendfile(f)
            c.close()
            os._exit(0 if n == os.path.getsize(D + "/www/big") else 1)
        s = socket.create_connection(l.getsockname())
        got = hashlib.sha256()
        while part := s.recv(1 << 16):
            got.update(part)
        assert got.digest() == hashlib.sha256(open(D + "/www/big", "rb").read()).digest()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    print("sendfile ok")


if sys.argv[1] == "forking":
    with Forking(("127.0.0.1", 8002), Upper) as server:
        server.serve_forever()
web()
forking()
asyncio.run(echo_many())
dual()
udp()
sendfile()
