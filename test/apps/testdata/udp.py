"""UDP echo: `udp.py serve PORT`, or `udp.py ask PORT ADDR...`, which sends
datagrams of several sizes to each address and checks the answers and their
source."""
import socket
import sys

SIZES = 1, 1400, 4000, 20000, 65000


def serve(port):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(("::", port))
    print("ready", flush=True)
    while True:
        data, addr = s.recvfrom(70000)
        s.sendto(data, addr)


def ask(port, addrs):
    bad = 0
    for addr in addrs:
        for connected in False, True:
            for size in SIZES:
                s = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_DGRAM)
                s.settimeout(1)
                data = (b"0123456789abcdef" * 4096)[:size]
                got, source = b"", ("nobody",)
                for _ in range(3):  # the first may teach the path's MTU, and be lost
                    try:
                        if connected:
                            s.connect((addr, port))
                            s.send(data)
                        else:
                            s.sendto(data, (addr, port))
                        got, source = s.recvfrom(70000)
                        break
                    except TimeoutError:
                        pass
                if got != data or source[0] != addr:
                    print("to", addr, "connected" if connected else "", size, "bytes: got", len(got), "from", source)
                    bad += 1
    sys.exit(bad > 0)


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
ask(int(sys.argv[2]), sys.argv[3:])
