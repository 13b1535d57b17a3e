"""Processes that share one port by SO_REUSEPORT: `workers.py PORT N`. Each has
a TCP listener and a UDP socket of its own on [::]:PORT, IPv4 too, and answers
who it is: its number on TCP, its number and the datagram on UDP. A worker ends
on SIGTERM, all of them with the parent."""
import os
import select
import signal
import socket
import sys


def shared(kind, port):
    s = socket.socket(socket.AF_INET6, kind)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("::", port))
    s.setblocking(False)
    return s


def work(n, port, up):
    tcp, udp = shared(socket.SOCK_STREAM, port), shared(socket.SOCK_DGRAM, port)
    tcp.listen(64)
    os.write(up, b"x")
    while True:
        for s in select.select([tcp, udp], [], [])[0]:
            try:
                if s is tcp:
                    with s.accept()[0] as c:
                        c.sendall(b"worker %d\n" % n)
                else:
                    data, addr = s.recvfrom(2000)
                    s.sendto(b"worker %d %s\n" % (n, data.strip()), addr)
            except BlockingIOError:
                pass


port, count = int(sys.argv[1]), int(sys.argv[2])
rd, up = os.pipe()
pids = []
for n in range(count):
    pid = os.fork()
    if pid == 0:
        work(n, port, up)
    pids.append(pid)
for _ in pids:
    os.read(rd, 1)
for pid in pids:
    print("pid", pid, flush=True)
print("ready", flush=True)
signal.pause()
