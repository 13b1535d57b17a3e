"""A web server for the examples: /N, /Nk, /NM and so on give so many bytes, and
/peer the client's address."""
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

UNITS = {"k": 1000, "M": 1000**2, "G": 1000**3}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/peer":
            peer = self.client_address[0].removeprefix("::ffff:")
            return self.answer(f"you are {peer}\n".encode())
        word = self.path.lstrip("/") or "0"
        try:
            size = int(word.rstrip("kMG")) * UNITS.get(word[-1], 1)
        except ValueError:
            self.send_error(404)
            return
        self.begin(size)
        block = b"\0" * 65536
        while size > 0:
            size -= self.wfile.write(block[: min(size, len(block))])

    def answer(self, body):
        self.begin(len(body))
        self.wfile.write(body)

    def begin(self, size):
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6  # and IPv4, by mapped addresses


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
Server(("", port), Handler).serve_forever()
