"""Raw disk images: make, mount, hash, compare, all without reading holes."""
import hashlib
import os
import re
import struct
import subprocess
from contextlib import contextmanager

PART_OFFSET = 1 << 20  # where every current partitioning tool starts the first one
BLOCK = 4096
STEP = 64 << 10        # small buffers keep this process, and so its forks, small
ZERO = bytes(STEP)


def sh(*args, **kw):
    return subprocess.run([str(a) for a in args], check=True, **kw)


def make_partitioned(path, size):
    """A disk with one Linux partition holding an empty ext4."""
    sectors = (size - PART_OFFSET) // 512
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff",
                        PART_OFFSET // 512, sectors)
    with open(path, "wb") as f:
        f.truncate(size)
        f.seek(446)
        f.write(entry + bytes(48) + b"\x55\xaa")
    # Nothing may be initialised later in the background: it would leak
    # writes which no guest did into the next state of the disk.
    sh("mkfs.ext4", "-q", "-F", "-L", "root",
       "-E", f"offset={PART_OFFSET},lazy_itable_init=0,lazy_journal_init=0",
       path, f"{sectors // 2}k")


@contextmanager
def mounted(path, where, readonly=False):
    os.makedirs(where, exist_ok=True)
    limit = os.path.getsize(path) - PART_OFFSET
    # Even a read-only mount writes to the superblock unless told not to.
    how = "ro,noload" if readonly else "rw"
    sh("mount", "-t", "ext4", "-o", f"{how},loop,offset={PART_OFFSET},sizelimit={limit}",
       path, where)
    try:
        yield where
    finally:
        sh("umount", where)


def copy(src, dst):
    sh("cp", "--sparse=always", src, dst)


def allocated(path):
    return os.stat(path).st_blocks * 512


def extents(fd, size):
    """(offset, length) of the parts of a file that are not holes."""
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, at - start


def content_hash(path, size=None):
    """sha256 of what a guest sees, in time that follows the data, not the size.

    Every 64 KiB block which is not all zero counts with its offset, and the
    virtual size counts too.  A hole and a written zero are the same to a
    guest, so they are the same here.  `size` pretends the disk were larger.
    """
    h = hashlib.sha256()
    with open(path, "rb", buffering=0) as f:
        fd, real = f.fileno(), os.path.getsize(path)
        done = 0
        for start, length in extents(fd, real):
            at = max(done, start // STEP * STEP)
            while at < start + length:
                block = os.pread(fd, STEP, at)
                block += ZERO[len(block):]
                if block != ZERO:
                    h.update(struct.pack(">Q", at))
                    h.update(block)
                at += STEP
            done = at
    h.update(struct.pack(">Q", size or real))
    return h.hexdigest()


def changed_runs(old, new, longest=1 << 20):
    """(offset, bytes) of the 4 KiB blocks of `new` that differ from `old`,
    neighbours joined."""
    with open(old, "rb", buffering=0) as a, open(new, "rb", buffering=0) as b:
        size = os.path.getsize(new)
        steps = set()
        for fd in (a.fileno(), b.fileno()):
            for start, length in extents(fd, size):
                steps.update(range(start // STEP, -(-(start + length) // STEP)))
        run_at, run = 0, b""
        for step in sorted(steps):
            x, y = os.pread(a.fileno(), STEP, step * STEP), os.pread(b.fileno(), STEP, step * STEP)
            if x == y:
                continue
            for i in range(0, len(y), BLOCK):
                if x[i:i + BLOCK] == y[i:i + BLOCK]:
                    continue
                at = step * STEP + i
                if run and (run_at + len(run) != at or len(run) >= longest):
                    yield run_at, run
                    run = b""
                if not run:
                    run_at = at
                run += y[i:i + BLOCK]
        if run:
            yield run_at, run


def file_blocks(path):
    """Positions on the *disk* of the 4 KiB blocks of a file in a mounted image."""
    text = sh("filefrag", "-e", "-v", path, stdout=subprocess.PIPE, text=True).stdout
    for first, last in re.findall(r"^\s*\d+:\s+\d+\.\.\s*\d+:\s+(\d+)\.\.\s*(\d+):", text, re.M):
        for block in range(int(first), int(last) + 1):
            yield PART_OFFSET + block * BLOCK


def warm(path):
    """Read an image once, so that every tool starts from the page cache."""
    with open(path, "rb", buffering=0) as f:
        for start, length in extents(f.fileno(), os.path.getsize(path)):
            for at in range(start, start + length, STEP):
                os.pread(f.fileno(), STEP, at)
