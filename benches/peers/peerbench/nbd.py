"""Write into an image *through QEMU*, so that QEMU keeps its dirty bitmaps.

A persistent bitmap only earns trust when the program that owns the image set
the bits.  qemu-nbd is that program here; the client side is small enough to
speak the protocol directly, which spares a kernel module and a library.
"""
import os
import socket
import struct
import subprocess
import tempfile
import time
from contextlib import contextmanager

OPT_EXPORT_NAME, CMD_WRITE, CMD_DISC, CMD_FLUSH = 1, 1, 2, 3
MAX_WRITE = 1 << 20


class Client:
    def __init__(self, sock):
        self.sock, self.cookie = sock, 0
        if self._take(16) != b"NBDMAGICIHAVEOPT":
            raise OSError("not a newstyle NBD server")
        self._take(2)
        # Flags 3: fixed newstyle, and no 124 bytes of padding after the reply.
        sock.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", OPT_EXPORT_NAME, 0))
        self.size, _flags = struct.unpack(">QH", self._take(10))

    def _take(self, n):
        out = b""
        while len(out) < n:
            part = self.sock.recv(n - len(out))
            if not part:
                raise OSError("NBD server went away")
            out += part
        return out

    def _ask(self, cmd, offset=0, length=0, data=b""):
        self.cookie += 1
        head = struct.pack(">IHHQQI", 0x25609513, 0, cmd, self.cookie, offset, length)
        self.sock.sendall(head + data)
        if cmd == CMD_DISC:
            return
        magic, error, cookie = struct.unpack(">IIQ", self._take(16))
        if magic != 0x67446698 or error or cookie != self.cookie:
            raise OSError(f"NBD request {cmd} at {offset} failed with error {error}")

    def write(self, offset, data):
        for at in range(0, len(data), MAX_WRITE):
            part = data[at:at + MAX_WRITE]
            self._ask(CMD_WRITE, offset + at, len(part), part)

    def close(self):
        self._ask(CMD_FLUSH)
        self._ask(CMD_DISC)
        self.sock.close()


@contextmanager
def writable(image):
    """Serve `image` (qcow2) with qemu-nbd and hand out a connected client.

    The server leaves after its only client does, and stores the bitmaps as it
    closes the image; its exit status therefore matters.
    """
    with tempfile.TemporaryDirectory(prefix="peers-nbd-") as where:
        path = os.path.join(where, "s")
        server = subprocess.Popen(["qemu-nbd", "-f", "qcow2", "-k", path, image])
        try:
            sock = socket.socket(socket.AF_UNIX)
            for _ in range(200):
                try:
                    sock.connect(path)
                    break
                except OSError:
                    if server.poll() is not None:
                        raise
                    time.sleep(0.05)
            client = Client(sock)
            yield client
            client.close()
            if server.wait(timeout=120):
                raise OSError("qemu-nbd could not close the image cleanly")
        finally:
            if server.poll() is None:
                server.terminate()
                server.wait()
