"""How each tool is driven.  Every tool gets its own repository, its own cache
and the same password; all are local, encrypted and compressed."""
import os
import shutil
import subprocess

PASSWORD = "benchmark passphrase, not a secret"


class Tool:
    """`states` maps a step (first, day, checkpoint, writes, other) to the name of
    the disk it backs up, and to the bitmap to use, if any."""
    peer, tuned, suffix, program = True, False, ".raw", ""
    states = {"first": ("A0", None), "day": ("A1", None),
              "writes": ("A2", None), "other": ("B", None)}

    def __init__(self, name, path=None):
        self.name = name
        self.path = path or shutil.which(self.program)

    def present(self):
        return bool(self.path) and os.access(self.path, os.X_OK)

    def version(self, arg="--version"):
        out = subprocess.run([self.path, arg], stdout=subprocess.PIPE, text=True)
        return out.stdout.strip().split("\n")[0]

    def begin(self, home, source):
        """A fresh run in `home`; sources will be staged in `source`."""
        self.home, self.source = home, source
        self.repo, self.cache = os.path.join(home, "repo"), os.path.join(home, "cache")
        os.makedirs(self.cache)
        self.pwfile = os.path.join(home, "password")
        with open(self.pwfile, "w") as f:
            f.write(PASSWORD + "\n")
        os.chmod(self.pwfile, 0o600)
        self.env = dict(os.environ, LC_ALL="C.UTF-8", **self.variables())
        self.taken = 0

    def variables(self):
        return {}

    def restored(self, target, guest):
        """Where the image is after a restore into the folder `target`."""
        return os.path.join(target, guest + ".raw")


class Restic(Tool):
    program = "restic"

    def version(self):
        return super().version("version")

    def variables(self):
        return {"RESTIC_REPOSITORY": self.repo, "RESTIC_PASSWORD": PASSWORD,
                "RESTIC_CACHE_DIR": self.cache}

    def init(self):
        return [self.path, "init", "--repository-version", "2"]

    def backup(self, guest, _bitmap):
        return [self.path, "backup", "--compression", "auto", "--host", "bench",
                os.path.join(self.source, guest + ".raw")]

    def restore(self, guest, target):
        help_text = subprocess.run([self.path, "restore", "--help"], capture_output=True, text=True)
        # Older ones can only write every zero of the disk out.
        sparse = ["--sparse"] if "--sparse" in help_text.stdout else []
        return [self.path, "restore", "latest", "--target", target, *sparse,
                "--path", os.path.join(self.source, guest + ".raw")]

    def restored(self, target, guest):
        return os.path.join(target, self.source.lstrip("/"), guest + ".raw")


class Rustic(Restic):
    program = "rustic"

    def version(self):
        return Tool.version(self)

    def variables(self):
        return {"RUSTIC_REPOSITORY": self.repo, "RUSTIC_PASSWORD": PASSWORD,
                "RUSTIC_CACHE_DIR": self.cache, "RUSTIC_NO_PROGRESS": "true"}

    def init(self):
        return [self.path, "init"]

    def backup(self, guest, _bitmap):
        return [self.path, "backup", "--host", "bench",
                os.path.join(self.source, guest + ".raw")]

    def restore(self, guest, target):
        path = os.path.join(self.source, guest + ".raw")
        return [self.path, "restore", "--filter-paths", path, "latest:" + self.source, target]

    def restored(self, target, guest):
        return Tool.restored(self, target, guest)


class Borg(Tool):
    program = "borg"

    def __init__(self, name, path, *create):
        super().__init__(name, path)
        self.create = create
        self.tuned = "--chunker-params" in create

    def variables(self):
        return {"BORG_PASSPHRASE": PASSWORD, "BORG_BASE_DIR": self.cache,
                "BORG_EXIT_CODES": "legacy"}

    def init(self):
        return [self.path, "init", "-e", "repokey-blake2", self.repo]

    def backup(self, guest, _bitmap):
        self.taken += 1
        self.last = dict(getattr(self, "last", {}), **{guest: f"{guest}-{self.taken}"})
        return [self.path, "create", *self.create, f"{self.repo}::{self.last[guest]}", guest + ".raw"]

    def restore(self, guest, _target):
        return [self.path, "extract", "--sparse", f"{self.repo}::{self.last[guest]}"]


class Backstay(Tool):
    peer, program = False, "backstay"

    def __init__(self, name, path, suffix, states):
        super().__init__(name, path)
        self.suffix, self.states = suffix, states

    def init(self):
        return [self.path, "init", self.repo, "--passphrase-file", self.pwfile]

    def backup(self, guest, bitmap):
        return [self.path, "backup", os.path.join(self.source, guest + self.suffix),
                "--repo", self.repo, "--workload", guest, "--format", self.suffix[1:],
                *(["--bitmap", bitmap] if bitmap else []),
                "--passphrase-file", self.pwfile, "--json"]

    def restore(self, guest, target):
        return [self.path, "restore", guest + "@latest", "--repo", self.repo,
                "--to", self.restored(target, guest), "--format", "raw",
                "--passphrase-file", self.pwfile]


def everything(backstay, paths):
    """All the tools, in the order of the table; then the sparse-disk rows."""
    plain = Tool.states
    marked = {"first": ("A0", "day"), "day": ("A1", "day"), "checkpoint": ("A1w", "writes"),
              "writes": ("A2", "writes"), "other": ("B", None)}
    main = [
        Backstay("backstay", backstay, ".qcow2", marked),
        Backstay("backstay-compare", backstay, ".qcow2", plain),
        Backstay("backstay-raw", backstay, ".raw", plain),
        Restic("restic", paths.get("restic")),
        Borg("borg-lz4", paths.get("borg"), "--compression", "lz4"),
        Borg("borg-zstd", paths.get("borg"), "--compression", "zstd,3"),
        Borg("borg-fixed", paths.get("borg"), "--compression", "lz4", "--sparse",
             "--chunker-params", "fixed,4194304"),
        Rustic("rustic", paths.get("rustic")),
    ]
    step = lambda a, b, bit: {"first": (a, bit), "writes": (b, bit)}  # noqa: E731
    sparse = [
        Backstay("10GiB", backstay, ".qcow2", step("A1w", "A2", "writes")),
        Backstay("1TiB", backstay, ".qcow2", step("T1", "T1b", "writes")),
        Backstay("1TiB-compare", backstay, ".qcow2", step("T1", "T1b", None)),
        Backstay("4TiB", backstay, ".qcow2", {"first": ("F1", None)}),
    ]
    return main, sparse
