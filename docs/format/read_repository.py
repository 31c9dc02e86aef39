#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""An independent reader of Backstay repositories, written from docs/format.md and from nothing else.

It exists to prove that the description suffices, and as a way out: whoever has the repository, a key and this file gets the
data back without Backstay. It is slow (one core, no cache) and reads local folders only. It verifies everything that section 15
asks for; every assert is one of its checks.

    pip install -r requirements.txt
    read_repository.py REPO --passphrase-file FILE | --key-file FILE            list the restore points
    read_repository.py REPO … POINT --disk ID --to FILE                         restore a disk (sparse)
    read_repository.py REPO … POINT --stream NAME | --attachment NAME --to FILE
    read_repository.py REPO … --verify                                          read every pack to its last byte
    read_repository.py --self-test                                              the vectors of section 18
"""
import argparse, pathlib, struct, sys
import cbor2, zstandard
from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as xchacha_open
from nacl.signing import VerifyKey

if not __debug__:
    sys.exit("asserts are the checks of this program: run it without -O")

PREFIX = "backstay 2026-11-20 v1 "
CHUNK, NODE, DIRECTORY, PAGE, FOOTER, POINT, OUTCOME, CHAIN, TOMBSTONE = 1, 2, 3, 4, 5, 6, 9, 10, 11
SLOT, CONFIG, SESSION_KEY, FOLDED = 15, 16, 17, 18
KEYS, CONDEMN, VERDICT, REPAIR = 0, 1, 2, 3
COMMIT, ABORTED, FENCED = 0, 1, 2
OWNER, WRITER, READER, KEEPER = 1, 2, 3, 4
BLOCK, SEGMENT, FANOUT, PAGE_RECORDS, MAX_CHUNK = 4096, 16 << 20, 512, 341, 16 << 20


# ---- section 3: cryptography ----

def h(data):
    return blake3(data).digest()

def keyed(key, data):
    return blake3(data, key=key).digest()

def derive(purpose, material):
    return blake3(material, derive_key_context=PREFIX + purpose).digest()

def type_key(structure, kind):
    return derive(f"structure object {kind}", structure)

def aad(repository, epoch, kind, ident):
    return b"backstay" + struct.pack("<BH16sIB", 1, 1, repository, epoch, kind) + ident

def unseal(key, associated, sealed):
    return xchacha_open(sealed[24:], associated, sealed[:24], key)

def nonce_of(key, fresh, context, content):
    return keyed(derive("nonce", key), fresh + struct.pack("<Q", len(context)) + context + h(content))[:24]

class Hpke:
    """RFC 9180, mode base, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305."""
    KEM, SUITE = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x03"

    @staticmethod
    def extract(suite, salt, label, ikm):
        mac = hmac.HMAC(salt or bytes(32), hashes.SHA256())
        mac.update(b"HPKE-v1" + suite + label + ikm)
        return mac.finalize()

    @staticmethod
    def expand(suite, prk, label, info, length):
        info = struct.pack(">H", length) + b"HPKE-v1" + suite + label + info
        return HKDFExpand(algorithm=hashes.SHA256(), length=length, info=info).derive(prk)

    @classmethod
    def key_pair(cls, secret):
        private = cls.expand(cls.KEM, cls.extract(cls.KEM, b"", b"dkp_prk", secret), b"sk", b"", 32)
        return private, X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()

    @classmethod
    def open(cls, private, associated, box, info=(PREFIX + "hpke").encode()):
        enc, ciphertext = box[:32], box[32:]
        key = X25519PrivateKey.from_private_bytes(private)
        shared = key.exchange(X25519PublicKey.from_public_bytes(enc))
        context = enc + key.public_key().public_bytes_raw()
        shared = cls.expand(cls.KEM, cls.extract(cls.KEM, b"", b"eae_prk", shared), b"shared_secret", context, 32)
        context = b"\0" + cls.extract(cls.SUITE, b"", b"psk_id_hash", b"") + cls.extract(cls.SUITE, b"", b"info_hash", info)
        secret = cls.extract(cls.SUITE, shared, b"secret", b"")
        key = cls.expand(cls.SUITE, secret, b"key", context, 32)
        nonce = cls.expand(cls.SUITE, secret, b"base_nonce", context, 12)
        return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, associated)

def signature_message(kind, repository, epoch, name, body):
    name = name.encode()
    return (PREFIX + "signature").encode() + struct.pack("<BB16sII", 1, kind, repository, epoch, len(name)) + name + body

def record(data):
    value = cbor2.loads(data)
    assert isinstance(value, (dict, list))
    if isinstance(value, dict):
        assert all(isinstance(key, int) for key in value)
    assert cbor2.dumps(value) == data, "not encoded as section 4 says"
    return value

def verified(kind, repository, epoch, name, data):
    """A signed thing: its body's bytes and who signed. Raises when the signature is wrong."""
    signed = record(data)
    body, signer, signature = signed[0], signed[1], signed[2]
    VerifyKey(signer).verify(signature_message(kind, repository, epoch, name, body), signature)
    return body, signer


# ---- section 6: keys ----

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

def parse_key(text):
    text = "".join(text.split()).replace("-", "").upper()
    assert text.startswith("BACKSTAY") and len(text) == 64, "not a Backstay key"
    number = 0
    for letter in text[8:].replace("I", "1").replace("L", "1").replace("O", "0"):
        number = number << 5 | ALPHABET.index(letter)
    secret, check = number.to_bytes(35, "big")[:32], number.to_bytes(35, "big")[32:]
    assert derive("key check", secret)[:3] == check, "a letter of the key is wrong"
    return secret

def format_key(secret):
    number = int.from_bytes(secret + derive("key check", secret)[:3], "big")
    letters = "".join(ALPHABET[number >> 5 * at & 31] for at in reversed(range(56)))
    return "-".join(["BACKSTAY"] + [letters[at:at + 7] for at in range(0, 56, 7)])

def slot_secret(kind, passphrase, key):
    alternative, fields = kind
    if alternative == 0 and passphrase is not None:
        kdf, salt = fields
        memory, passes, lanes = kdf[0], kdf[1], kdf[2]
        assert 1 <= lanes <= 16 and 1 <= passes <= 16 and 8 * lanes <= memory <= 1 << 20
        return hash_secret_raw(passphrase, salt, passes, memory, lanes, 32, Type.ID, 0x13)
    return key if alternative in (1, 2) else None

def slot_mac(secret, slot):
    return keyed(derive("slot mac", secret), slot)


class Repository:
    def __init__(self, root, passphrase=None, key=None):
        self.root = pathlib.Path(root)
        self.open_config()
        self.open_slot(passphrase, key)
        self.read_chain()
        self.load_sessions()
        self.load_segments()

    def get(self, name):
        return (self.root / name).read_bytes()

    def names(self, folder):
        path = self.root / folder
        return sorted(p.relative_to(self.root).as_posix() for p in path.rglob("*") if p.is_file()) if path.exists() else []

    # section 15, step 1
    def open_config(self):
        data = self.get("config")
        self.config = record(record(data)[0])
        assert self.config[0] == "backstay repository"
        assert self.config[1] == 1 and self.config[3] == [1] and not self.config[4], "needs a newer reader"
        self.id, self.owner, self.config_hash = self.config[2], self.config[10], h(data)
        assert verified(CONFIG, self.id, 0, "config", data)[1] == self.owner

    # step 2
    def open_slot(self, passphrase, key):
        failed = "no slot opens with this"
        for name in self.names("keys")[:256]:
            try:
                if self.try_slot(name, passphrase, key):
                    return
            except Exception as error:  # one that is damaged, or too new, must not keep the others from opening
                failed = f"no slot opens with this, and {name} is damaged or of a newer version: {error!r}"
        sys.exit(failed)

    def try_slot(self, name, passphrase, key):
        data = self.get(name)
        assert len(data) <= 1 << 20
        body = record(record(data)[0])
        slot = record(body[0])
        # Not for this config: the rest of another init. Found out before a passphrase is tried on it.
        if slot[5] != self.config_hash or slot[4] != self.id or slot[6] != self.owner:
            return False
        assert verified(SLOT, self.id, 0, name, data)[1] == self.owner and name == "keys/" + slot[0].hex()
        secret = slot_secret(slot[1], passphrase, key)
        if secret is None:
            return False
        private, public = Hpke.key_pair(secret)
        if public != slot[7]:
            return False
        assert slot_mac(secret, body[0]) == body[1], "forged slot"
        plain = Hpke.open(private, aad(self.id, 0, SLOT, slot[0]), slot[9])
        assert derive("slot commitment", plain) == slot[8]
        self.slot, self.bundle = slot, record(plain)
        assert self.bundle[0] == slot[2]
        self.epochs = {epoch[0]: epoch for epoch in self.bundle[6]}
        return True

    def open_envelope(self, kind, ident, data):
        magic, suite, found, version, epoch = struct.unpack_from("<4sBBHI", data)
        assert (magic, suite, found, version) == (b"BKST", 1, kind, 1), "not the envelope that belongs here"
        return unseal(type_key(self.epochs[epoch][1], kind), aad(self.id, epoch, kind, ident), data[12:])

    def open_record(self, kind, name):
        data = self.get(name)
        assert len(data) <= 256 << 20
        plain = self.open_envelope(kind, name.encode(), data)
        (epoch,) = struct.unpack_from("<I", data, 8)
        body, signer = verified(kind, self.id, epoch, name, plain)
        return record(body), signer, h(data)

    # step 3
    def read_chain(self):
        numbers = [int(name.split("/")[1]) for name in self.names("chain")]
        assert numbers, "the chain is lost"
        head = max(numbers)
        body, signer, hashed = self.chain_record(head)
        change, fields = body[3]
        assert change in (KEYS, CONDEMN, VERDICT, REPAIR), "needs a newer reader"
        if change == KEYS:
            keys, self.keys_number, owner = fields[0], head, signer
        else:
            self.keys_number = body[5][0]
            earlier, owner, keys_hash = self.chain_record(self.keys_number)
            assert self.keys_number < head and keys_hash == body[5][1] and earlier[3][0] == KEYS
            keys = earlier[3][1][0]
        assert owner == self.owner
        assert not keys[3], f"needs a reader that knows {keys[3]}"
        self.epoch, self.roster, self.former = keys[0], keys[1], keys[2]
        for entry in self.roster + self.former:
            assert entry[1] in (OWNER, WRITER, READER, KEEPER), "needs a newer reader"
        assert any(entry[0] == self.slot[0] for entry in self.roster)
        assert change == KEYS or any(entry.get(3) == signer and entry[1] in (OWNER, KEEPER) for entry in self.roster)
        self.folded = {0: 0, 1: [], 2: [], 3: [], 4: [], 5: [], 7: []}
        if 4 in body:
            name = f"folded/{body[4][0]}-{body[4][1].hex()}"
            self.folded, _, hashed = self.open_record(FOLDED, name)
            assert hashed == body[4][2]
        self.floor, self.head = self.folded[0], head

    def chain_record(self, number):
        body, signer, hashed = self.open_record(CHAIN, f"chain/{number}")
        assert body[0] == number
        return body, signer, hashed

    # beyond section 15: nobody has cut anything out of the chain
    def verify_links(self):
        previous = bytes(32)
        for number in range(self.head + 1):
            body, _, hashed = self.chain_record(number)
            assert body[1] == previous
            previous = hashed

    def may(self, signer, capabilities, generation=None):
        was = lambda entry: entry.get(3) == signer and entry[1] in capabilities
        before_keys = self.floor < self.keys_number if generation is None else generation < self.keys_number
        return any(map(was, self.roster)) or before_keys and any(map(was, self.former))

    # steps 4 and 5; a point is the hash of its object and whose it is
    def load_sessions(self):
        self.committed = {settled[0]: (settled[1], settled[2]) for settled in self.folded[1]}
        self.summaries = {settled[0]: settled[3] for settled in self.folded[1]}
        self.commits, self.forgotten = [], set(self.folded[2])
        for name in self.names("sessions"):
            if not name.endswith("/outcome"):
                continue
            session = bytes.fromhex(name.split("/")[1])
            if any(void[0] == session for void in self.folded.get(9, [])):
                continue
            body, signer, _ = self.open_record(OUTCOME, name)
            alternative, fields = body[2]
            assert alternative in (COMMIT, ABORTED, FENCED), "needs a newer reader"
            if body[3] < self.floor:
                continue
            assert body[0] == session
            commit = fields[0] if alternative == COMMIT else {}
            if 0 in commit:
                who = (OWNER, WRITER)
                assert 4 not in commit
                self.committed[session] = (commit[0], signer)
            elif alternative == COMMIT:
                who = (OWNER, KEEPER)
                assert 4 in commit
            else:
                who = (OWNER, WRITER, KEEPER)
            assert self.may(signer, who, body[3])
            if commit:
                self.commits.append(commit)
        for name in self.names("forgotten"):
            if bytes.fromhex(name.split("/")[1]) in self.forgotten:
                continue
            body, signer, _ = self.open_record(TOMBSTONE, name)
            assert name == "forgotten/" + body[0].hex() and self.may(signer, (OWNER, WRITER, KEEPER))
            self.forgotten.add(body[0])

    # step 6
    def points(self):
        found = []
        for session, (wanted, origin) in self.committed.items():
            if session not in self.forgotten:
                body, signer, hashed = self.open_record(POINT, "points/" + session.hex())
                assert hashed == wanted and signer == origin and body[0] == session
                if session in self.summaries:
                    disks = [{number: value for number, value in disk.items() if number != 4} for disk in body[11]]
                    assert self.summaries[session] == {**body, 11: disks}
                found.append(body)
        return sorted(found, key=lambda body: (body[8], body[5], body[0]))

    # step 7; all records of all segments: a small reader needs no look-up by page
    def load_segments(self):
        self.places, self.named_packs = ({}, {}), set()
        dead = set(self.folded[4])
        named = {segment for commit in self.commits for segment in commit[2]} - set(self.folded.get(8, []))
        segments = {base[0] for base in self.folded[3]} | named
        for ident in segments:
            for section, records in enumerate(self.read_segment(ident)):
                for key, pack, *place in records:
                    if pack not in dead:
                        self.places[section].setdefault(key, []).append([pack, *place])
                        self.named_packs.add(("packs" if section else "meta", pack))

    def read_segment(self, ident):
        data = self.get("index/" + ident.hex())
        magic, version, epoch, start, length, zero, salt = struct.unpack("<8sIIQII16s", data[-48:])
        assert magic == b"BKSTINDX" and start + length + 48 == len(data) and 0 < length <= 16 << 20
        assert h(data[start:]) == ident
        assert version == 1 and zero == 0
        part = lambda kind, number: aad(self.id, epoch, kind, salt + struct.pack("<I", number))
        structure = self.epochs[epoch][1]
        footer = unseal(type_key(structure, FOOTER), part(FOOTER, 0), data[start:-48])
        open_page = lambda number, sealed: unseal(type_key(structure, PAGE), part(PAGE, number), sealed)
        return parse_segment(data[:start], footer, open_page)

    # sections 11 and 12
    def read_directory(self, folder, pack, data):
        magic, version, kind, zero, length, salt = struct.unpack("<8sHBBI16s", data[-32:])
        assert (magic, version, zero) == (b"BKSTPACK", 1, 0) and kind == {"packs": 1, "meta": 2}[folder]
        assert len(data) % 65536 == 0 and len(data) <= 256 << 20
        start = len(data) - 32 - length
        plain = self.open_envelope(DIRECTORY, salt, data[start:-32])
        (keys_length,) = struct.unpack_from("<I", plain)
        keys, rest = record(plain[4:4 + keys_length]), plain[4 + keys_length:]
        assert len(rest) % 42 == 0
        frames, offset = [], 0
        for ident, size, stored, key in struct.iter_unpack("<32sIIH", rest):
            frames.append((offset, ident, size, stored, keys[key]))
            offset += stored
        assert offset <= start
        return frames

    def frame_key(self, folder, entry):
        epoch = self.epochs[entry[0]]
        if folder == "meta":
            assert 3 not in entry
            return type_key(epoch[1], NODE)
        return Hpke.open(epoch[3], aad(self.id, entry[0], SESSION_KEY, entry[1]), entry[3])

    def open_frame(self, folder, entry, ident, frame, size):
        kind = CHUNK if folder == "packs" else NODE
        key = self.frame_keys.setdefault((folder, entry[1], entry.get(3)), None) or self.frame_key(folder, entry)
        self.frame_keys[folder, entry[1], entry.get(3)] = key
        plain = unseal(key, aad(self.id, entry[0], kind, ident), frame)
        codec, payload = plain[0], plain[1:]
        assert codec in ((0, 1) if kind == CHUNK else (0,)), "needs a newer reader"
        assert size <= MAX_CHUNK
        content = zstandard.ZstdDecompressor().decompress(payload, max_output_size=size) if codec else payload
        assert len(content) == size
        assert ident == (self.chunk_id(content) if kind == CHUNK else keyed(self.bundle[3], content)), "not what its id says"
        return content

    frame_keys, directories = {}, {}

    def fetch(self, folder, ident, size=None):
        """Content by id, from the first copy that holds what it must."""
        failed = None
        for pack, offset, stored, plain in self.places[folder == "packs"][ident]:
            try:
                name = f"{folder}/{pack.hex()[:2]}/{pack.hex()}"
                if name not in self.directories:
                    data = self.get(name)
                    self.directories[name] = {place: entry for place, _, _, _, entry in self.read_directory(folder, pack, data)}
                assert size is None or plain == size
                with open(self.root / name, "rb") as file:
                    file.seek(offset)
                    return self.open_frame(folder, self.directories[name][offset], ident, file.read(stored), plain)
            except Exception as error:
                failed = error
        raise failed

    def chunk_id(self, content):
        return chunk_id(self.bundle[1], self.bundle[2], content)

    def leaves(self, root, size):
        """Number and entries of every segment that has a leaf."""
        segments, level = -(-size // SEGMENT), 0
        while FANOUT ** level < segments:
            level += 1
        def walk(ident, level, place):
            if ident is None or place * FANOUT ** level >= segments:
                return
            node = self.fetch("meta", ident)
            if level:
                assert node[:2] == bytes([2, level])
                bits = [at for at in range(FANOUT) if node[2 + at // 8] >> at % 8 & 1]
                assert bits and len(node) == 66 + 32 * len(bits)
                for number, child in enumerate(bits):
                    yield from walk(node[66 + 32 * number:98 + 32 * number], level - 1, place * FANOUT + child)
                return
            entries = parse_leaf(node)
            assert sum(blocks for blocks, _ in entries) == -(-min(SEGMENT, size - place * SEGMENT) // BLOCK)
            yield place, entries
        yield from walk(root, level, 0)

    def restore_disk(self, disk, out):
        size = disk[1]
        out.truncate(size)
        for segment, entries in self.leaves(disk.get(2), size):
            at = segment * SEGMENT
            for blocks, ident in entries:
                end = min(at + blocks * BLOCK, size)
                if ident is not None:
                    out.seek(at)
                    out.write(self.fetch("packs", ident, end - at))
                at = end

    def restore_stream(self, stream, out):
        ahead, written = [(stream[2], 8)] if 2 in stream else [], 0
        while ahead:
            ident, below = ahead.pop()
            node = self.fetch("meta", ident)
            if node[0] == 3:
                (count,) = struct.unpack_from("<H", node, 1)
                assert len(node) == 3 + 36 * count
                for size, chunk in struct.iter_unpack("<I32s", node[3:]):
                    written += size
                    assert written <= stream[1]
                    out.write(self.fetch("packs", chunk, size))
            else:
                kind, level, count = struct.unpack_from("<BBH", node)
                assert kind == 4 and level < below and len(node) == 4 + 40 * count
                ahead.extend((child, level) for _, child in reversed(list(struct.iter_unpack("<Q32s", node[4:]))))
        assert written == stream[1]

    # step 10
    def verify(self):
        self.verify_links()
        found = set()
        for folder in ("packs", "meta"):
            for name in self.names(folder):
                data, pack = self.get(name), bytes.fromhex(name.split("/")[2])
                assert h(data) == pack and name == f"{folder}/{pack.hex()[:2]}/{pack.hex()}"
                for offset, ident, size, stored, entry in self.read_directory(folder, pack, data):
                    self.open_frame(folder, entry, ident, data[offset:offset + stored], size)
                    if (folder, pack) in self.named_packs:
                        assert [pack, offset, stored, size] in self.places[folder == "packs"][ident]
                found.add((folder, pack))
        assert self.named_packs <= found, "a pack that the index names is missing"
        return len(found)


# ---- sections 12 and 13 without keys ----

def chunk_id(cut, ident, content):
    blocks = (content[at:at + BLOCK].ljust(BLOCK, b"\0") for at in range(0, len(content), BLOCK))
    return keyed(ident, struct.pack("<I", len(content)) + b"".join(keyed(cut, block) for block in blocks))

def parse_leaf(node):
    kind, count = struct.unpack_from("<BH", node)
    assert kind == 1
    entries, at = [], 3
    for _ in range(count):
        (header,) = struct.unpack_from("<H", node, at)
        at += 2
        hole, blocks = header >> 15, header & 0x7FFF
        assert blocks > 0
        entries.append((blocks, None if hole else node[at:at + 32]))
        at += 0 if hole else 32
    assert at == len(node)
    return entries

def may_hold(filter_bytes, ident):
    seed, length, segments = struct.unpack_from("<QII", filter_bytes)
    prints, mask = filter_bytes[16:], (1 << 64) - 1
    x = int.from_bytes(ident[:8], "little") + seed & mask
    x = (x ^ x >> 33) * 0xFF51AFD7ED558CCD & mask
    x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53 & mask
    x ^= x >> 33
    a = x * segments * length >> 64
    b, c = a + length ^ (x >> 18 & length - 1), a + 2 * length ^ (x & length - 1)
    return prints[a] ^ prints[b] ^ prints[c] == (x ^ x >> 32) & 255

def parse_segment(pages, footer, open_page):
    heads = [struct.unpack_from("<IIII", footer, at) for at in (0, 16)]
    packs_count, root = struct.unpack_from("<Q32s", footer, 32)
    at, filters, prefixes = 72, [], []
    for records, _, _, filter_bytes in heads:
        filters.append(footer[at:at + 16 + filter_bytes] if filter_bytes else None)
        at += 16 + filter_bytes if filter_bytes else 0
        count = -(-records // PAGE_RECORDS)
        prefixes.append([footer[at + 4 * page:at + 4 * page + 4] for page in range(count)])
        at += 4 * count
    packs = list(struct.iter_unpack("<32sQB", footer[at:]))
    assert len(packs) == packs_count <= 1 << 18 and sum(head[0] for head in heads) <= 1 << 20
    depth = max(0, (sum(map(len, prefixes)) - 1).bit_length())
    start, number, found = 0, 0, ([], [])
    for section, (records, full, last, _) in enumerate(heads):
        before = None
        for page, prefix in enumerate(prefixes[section]):
            length = last if page + 1 == len(prefixes[section]) else full
            sealed, path = pages[start:start + length], pages[start + length:start + length + 32 * depth]
            start += length + 32 * depth
            node = h(sealed)
            for height in range(depth):
                beside = path[32 * height:32 * height + 32]
                node = h(beside + node if number >> height & 1 else node + beside)
            assert node == root
            plain = open_page(number, sealed)
            assert len(plain) == 48 * min(PAGE_RECORDS, records - PAGE_RECORDS * page) and plain[:4] == prefix
            for entry in struct.iter_unpack("<32sIIII", plain):
                ident, pack, offset, stored, size = entry
                assert before is None or before <= entry
                before = entry
                assert offset + stored <= packs[pack][1] and packs[pack][2] == 2 - section
                assert filters[section] is None or may_hold(filters[section], ident)
                found[section].append((ident, packs[pack][0], offset, stored, size))
            number += 1
    assert start == len(pages)
    if number == 0:
        assert root == bytes(32)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("repository", nargs="?")
    parser.add_argument("point", nargs="?")
    for option in ("passphrase-file", "key-file", "disk", "stream", "attachment", "to"):
        parser.add_argument("--" + option)
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    args = parser.parse_intermixed_args()
    if args.self_test:
        import self_test
        return self_test.run()
    passphrase = pathlib.Path(args.passphrase_file).read_bytes().rstrip(b"\r\n") if args.passphrase_file else None
    key = parse_key(pathlib.Path(args.key_file).read_text()) if args.key_file else None
    repository = Repository(args.repository, passphrase, key)
    if args.verify:
        print(f"{repository.verify()} packs are whole")
    for point in repository.points():
        if not args.point:
            print(point[0].hex(), point[2], "disks", {disk[0]: disk[1] for disk in point[11]}, "streams",
                  {stream[0]: stream[1] for stream in point[12]}, "attachments", {a[0][0]: a[1] for a in point[13]})
        elif point[0].hex().startswith(args.point):
            named = lambda entries, name: next(entry for entry in entries if entry[0] == name)
            with open(args.to, "w+b") as out:
                if args.disk:
                    repository.restore_disk(named(point[11], args.disk), out)
                elif args.stream:
                    repository.restore_stream(named(point[12], args.stream), out)
                else:
                    repository.restore_stream(named([a[0] for a in point[13]], args.attachment), out)
            return
    if args.point:
        sys.exit("no such point")

if __name__ == "__main__":
    main()
