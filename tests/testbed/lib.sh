# shellcheck shell=bash
# Servers that tests start and stop. Sourced by the scripts beside it, never run.
#
# A server keeps its state (pid, log, data) below $BACKSTAY_TESTBED_RUN, so that two test runs with two folders do not meet.
# It listens on loopback only. It is stopped by the pid that was recorded, checked against the start time of the process, because
# numbers come back. What is downloaded or built stays in $BACKSTAY_TESTBED_CACHE between runs.
set -euo pipefail
RUN=${BACKSTAY_TESTBED_RUN:-/tmp/backstay-testbed.$UID}
CACHE=${BACKSTAY_TESTBED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/backstay-testbed}
HOST=127.0.0.1
mkdir -p "$RUN" "$CACHE"

say() { printf '%s: %s\n' "$NAME" "$*" >&2; }
die() { say "$*"; exit 1; }

# In clock ticks since boot; nothing for a process that is gone or only waits to be reaped.
start_time() { sed -E 's/^.*\) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" && $1 != "X" { print $20 }'; }

# Whether the process that was recorded still is the same one.
alive() {
  local pid started
  read -r pid started 2>/dev/null <"$RUN/$NAME.pid" || return 1
  [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ]
}

# launch COMMAND…: in the background, in its own session, with its output in a log.
launch() {
  setsid "$@" >>"$RUN/$NAME.log" 2>&1 </dev/null &
  local pid=$!
  echo "$pid $(start_time "$pid")" >"$RUN/$NAME.pid"
}

# answers PORT SECONDS: our own process lives and the port is open. A stranger on that port does not count: ours has died then.
answers() {
  local try
  for ((try = 0; try < $2 * 20; try++)); do
    alive || return 1
    if (exec 3<>"/dev/tcp/$HOST/$1") 2>/dev/null; then
      sleep 0.1
      alive
      return
    fi
    sleep 0.05
  done
  return 1
}

halt() {
  local pid started try
  if alive; then
    read -r pid started <"$RUN/$NAME.pid"
    kill -TERM "$pid" 2>/dev/null || true
    for ((try = 0; try < 50; try++)); do
      alive || break
      sleep 0.1
    done
    if alive; then kill -KILL "$pid" 2>/dev/null || true; fi
  fi
  rm -f "$RUN/$NAME.pid"
}

installed() { [ -e "$CACHE/$MARK.done" ]; }

# once COMMAND…: runs it unless it was run with success before; one process at a time.
once() {
  local mark="$CACHE/$MARK.done"
  exec 9>"$CACHE/lock"
  flock 9
  if [ ! -e "$mark" ]; then
    "$@" && : >"$mark" || { exec 9>&-; return 1; }
  fi
  exec 9>&-
}

# The script's own: MARK (the name of what is installed), install_it, start_it, and environment (what a client needs, as KEY=VALUE).
# `start` alone installs nothing unless servers are required: a plain `cargo test` downloads nothing.
dispatch() {
  case ${1:-} in
    install) install_it ;;
    start)
      installed || [ "${BACKSTAY_REQUIRE_SERVERS:-0}" = 1 ] || die "not installed; run $0 install"
      install_it
      start_it
      environment
      ;;
    stop) halt ;;
    status) if alive; then echo up; else echo down; return 3; fi ;;
    *) echo "usage: $0 install|start|stop|status" >&2; return 2 ;;
  esac
}
