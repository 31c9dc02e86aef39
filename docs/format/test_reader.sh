#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Does the reader that was written from docs/format.md read what the program writes?
#
#   docs/format/test_reader.sh BACKSTAY_BINARY
#
# Makes a repository with the program, restores everything with the reader, and compares every byte; then puts in tombstones, a
# right one and a wrong one, and damage. A repository that was pruned lies among the fixtures of `storage`: the same with that. The reader's packages come from PyPI into a temporary folder unless $PYTHON (python3) has
# them. Without them it prints `skipped: why` and succeeds.

set -euo pipefail

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
  echo "usage: $0 BACKSTAY_BINARY" >&2
  exit 2
fi
backstay=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1
# Nothing from outside decides what the program does.
for name in $(compgen -e BACKSTAY_ || true); do unset "$name"; done

skip() { echo "skipped: $*"; exit 0; }
fail() { echo "FAILED: $*" >&2; exit 1; }

python=${PYTHON:-python3}
command -v "$python" >/dev/null || skip "there is no $python"
if ! "$python" -c 'import argon2, blake3, cbor2, cryptography, nacl, zstandard' 2>/dev/null; then
  "$python" -m venv "$work/venv" >"$work/log" 2>&1 || skip "$python cannot make a virtual environment"
  python=$work/venv/bin/python
  "$python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --retries 1 --timeout 20 \
    -r "$here/requirements.txt" >"$work/log" 2>&1 || skip "the reader's packages cannot be had: $(tail -n 1 "$work/log")"
fi

cd "$work"
program() { "$backstay" --quiet --repo "$work/repo" --passphrase-file "$work/passphrase" "$@"; }
reader() { "$python" "$here/read_repository.py" "$work/${repo:-repo}" --passphrase-file "$work/passphrase" "$@"; }
# The reader refuses, and because of what was done and not by accident: its message matches.
refuses() {
  local pattern=$1
  shift
  if reader "$@" >"$work/log" 2>&1; then fail "the reader took it: $pattern"; fi
  grep -Eq "$pattern" "$work/log" || { cat "$work/log" >&2; fail "the reader did not say: $pattern"; }
}

# One bit in the middle of every object whose name fits.
flip() {
  "$python" - "$1" "$2" <<'PYTHON'
import pathlib, sys
objects = list(pathlib.Path(sys.argv[1]).glob(sys.argv[2]))
assert objects
for path in objects:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
PYTHON
}

"$python" "$here/read_repository.py" --self-test

# A disk of four segments: noise, text that repeats, holes, a partial last segment and block; then the same, changed and grown.
"$python" - <<'PYTHON'
import random
noise, mib = random.Random(1), 1 << 20
with open("first.raw", "wb") as disk:
    disk.truncate(49 * mib + 512)
    for at, content in (
        (0, noise.randbytes(3 * mib)),
        (5 * mib + 4096, b"the quick brown fox jumps over the lazy dog. " * 100000),
        (15 * mib, noise.randbytes(2 * mib)),
        (20 * mib, bytes(100000) + b"x" + bytes(100000)),
        (49 * mib, noise.randbytes(512)),
    ):
        disk.seek(at)
        disk.write(content)
# More chunks than a leaf of a stream's map has.
open("stream", "wb").write(noise.randbytes(100 * mib))
PYTHON
cp --sparse=always first.raw second.raw
printf 'THE END' | dd of=second.raw bs=1 seek=6000000 conv=notrunc status=none
dd if=first.raw of=second.raw bs=4096 count=300 seek=10000 conv=notrunc status=none
truncate -s 60M second.raw

printf 'correct horse battery staple\n' >passphrase
program init --pack-size 4M >log 2>&1 || { cat log >&2; fail "init"; }
program backup first.raw --workload web >/dev/null
program backup second.raw --workload web >/dev/null
program backup - --workload shop --stream-name shop.sql <stream >/dev/null

reader --verify >listing
grep -q 'packs are whole' listing || fail "the packs are not whole"
mapfile -t points < <(grep -v 'packs are whole' listing | cut -d ' ' -f 1)
[ "${#points[@]}" = 3 ] || fail "there are ${#points[@]} points and not 3"

reader "${points[0]}" --disk disk0 --to restored-first
reader "${points[1]}" --disk disk0 --to restored-second
reader "${points[2]}" --stream shop.sql --to restored-stream
cmp first.raw restored-first
cmp second.raw restored-second
cmp stream restored-stream
echo "restored by the reader, byte for byte: two disks and a stream"

echo wrong >other
if "$python" "$here/read_repository.py" repo --passphrase-file other >log 2>&1; then fail "a wrong passphrase opens"; fi
grep -q 'no slot opens' log || fail "a wrong passphrase is not called one"

# A tombstone as section 10 says, made by the reader's means: both see one point less. The program writes none yet.
cp -r repo marked
PYTHONPATH=$here "$python" - "${points[0]}" <<'PYTHON'
import os, pathlib, struct, sys
import cbor2
from nacl.signing import SigningKey
import read_repository as r, self_test
repository = r.Repository("marked", pathlib.Path("passphrase").read_bytes().strip())
name, epoch, kind = "forgotten/" + sys.argv[1], repository.epoch, r.TOMBSTONE
body = cbor2.dumps({0: bytes.fromhex(sys.argv[1]), 1: 0})
signer = SigningKey(repository.bundle[4])
signature = signer.sign(r.signature_message(kind, repository.id, epoch, name, body)).signature
signed = cbor2.dumps({0: body, 1: bytes(signer.verify_key), 2: signature})
key = r.type_key(repository.epochs[epoch][1], kind)
sealed = self_test.seal(key, os.urandom(32), r.aad(repository.id, epoch, kind, name.encode()), signed)
path = pathlib.Path("marked", name)
path.parent.mkdir(exist_ok=True)
path.write_bytes(struct.pack("<4sBBHI", b"BKST", 1, kind, 1, epoch) + sealed)
PYTHON
[ "$(repo=marked reader | wc -l)" = 2 ] || fail "the reader does not know a tombstone"
"$backstay" points --json --repo marked --passphrase-file passphrase >points.json
"$python" - "${points[0]}" <<'PYTHON' || fail "the program does not know a tombstone"
import json, sys
ids = [point["id"] for point in json.load(open("points.json"))]
sys.exit(len(ids) != 2 or sys.argv[1] in ids)
PYTHON

# The same under another point's name forgets nothing, and neither side passes over it.
mv "marked/forgotten/${points[0]}" "marked/forgotten/${points[1]}"
repo=marked refuses 'CryptoError|Decryption failed'
code=0
"$backstay" points --repo marked --passphrase-file passphrase >log 2>&1 || code=$?
[ "$code" = 18 ] || fail "the program takes a tombstone with another's name: exit code $code"
echo "a tombstone is known by both, and a false one by neither"

# Pruned by the program: the first point and what it alone needs are gone, the others are settled and restore.
cp -r repo pruned
"$backstay" forget "${points[0]}" --quiet --repo pruned --passphrase-file passphrase >log 2>&1 || { cat log >&2; fail "forget"; }
"$backstay" prune --quiet --repo pruned --passphrase-file passphrase >log 2>&1 || { cat log >&2; fail "prune"; }
[ -n "$(ls pruned/folded)" ] && [ -z "$(find pruned/sessions -type f)" ] || fail "the program has not pruned"
repo=pruned reader --verify >listing
[ "$(grep -cv 'packs are whole' listing)" = 2 ] || fail "the reader does not read what was pruned"
repo=pruned reader "${points[1]}" --disk disk0 --to restored-second
repo=pruned reader "${points[2]}" --stream shop.sql --to restored-stream
cmp second.raw restored-second
cmp stream restored-stream
echo "restored after a prune, byte for byte: a disk and a stream"

# A repository with settled and removed points, base segments, an open generation, an interrupted backup and new commits.
fixture=$here/../../storage/tests/fixtures/v1
pruned() { "$python" "$here/read_repository.py" "${1:-$fixture/repository}" --passphrase-file "$fixture/passphrase.txt" "${@:2}"; }
pruned "" --verify >listing
restored=0
while read -r point disk hash; do
  grep -q "^$point " listing || fail "the reader does not list $point"
  pruned "" "$point" --disk "$disk" --to restored-pruned
  "$python" -c 'import sys, blake3; sys.exit(blake3.blake3(open(sys.argv[1], "rb").read()).hexdigest() != sys.argv[2])' \
    restored-pruned "$hash" || fail "$point does not restore to what it was"
  restored=$((restored + 1))
done <"$fixture/contents.txt"
[ "$restored" -gt 0 ] && [ "$(grep -cv 'packs are whole' listing)" = "$restored" ] || fail "there are other points than $restored"
echo "restored from a pruned repository: $restored disks"
for sort in 'folded/3-*' chain/3 chain/1 'forgotten/*'; do
  rm -rf damaged
  cp -r "$fixture/repository" damaged
  flip damaged "$sort"
  if pruned damaged --verify >log 2>&1; then fail "the reader took a damaged $sort"; fi
  grep -Eq 'AssertionError|BadSignature|CryptoError|CBORDecode|KeyError' log || { cat log >&2; fail "damaged $sort"; }
done

# One bit in each object of a sort; in all of them, because another slot would open and another copy would do.
for sort in config 'keys/*' chain/0 'sessions/*/outcome' 'points/*' 'index/*' 'packs/*/*' 'meta/*/*'; do
  rm -rf damaged
  cp -r repo damaged
  flip damaged "$sort"
  repo=damaged refuses 'AssertionError|BadSignature|CryptoError|CBORDecode|KeyError|no slot opens' --verify
done
echo "a flipped bit in any sort of object is noticed"
