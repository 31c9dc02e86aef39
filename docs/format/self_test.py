# SPDX-License-Identifier: MIT
"""The vectors of docs/format.md, section 18, computed again. `read_repository.py --self-test` runs this."""
import pathlib, re, struct
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as xchacha_seal
from nacl.signing import SigningKey
from blake3 import blake3
import read_repository as r

KEY, REPOSITORY, IDENT = bytes(range(32)), bytes(range(0xA0, 0xB0)), b"\x22" * 32
CUT, ID = bytes(range(32)), bytes(range(32, 64))

def sample(length):
    return blake3(b"backstay sample").digest(length=length)

def seal(key, fresh, context, content, extra=b"", clear=b""):
    nonce = r.nonce_of(key, fresh, context + extra, content)
    return nonce + xchacha_seal(clear + content, context, nonce, key)

def cut_aligned(data):
    blocks = [data[at:at + 4096].ljust(4096, b"\0") for at in range(0, len(data), 4096)]
    hashes, zero = [r.keyed(CUT, block) for block in blocks], [not any(block) for block in blocks]
    run = [0] * (len(blocks) + 1)
    for at in reversed(range(len(blocks))):
        run[at] = run[at + 1] + 1 if zero[at] else 0
    entries, p = [], 0
    while p < len(blocks):
        if run[p] >= 16:
            entries.append(("hole", p, p + run[p]))
        else:
            # A run that was entered in its middle still has 16 blocks ahead only where it began.
            starts = [at for at in range(p + 1, min(p + 24, len(blocks))) if run[at] >= 16 and not zero[at - 1]]
            limit = min([p + 24, len(blocks)] + starts)
            end = limit if limit - p <= 8 else min(range(p + 8, limit + 1), key=lambda end: (hashes[end - 1], end))
            entries.append(("chunk", p, end))
        p = entries[-1][2]
    return entries

def cut_stream(data):
    gear = struct.unpack("<256Q", blake3(b"backstay stream gear 1", key=CUT).digest(length=2048))
    lengths, start = [], 0
    while start < len(data):
        rest = min(len(data) - start, 262144)
        end, value = rest, 0
        for at in range(16384, rest // 2 * 2):
            value = 2 * value + gear[data[start + at]] & (1 << 64) - 1
            if not value & (0xD90703537000 if at < 65536 else 0xD90F03530000):
                end = at
                break
        lengths.append(end)
        start += end
    return lengths

def vectors():
    aad = r.aad(REPOSITORY, 1, r.CHUNK, IDENT)
    yield "subkey nonce", r.derive("nonce", KEY)
    yield "subkey structure object 6", r.type_key(KEY, r.POINT)
    yield "subkey slot mac", r.derive("slot mac", KEY)
    yield "slot commitment of 'plain'", r.derive("slot commitment", b"plain")
    yield "slot mac of 'slot'", r.slot_mac(KEY, b"slot")
    yield "associated data", aad
    yield "frame", seal(KEY, b"\x01" * 32, aad, b"content", b"\0", b"\0")
    name, kind = b"points/" + b"00" * 16, r.POINT
    point_aad = r.aad(REPOSITORY, 1, kind, name)
    header = struct.pack("<4sBBHI", b"BKST", 1, kind, 1, 1)
    yield "envelope", header + seal(r.type_key(KEY, kind), b"\x01" * 32, point_aad, b"plain")
    part = r.aad(REPOSITORY, 1, r.PAGE, b"\x33" * 16 + struct.pack("<I", 5))
    yield "page", seal(r.type_key(KEY, r.PAGE), b"\x33" * 16 + bytes(16), part, b"records")
    yield "padding", blake3(b"\x33" * 16, key=r.derive("pack padding", KEY)).digest(length=16)
    private, public = r.Hpke.key_pair(KEY)
    yield "X25519 private", private
    yield "X25519 public", public
    # RFC 9180, appendix A.2.1.1, sequence number 0.
    private, _ = r.Hpke.key_pair(bytes.fromhex("1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df"))
    box = bytes.fromhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"
                        "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28")
    yield "RFC 9180 A.2.1", r.Hpke.open(private, b"Count-0", box, b"Ode on a Grecian Urn")
    message = r.signature_message(kind, REPOSITORY, 1, name.decode(), b"body")
    yield "signature message", message
    yield "signature", SigningKey(KEY).sign(message).signature
    yield "Argon2id", r.slot_secret([0, [{0: 64, 1: 3, 2: 1}, b"somesaltsomesalt"]], b"password", None)
    assert r.parse_key(r.format_key(KEY).lower().replace("-", " ").replace("1", "l")) == KEY
    yield "key text", r.format_key(KEY)
    data = sample(8192)
    yield "sample", data[:16]
    for what, block in (("zeros", bytes(4096)), ("first block", data[:4096]), ("first 1000 bytes", data[:1000])):
        yield "block hash, " + what, r.keyed(CUT, block.ljust(4096, b"\0"))
    for what, chunk in (("first block", data[:4096]), ("first 1000 bytes", data[:1000]), ("8192 bytes", data)):
        yield "chunk id, " + what, r.chunk_id(CUT, ID, chunk)
    leaf = b"\1\2\0" + struct.pack("<H", 0x8000 | 4072) + struct.pack("<H", 24) + IDENT
    assert r.parse_leaf(leaf) == [(4072, None), (24, IDENT)]
    yield "leaf", leaf
    yield "node id of the leaf", r.keyed(KEY, leaf)
    disk = bytearray(sample((1 << 20) + 1000))
    disk[100 * 4096:130 * 4096], disk[200 * 4096:215 * 4096] = bytes(30 * 4096), bytes(15 * 4096)
    cuts = cut_aligned(bytes(disk))
    yield "cuts of a disk", ", ".join(("hole " if kind == "hole" else "") + str(end - at) for kind, at, end in cuts)
    yield "id of the last", r.chunk_id(CUT, ID, bytes(disk[cuts[-1][1] * 4096:]))
    yield "cuts of a stream", ", ".join(map(str, cut_stream(sample(1 << 20))))
    text = vector_text()
    question = bytes.fromhex(text["filter"])
    held = [r.may_hold(question, r.h(struct.pack("<Q", number))) for number in range(4000)]
    assert all(held[:40]) and sum(held) < 100
    yield "filter", question
    segment = bytes.fromhex(text["segment"])
    start, length = struct.unpack_from("<QI", segment, len(segment) - 32)
    found = r.parse_segment(segment[:start], segment[start:start + length], lambda number, sealed: sealed)
    assert found[0] == [(b"\x11" * 32, b"\xbb" * 32, 64, 900, 4000)]
    assert found[1] == [(b"\x22" * 32, b"\xaa" * 32, 64, 30000, 32768), (b"\x33" * 32, b"\xaa" * 32, 70000, 40000, 65536)]
    yield "segment", segment
    yield "segment id", r.h(segment[start:])

def vector_text():
    """Name and value of each line of the block in section 18; a line that ends in a backslash goes on."""
    page = (pathlib.Path(__file__).parent.parent / "format.md").read_text().split("## 18 Test vectors")[1]
    block = re.sub(r"\\\n *", "", page.split("```text\n")[1].split("```")[0])
    return dict(line.split(" = ", 1) for line in block.strip().splitlines())

def run():
    wanted, count = vector_text(), 0
    for name, value in vectors():
        value = value.hex() if isinstance(value, bytes) else value
        assert wanted.pop(name, None) == value, f"{name} = {value}"
        count += 1
    assert not wanted, f"not tested: {list(wanted)}"
    print(f"{count} vectors hold")
