"""The set of disks, made once and kept in the work directory.

  A0   a Debian server with web and database; qcow2 has empty bitmap `day`
  A1   A0 a day later; its bitmap `day` holds exactly what changed
  A1w  A1 with an empty bitmap `writes` (same content: only a checkpoint)
  A2   A1 after scattered page writes; bitmap `writes` holds exactly those
  B    another Debian server: other packages, other order on the disk
  T1 / T1b   A1w / A2 grown to a sparse 1 TiB, F1 the former grown to 4 TiB
"""
import json
import os
import random

from . import guest, nbd
from .image import (BLOCK, allocated, changed_runs, content_hash, copy,
                    file_blocks, make_partitioned, mounted, sh)

FORMAT = 2  # raise it when the recipe changes, so that old caches are not reused
GIB = 1 << 30
SCATTERED = 3000


def build_guest(raw, size, mnt, debs, packages, seed, fill, then):
    suite, mirror = guest.host_release()
    packages = list(packages)
    random.Random(seed).shuffle(packages)  # order of unpacking is order on disk
    make_partitioned(raw, size)
    with mounted(raw, mnt):
        guest.install(mnt, debs, guest.COMMON + packages, suite, mirror)
        fill(mnt)
        then(mnt)
        # As a guest with a weekly trim: what was deleted while it was built
        # is no data of anybody's.
        sh("fstrim", mnt)
    sh("fallocate", "--dig-holes", raw)


def bitmap(image, name, *flags):
    sh("qemu-img", "bitmap", *(flags or ("--add",)), "-f", "qcow2", image, name)


def to_qcow2(raw, qcow2):
    sh("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2)


def write_through(qcow2, runs):
    """Apply changes by way of QEMU; answers (4 KiB blocks, pieces)."""
    blocks = pieces = 0
    with nbd.writable(qcow2) as disk:
        for at, data in runs:
            disk.write(at, data)
            blocks += len(data) // BLOCK
            pieces += 1
    return {"bytes": blocks * BLOCK, "pieces": pieces}


def page_writes(raw, mnt, count):
    """Random updates of database pages: a page keeps most of what it held."""
    rng = random.Random("scattered")
    with mounted(raw, mnt, readonly=True):
        spots = []
        for where, _dirs, files in os.walk(os.path.join(mnt, "var/lib/postgresql")):
            if "/base/" not in where:
                continue
            for name in sorted(files):
                spots.extend(file_blocks(os.path.join(where, name)))
    runs = []
    with open(raw, "r+b", buffering=0) as f:
        for at in sorted(rng.sample(sorted(set(spots)), count)):
            page = bytearray(os.pread(f.fileno(), BLOCK, at))
            for _ in range(rng.randrange(1, 5)):  # a few rows of the page
                row = rng.randrange(BLOCK - 160)
                page[row:row + 160] = rng.randbytes(160)
            os.pwrite(f.fileno(), page, at)
            runs.append((at, bytes(page)))
    return runs


def same(raw, qcow2):
    sh("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", raw, qcow2)


def prepare(work, small=False, say=print):
    home = os.path.join(work, "disks-small" if small else "disks")
    note = os.path.join(home, "manifest.json")
    if os.path.exists(note):
        with open(note) as f:
            facts = json.load(f)
        if facts["format"] == FORMAT:
            return facts
        os.remove(note)
    if os.geteuid():
        raise SystemExit("making the disks needs root (loop mounts and chroot)")
    debs, mnt = os.path.join(work, "debs"), os.path.join(home, "mnt")
    for d in (debs, mnt):
        os.makedirs(d, exist_ok=True)
    at = lambda name: os.path.join(home, name)  # noqa: E731
    size = (4 if small else 10) * GIB
    kernel = [] if small else guest.KERNEL

    say("disk A: installing the web and database guest")
    build_guest(at("A0.raw"), size, mnt, debs, guest.WEB_DB + kernel, "A",
                lambda r: guest.fill_web_db(r, debs, small), lambda r: guest.fetch_day(r, debs))
    say("disk A, a day later")
    copy(at("A0.raw"), at("A1.raw"))
    with mounted(at("A1.raw"), mnt):
        guest.day_passes(mnt, debs, small)
    to_qcow2(at("A0.raw"), at("A0.qcow2"))
    bitmap(at("A0.qcow2"), "day")
    copy(at("A0.qcow2"), at("A1.qcow2"))
    changed = {"day": write_through(at("A1.qcow2"), changed_runs(at("A0.raw"), at("A1.raw")))}
    same(at("A1.raw"), at("A1.qcow2"))

    say("disk A after scattered page writes")
    copy(at("A1.qcow2"), at("A1w.qcow2"))
    bitmap(at("A1w.qcow2"), "writes")
    copy(at("A1w.qcow2"), at("A2.qcow2"))
    copy(at("A1.raw"), at("A2.raw"))
    runs = page_writes(at("A2.raw"), mnt, SCATTERED // (10 if small else 1))
    changed["writes"] = write_through(at("A2.qcow2"), runs)
    same(at("A2.raw"), at("A2.qcow2"))

    say("the same disk and the same writes on sparse 1 TiB and 4 TiB images")
    for name, tib in (("T1", 1), ("F1", 4)):
        big = at(name + ".qcow2")
        copy(at("A1.qcow2"), big)
        bitmap(big, "day", "--remove")  # QEMU resizes no image that has one
        sh("qemu-img", "resize", "-q", "-f", "qcow2", big, f"{tib}T")
        bitmap(big, "writes")
    copy(at("T1.qcow2"), at("T1b.qcow2"))
    write_through(at("T1b.qcow2"), runs)

    say("disk B: installing the other guest")
    build_guest(at("B.raw"), size, mnt, debs, guest.OTHER + kernel, "B",
                lambda r: guest.fill_other(r, small), lambda r: None)
    to_qcow2(at("B.raw"), at("B.qcow2"))
    same(at("B.raw"), at("B.qcow2"))
    return record(home, note, changed, size)


def record(home, note, changed, size):
    at = lambda name: os.path.join(home, name)  # noqa: E731
    hashes = {n: content_hash(at(n + ".raw")) for n in ("A0", "A1", "A2", "B")}
    hashes["T1"] = content_hash(at("A1.raw"), 1 << 40)
    hashes["T1b"] = content_hash(at("A2.raw"), 1 << 40)
    hashes["F1"] = content_hash(at("A1.raw"), 4 << 40)
    facts = {"format": FORMAT, "home": home, "virtual_size": size, "changed": changed,
             "hash": hashes, "data": {n: allocated(at(n + ".raw")) for n in ("A0", "A1", "A2", "B")}}
    with open(note + ".new", "w") as f:
        json.dump(facts, f, indent=1)
    os.replace(note + ".new", note)
    return facts
