"""Medians, ratios, and the tables a reader sees."""
from statistics import median

from .bench import STEPS

COUNTED = ["first", "day", "writes", "other"]
SHOWN = [s for s in STEPS if s not in ("init", "checkpoint")]


def medians(runs):
    """{tool: {step: {figure: median}}} over the runs that got that far."""
    out = {}
    for tool, results in runs.items():
        steps = out[tool] = {}
        for step in STEPS:
            seen = [r[step] for r in results if step in r]
            if seen:
                steps[step] = {k: median(r[k] for r in seen)
                               for k in ("wall", "cpu", "rss", "grown", "stored")}
                steps[step]["runs"] = len(seen)
                if step.startswith("restore"):
                    steps[step]["verified"] = all(r.get("verified") for r in seen)
    return out


def ratios(med, peers, data):
    """Everything against the best peer of that very step and figure: the
    strictest reading, since no single peer need be best at all of them."""
    out = {}
    for tool, steps in med.items():
        mine = out[tool] = {}
        for step, cost in steps.items():
            rivals = [med[p][step] for p in peers if step in med.get(p, {})]
            row = mine[step] = {}
            for key, name in (("wall", "speed"), ("cpu", "cpu"), ("rss", "memory"), ("grown", "stored")):
                best = min((r[key] for r in rivals), default=0)
                if best and cost[key]:
                    row[name] = best / cost[key]
        if "first" in steps:
            mine["throughput_mb_s"] = data / 1e6 / steps["first"]["wall"]
        if all(s in steps for s in COUNTED):
            mine["stored_sum"] = sum(steps[s]["grown"] for s in COUNTED)
    return out


def table(head, rows):
    widths = [max(len(str(r[i])) for r in [head, *rows]) for i in range(len(head))]
    line = lambda r: "  ".join(str(c).ljust(w) if not i else str(c).rjust(w)  # noqa: E731
                               for i, (c, w) in enumerate(zip(r, widths)))
    return "\n".join([line(head), "  ".join("-" * w for w in widths), *map(line, rows)])


def figures(med, key, form, tail=None):
    steps = [s for s in SHOWN if any(s in m for m in med.values())
             and not (key == "grown" and s.startswith("restore"))]
    head = ["", *steps, *([tail[0]] if tail else [])]
    rows = [[tool, *(form(m[s][key]) if s in m else "-" for s in steps),
             *([tail[1](tool)] if tail else [])] for tool, m in med.items()]
    return table(head, rows)


def against(title, ratio, mine):
    rows = []
    for tool in mine:
        for name in ("speed", "cpu", "memory", "stored"):
            got = [ratio[tool].get(s, {}).get(name) for s in SHOWN]
            if any(got):
                rows.append([f"{tool} {name}", *(f"{g:.2f}x" if g else "-" for g in got)])
    return table([title, *SHOWN], rows) if rows else ""


def render(result):
    med, ratio = result["medians"], result["ratios"]
    data, parts = result["disks"]["data"], []
    parts.append("disks: " + ", ".join(f"{n} {b / 1e9:.2f} GB" for n, b in data.items())
                 + "; changed " + ", ".join(f"{n} {c['bytes'] / 1e6:.1f} MB in {c['pieces']} pieces"
                                            for n, c in result["disks"]["changed"].items()))
    parts.append("\n".join(f"{t}: {v}" for t, v in result["versions"].items()))
    main = {t: med[t] for t in result["tools"] if t in med}
    secs, mb = (lambda x: f"{x:.2f}"), (lambda x: f"{x / 1e6:.1f}")
    parts.append("wall seconds\n" + figures(main, "wall", secs, (
        "first MB/s", lambda t: f"{ratio[t].get('throughput_mb_s', 0):.0f}")))
    parts.append("CPU seconds (user + system)\n" + figures(main, "cpu", secs))
    parts.append(f"peak memory, MB (nothing below {result['rss_floor'] / 1e6:.0f} can be seen)\n"
                 + figures(main, "rss", mb))
    parts.append("repository growth, MB\n" + figures(main, "grown", mb, (
        "sum", lambda t: mb(ratio[t]["stored_sum"]) if "stored_sum" in ratio[t] else "-")))
    mine = [t for t in main if t.startswith("backstay")]
    parts.append(against("better than the best peer by", ratio, mine))
    if result["tuned"]:
        parts.append(against("the same, tuned peers too", result["ratios_with_tuned"], mine))
    sparse = {t: med[t] for t in result["sparse"] if t in med}
    if sparse:
        for key, what, form in (("wall", "wall seconds", secs), ("rss", "peak memory, MB", mb)):
            parts.append(f"sparse disks, Backstay: {what}\n" + figures(sparse, key, form))
    load = result["machine"]["load"]
    parts.append(f"load average at start {load[0]}, at end {load[1]}; {result['runs_asked']} run(s), medians")
    if result["failures"]:
        parts.append("FAILED\n" + "\n".join(result["failures"]))
    return "\n\n".join(p for p in parts if p)
