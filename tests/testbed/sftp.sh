#!/usr/bin/env bash
# OpenSSH: SFTP alone, keys alone, as the user who runs this. Restarts on the same port with the same keys.
NAME=sftp MARK=sftp
. "$(dirname "$0")/lib.sh"
PORT=${BACKSTAY_TESTBED_PORT:-25300}
D=$RUN/sftp
SSHD=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd || true)

# From Debian's package; where we may not install, somebody did or there is none.
sshd_is_there() {
  [ -n "$SSHD" ] && return 0
  say "installing openssh-server"
  [ "$(id -u)" = 0 ] && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends openssh-server >"$CACHE/sftp.log" 2>&1
  SSHD=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd) && command -v ssh-keygen >/dev/null
}

installed() { [ -n "$SSHD" ]; }
install_it() { sshd_is_there || die "no sshd, see $CACHE/sftp.log (openssh-server is needed)"; }

# key NAME: a key of our own, made once.
key() { [ -f "$D/$1" ] || ssh-keygen -q -t "${2:-ed25519}" -N '' -C "$1" -f "$D/$1"; }

start_it() {
  alive && return 0
  mkdir -p "$D/data"
  chmod 700 "$D"
  # Where sshd locks itself up before a login.
  [ "$(id -u)" != 0 ] || mkdir -p /run/sshd
  key host
  key host_ecdsa ecdsa
  key client
  key authority
  # A test may have put its own there.
  [ -f "$D/authorized_keys" ] || cp "$D/client.pub" "$D/authorized_keys"
  [ -f "$D/known_hosts" ] || printf '[%s]:%s %s\n' "$HOST" "$PORT" "$(cut -d' ' -f1,2 "$D/host.pub")" >"$D/known_hosts"
  cat >"$D/sshd_config" <<X
Port $PORT
ListenAddress $HOST
HostKey $D/host
HostKey $D/host_ecdsa
AuthorizedKeysFile $D/authorized_keys
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp ${BACKSTAY_TESTBED_SFTP_ARGS:-}
AllowTcpForwarding no
AllowAgentForwarding no
X11Forwarding no
MaxStartups 100:30:200
MaxSessions 100
X
  # What a test adds: certificates, revoked keys.
  [ ! -f "$D/sshd_config.more" ] || cat "$D/sshd_config.more" >>"$D/sshd_config"
  launch "$SSHD" -D -e -f "$D/sshd_config"
  answers "$PORT" 10 || die "did not come up, see $RUN/sftp.log"
}

environment() {
  cat <<X
HOST=$HOST
PORT=$PORT
USER=$(id -un)
FOLDER=$D
X
}

dispatch "$@"
