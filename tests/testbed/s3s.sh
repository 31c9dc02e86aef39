#!/usr/bin/env bash
# s3s-fs: S3 on a folder, in Rust. Checks signatures and checksums; If-None-Match works, but several creates can win a race.
VERSION=0.14.1 # The last one that rustc 1.95 builds.
NAME=s3s MARK=s3s-$VERSION
. "$(dirname "$0")/lib.sh"
PORT=${BACKSTAY_TESTBED_PORT:-25200}
BIN=$CACHE/cargo/bin/s3s-fs

build() {
  [ -x "$BIN" ] && return 0
  say "building (some minutes, once)"
  # In a target folder of its own: the one of a test run may be locked.
  env -u CARGO_TARGET_DIR -u RUSTFLAGS CARGO_NET_RETRY=5 nice -n 5 \
    cargo install s3s-fs --version "=$VERSION" --locked --features binary --root "$CACHE/cargo" >"$CACHE/s3s.log" 2>&1
}

install_it() { once build || die "could not be built, see $CACHE/s3s.log (cargo and a crate index are needed)"; }

start_it() {
  alive && return 0
  mkdir -p "$RUN/s3s/backstay-test"
  launch "$BIN" --access-key AKBACKSTAY --secret-key SKBACKSTAY --host "$HOST" --port "$PORT" "$RUN/s3s"
  answers "$PORT" 10 || die "did not come up, see $RUN/s3s.log"
}

environment() {
  cat <<X
ENDPOINT=http://$HOST:$PORT
BUCKET=backstay-test
ACCESS_KEY=AKBACKSTAY
SECRET_KEY=SKBACKSTAY
X
}

dispatch "$@"
