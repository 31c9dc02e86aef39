"""One tool through all its steps."""
import json
import os
import shutil

from . import measure
from .image import content_hash, warm

STEPS = ["init", "first", "day", "checkpoint", "writes", "other", "restore-A", "restore-B"]
NEEDS = {"first": ["init"], "day": ["first"], "checkpoint": ["day"], "writes": ["checkpoint"],
         "other": ["init"], "restore-A": ["first"], "restore-B": ["other"]}


def wanted(only):
    """The named steps and all they build upon, in order."""
    todo, seen = list(only or STEPS), set()
    while todo:
        step = todo.pop()
        if step not in seen:
            seen.add(step)
            todo.extend(NEEDS.get(step, []))
    return [s for s in STEPS if s in seen]


def content_of(disk):
    return {"A1w": "A1"}.get(disk, disk)


class Run:
    def __init__(self, tool, facts, work, say):
        self.tool, self.facts, self.say = tool, facts, say
        self.home = os.path.join(work, "run", tool.name)
        shutil.rmtree(self.home, ignore_errors=True)
        os.makedirs(self.home)
        # Staged beside the disks, because a hard link costs nothing and a
        # guest's disk keeps its path from one backup to the next.
        self.source = os.path.join(facts["home"], "stage")
        shutil.rmtree(self.source, ignore_errors=True)
        os.makedirs(self.source)
        tool.begin(self.home, self.source)
        self.last, self.size, self.results = {}, 0, {}

    def go(self, steps):
        try:
            for step in steps:
                self.step(step)
        except measure.Failed as e:
            self.say(f"!! {self.tool.name}: {e}")
            self.results["failed"] = str(e)
        finally:
            shutil.rmtree(self.home, ignore_errors=True)
            shutil.rmtree(self.source, ignore_errors=True)
        return self.results

    def step(self, step):
        tool = self.tool
        if step == "init":
            cost = self.spend(tool.init(), self.home)
        elif step.startswith("restore-"):
            guest = step[-1]
            if guest not in self.last:
                return
            cost = self.restore(guest)
        elif step in tool.states:
            cost = self.backup(step)
        else:
            return
        now = measure.stored(tool.repo)
        cost["grown"], self.size = now - self.size, now
        cost["stored"] = now
        self.results[step] = cost
        self.say(f"   {tool.name:17} {step:10} {cost['wall']:8.2f} s  cpu {cost['cpu']:7.2f} s  "
                 f"rss {cost['rss'] / 1e6:6.0f} MB  repo +{cost['grown'] / 1e6:.1f} MB")

    def spend(self, argv, cwd):
        out, err = os.path.join(self.home, "out"), os.path.join(self.home, "err")
        cost = measure.run(argv, self.tool.env, cwd, out, err)
        if not self.tool.peer:
            try:
                with open(out) as f:
                    cost["said"] = json.load(f)
            except ValueError:
                pass
        return cost

    def backup(self, step):
        disk, bitmap = self.tool.states[step]
        guest = "B" if step == "other" else "A"
        image = os.path.join(self.facts["home"], disk + self.tool.suffix)
        staged = os.path.join(self.source, guest + self.tool.suffix)
        if os.path.exists(staged):
            os.remove(staged)
        os.link(image, staged)
        warm(staged)
        cost = self.spend(self.tool.backup(guest, bitmap), self.source)
        self.last[guest] = disk
        return cost

    def restore(self, guest):
        target = os.path.join(self.home, "restored")
        os.makedirs(target)
        cost = self.spend(self.tool.restore(guest, target), target)
        image = self.tool.restored(target, guest)
        if not os.path.exists(image):
            raise measure.Failed(f"no restored image at {os.path.relpath(image, target)}")
        found = content_hash(image)
        if found != self.facts["hash"][content_of(self.last[guest])]:
            raise measure.Failed(f"the restore of {guest} does not match what was backed up")
        cost["verified"], cost["sha256"] = True, found
        cost["allocated"] = os.stat(image).st_blocks * 512
        shutil.rmtree(target)
        return cost
