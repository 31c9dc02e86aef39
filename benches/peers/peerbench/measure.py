"""Run one command and say what it cost."""
import os
import time


class Failed(Exception):
    pass


def run(argv, env, cwd, out_path, err_path):
    """Wall time, CPU time and peak memory of a child and its children.

    fork + exec by hand: a child made by vfork would start with the high-water
    mark of *this* process in its own peak memory.  What remains of that effect
    is this process's current size, which `floor()` tells.
    """
    os.sync()  # what the step before left to be written back is not our time
    start = time.monotonic()
    pid = os.fork()
    if not pid:
        try:
            os.chdir(cwd)
            for fd, path in ((1, out_path), (2, err_path)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), fd)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.execvpe(argv[0], argv, env)
        except OSError as e:
            os.write(2, f"{argv[0]}: {e}\n".encode())
        finally:
            os._exit(127)
    _, status, used = os.wait4(pid, 0)
    wall = time.monotonic() - start
    code = os.waitstatus_to_exitcode(status)
    if code:
        with open(err_path, errors="replace") as f:
            tail = f.read()[-2000:]
        raise Failed(f"{' '.join(argv)} ended with {code}:\n{tail}")
    return {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "rss": used.ru_maxrss * 1024}


def floor():
    """No child can be seen to use less memory than this process had at fork."""
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def stored(path):
    """Apparent size of every file below a repository."""
    total = 0
    for where, _dirs, files in os.walk(path):
        for name in files:
            total += os.lstat(os.path.join(where, name)).st_size
    return total
