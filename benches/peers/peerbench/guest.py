"""Build Debian guests from packages, and let a day pass in one of them."""
import os
import random
import subprocess

from .image import sh

# Present in both guests: what a minimal server always carries.
COMMON = ["ca-certificates", "openssh-server", "cron", "logrotate", "rsyslog", "less", "sudo"]
WEB_DB = ["nginx", "php-fpm", "php-pgsql", "php-gd", "postgresql", "git", "vim", "python3-psycopg2"]
OTHER = ["build-essential", "mariadb-server", "apache2", "nodejs", "python3-numpy", "emacs-nox", "rsync"]
KERNEL = ["linux-image-amd64", "grub-pc-bin"]
DAY = ["htop", "tmux", "jq", "tcpdump"]

OUTER = r"""
mount -t proc proc "$ROOT/proc"
mount -t tmpfs tmpfs "$ROOT/dev/shm"
mount -t devpts devpts "$ROOT/dev/pts"
mkdir -p "$ROOT/var/cache/apt/archives"
mount --bind "$DEBS" "$ROOT/var/cache/apt/archives"
exec chroot "$ROOT" /bin/sh -exc "$SCRIPT"
"""


def host_release():
    """Suite and mirror of this machine, as its own apt is set up to use them."""
    with open("/etc/os-release") as f:
        facts = dict(line.rstrip().replace('"', "").split("=", 1) for line in f if "=" in line)
    out = subprocess.run(["apt-get", "indextargets", "--format",
                          "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"],
                         check=True, stdout=subprocess.PIPE, text=True).stdout
    suite = facts["VERSION_CODENAME"]
    for line in out.splitlines():
        name, part, uri = line.split(" ", 2)
        if (name, part) == (suite, "main") and "security" not in uri:
            return suite, uri
    raise SystemExit(f"apt knows no main archive for {suite}; run apt-get update first")


def inside(root, debs, script):
    """Run a script in the guest's tree.  Own mount and process namespaces mean
    that nothing it starts or mounts can outlive it."""
    keep = {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}
    env = dict(keep, ROOT=root, DEBS=debs, SCRIPT=script, HOME="/root", LC_ALL="C",
               DEBIAN_FRONTEND="noninteractive", PATH="/usr/sbin:/usr/bin:/sbin:/bin")
    sh("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
       "sh", "-ec", OUTER, env=env, stdout=subprocess.DEVNULL)


def install(root, debs, packages, suite, mirror):
    os.makedirs(os.path.join(debs, "partial"), exist_ok=True)
    sh("debootstrap", "--variant=minbase", f"--cache-dir={debs}", suite, root, mirror,
       stdout=subprocess.DEVNULL)
    # No service may start, and no fsync per package: neither is measured.
    put(root, "usr/sbin/policy-rc.d", b"#!/bin/sh\nexit 101\n", 0o755)
    put(root, "etc/dpkg/dpkg.cfg.d/fast", b"force-unsafe-io\n")
    # apt would rewrite tens of megabytes of index cache at each install, more
    # than all the rest of the day; small servers often turn that off.
    put(root, "etc/apt/apt.conf.d/90cache",
        b'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n')
    with open("/etc/resolv.conf", "rb") as f:
        put(root, "etc/resolv.conf", f.read())
    inside(root, debs, "apt-get update -q; apt-get install -qy --no-install-recommends "
           + " ".join(packages))
    os.remove(os.path.join(root, "etc/dpkg/dpkg.cfg.d/fast"))


def put(root, path, data, mode=0o644, append=False):
    full = os.path.join(root, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "ab" if append else "wb") as f:
        f.write(data)
    os.chmod(full, mode)


def access_log(rng, day, lines):
    """Lines as a web server writes them; about as compressible as real ones."""
    out = []
    for i in range(lines):
        t = i * 86400 // lines
        out.append(f'{rng.choice((10, 81, 172))}.{rng.randrange(256)}.{rng.randrange(256)}.'
                   f'{rng.randrange(256)} - - [{day:02}/Mar/2024:{t // 3600:02}:{t // 60 % 60:02}:'
                   f'{t % 60:02} +0000] "GET /shop/item/{rng.randrange(40000)}?ref='
                   f'{rng.getrandbits(32):08x} HTTP/1.1" {rng.choice((200, 200, 200, 304, 404))} '
                   f'{rng.randrange(90000)} "-" "Mozilla/5.0 (X11; Linux x86_64; rv:{rng.randrange(90, 124)}.0)"\n')
    return "".join(out).encode()


def with_postgres(body):
    return ("service postgresql start || pg_ctlcluster $(pg_lsclusters -h | cut -d' ' -f1,2) start\n"
            + body + "\nservice postgresql stop\n")


SCHEMA = """
cat > /tmp/load.sql <<'END'
create table events (id bigint, at timestamptz, who int, token text, page text, note text);
insert into events select g, timestamptz '2024-01-01' + g * interval '7 second',
  (random() * 90000)::int, md5(random()::text), '/shop/item/' || (random() * 40000)::int,
  case when g % 3 = 0 then 'session opened from mobile client' else '' end
  from generate_series(1, {rows}) g;
create index on events (who); create index on events (token);
checkpoint;
END
su postgres -c 'createdb shop && psql -q -f /tmp/load.sql shop && pgbench -q -i -s {scale} shop'
rm /tmp/load.sql
"""


def fill_web_db(root, debs, small):
    rng = random.Random("guest A")
    for day in range(1, 4 if small else 12):
        put(root, f"var/log/nginx/access.log.{day}", access_log(rng, day, 30000))
    for n in range(20 if small else 150):  # uploads: photos, already compressed
        put(root, f"var/www/uploads/{n:04}.jpg", rng.randbytes(rng.randrange(200_000, 1_200_000)))
    rows, scale = (150_000, 2) if small else (2_000_000, 15)
    # A small log keeps a day's log traffic from recycling half a gigabyte.
    conf = ("printf 'max_wal_size=96MB\\nmin_wal_size=80MB\\n' "
            "> $(ls -d /etc/postgresql/*/main)/conf.d/bench.conf\n")
    inside(root, debs, conf + with_postgres(SCHEMA.format(rows=rows, scale=scale)))


def fill_other(root, small):
    rng = random.Random("guest B")
    for n in range(30 if small else 200):
        put(root, f"srv/share/scan-{n:03}.png", rng.randbytes(rng.randrange(100_000, 1_500_000)))
    put(root, "var/log/apache2/access.log", access_log(rng, 9, 60000))


def fetch_day(root, debs):
    """Only download: the packages lie beside the disk until their day comes."""
    inside(root, debs, "apt-get install -qyd --no-install-recommends " + " ".join(DAY))


def day_passes(root, debs, small):
    """Installs, logs and database work: about one per cent of the disk."""
    rng = random.Random("a day")
    inside(root, debs, "apt-get install -qy --no-download --no-install-recommends " + " ".join(DAY))
    put(root, "var/log/nginx/access.log", access_log(rng, 13, 5000 if small else 20000), append=True)
    inside(root, debs, with_postgres(
        "su postgres -c 'pgbench -n -c 1 -t %d shop'" % (100 if small else 300)))
