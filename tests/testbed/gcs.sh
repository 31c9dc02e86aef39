#!/usr/bin/env bash
# gcs.py beside this: as much of Google Cloud Storage as a backend needs. Nothing to install but Python.
NAME=gcs MARK=gcs
. "$(dirname "$0")/lib.sh"
PORT=${BACKSTAY_TESTBED_PORT:-25400}
SERVER=$(cd "$(dirname "$0")" && pwd)/gcs.py

install_it() { once python3 -c 'import http.server' || die "python3 is needed"; }

start_it() {
  alive && return 0
  launch python3 "$SERVER" "$HOST" "$PORT" backstay-test backstay-test-token
  answers "$PORT" 20 || die "did not come up, see $RUN/gcs.log"
}

environment() {
  cat <<X
ENDPOINT=http://$HOST:$PORT
BUCKET=backstay-test
TOKEN=backstay-test-token
X
}

dispatch "$@"
