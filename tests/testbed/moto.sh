#!/usr/bin/env bash
# moto: S3 in Python. Holds If-None-Match also in a race; checks neither signatures nor checksums.
NAME=moto MARK=moto-5
. "$(dirname "$0")/lib.sh"
PORT=${BACKSTAY_TESTBED_PORT:-25100}
VENV=$CACHE/moto-5

venv() {
  say "installing (half a minute)"
  rm -rf "$VENV"
  python3 -m venv "$VENV" >"$CACHE/moto.log" 2>&1 &&
    "$VENV/bin/pip" -q install 'moto[s3]==5.*' flask flask-cors >>"$CACHE/moto.log" 2>&1
}

install_it() { once venv || die "could not be installed, see $CACHE/moto.log (python3-venv and a package index are needed)"; }

start_it() {
  alive && return 0
  launch "$VENV/bin/moto_server" -H "$HOST" -p "$PORT"
  answers "$PORT" 60 || die "did not come up, see $RUN/moto.log"
  AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test "$VENV/bin/python" - "http://$HOST:$PORT" <<'X' || die "no bucket could be made"
import sys, boto3
boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1").create_bucket(Bucket="backstay-test")
X
}

environment() {
  cat <<X
ENDPOINT=http://$HOST:$PORT
BUCKET=backstay-test
ACCESS_KEY=test
SECRET_KEY=test
X
}

dispatch "$@"
