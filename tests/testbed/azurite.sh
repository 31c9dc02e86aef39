#!/usr/bin/env bash
# Azurite: Azure's blob protocol, by Microsoft. Checks signatures and holds If-None-Match; knows no immutability policies.
VERSION=3.35.0
NAME=azurite MARK=azurite-$VERSION
. "$(dirname "$0")/lib.sh"
PORT=${BACKSTAY_TESTBED_PORT:-25300}
HOME_OF=$CACHE/azurite-$VERSION
# A key made up for this test. The one that emulators have in common would do as well, but some scanners take it for a leak.
ACCOUNT=backstaytest
KEY=$(printf 'backstay-test-key-%s' "$PORT" | base64 -w0)

from_npm() {
  say "installing (a minute)"
  rm -rf "$HOME_OF"
  mkdir -p "$HOME_OF" &&
    npm install --prefix "$HOME_OF" --no-audit --no-fund --omit=dev --loglevel=error "azurite@$VERSION" >"$CACHE/azurite.log" 2>&1
}

install_it() { once from_npm || die "could not be installed, see $CACHE/azurite.log (Node 20, npm and a package index are needed)"; }

start_it() {
  alive && return 0
  AZURITE_ACCOUNTS="$ACCOUNT:$KEY" launch node "$HOME_OF/node_modules/.bin/azurite-blob" --blobHost "$HOST" --blobPort "$PORT" \
    --inMemoryPersistence --silent --disableTelemetry --skipApiVersionCheck
  answers "$PORT" 60 || die "did not come up, see $RUN/azurite.log"
  make_container || die "no container could be made"
}

# There is no client at hand that is small enough to install, and one signed request is all it takes.
make_container() {
  python3 - "http://$HOST:$PORT" "$ACCOUNT" "$KEY" backstay-test <<'X'
import base64, email.utils, hashlib, hmac, sys, urllib.request

server, account, key, container = sys.argv[1:]
headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
canonical = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
# The account twice: as the owner, and as the first part of an emulator's path.
resource = f"/{account}/{account}/{container}\nrestype:container"
to_sign = "PUT" + "\n" * 12 + canonical + resource
mac = hmac.new(base64.b64decode(key), to_sign.encode(), hashlib.sha256).digest()
headers["Authorization"] = f"SharedKey {account}:{base64.b64encode(mac).decode()}"
url = f"{server}/{account}/{container}?restype=container"
request = urllib.request.Request(url, data=b"", method="PUT", headers=headers)
# urllib would send one of its own, which is part of what is signed.
request.add_header("Content-Type", "")
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30)
X
}

environment() {
  cat <<X
ENDPOINT=http://$HOST:$PORT/$ACCOUNT
ACCOUNT=$ACCOUNT
ACCESS_KEY=$KEY
CONTAINER=backstay-test
X
}

dispatch "$@"
