//! `backstay repair`

use backstay::{
    Error, Result,
    repository::{IndexRepair, Lost, PackId, PackRepair, PointRepair, RepairOptions},
};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{app::App, exit, prompt};

const EXAMPLES: &str = "\
Examples:
  backstay repair index --repo /srv/backups           # says what it would do, and asks on a terminal
  backstay repair points --repo /srv/backups --yes
  backstay repair packs --repo /srv/backups --yes --json

Run `check --read all` first: it says which of the three is needed. In this order: index, points, packs.
Nothing is deleted. Exits with 3 when something has to be repaired and was not.";

const INDEX_EXAMPLES: &str = "\
Examples:
  backstay repair index --repo /srv/backups
  backstay repair index --repo /srv/backups --yes --json";

const PACKS_EXAMPLES: &str = "\
Examples:
  backstay repair packs --repo /srv/backups                  # reads every pack
  backstay repair packs --pack 1f0c… --repo /srv/backups --yes  # a pack that `check` or `scrub` has found";

const POINTS_EXAMPLES: &str = "\
Examples:
  backstay repair points --repo /srv/backups
  backstay repair points --repo /srv/backups --yes --json";

/// Save what is whole and say what is lost, after damage. Needs the owner's key.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Repair {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Write lost or damaged index segments anew from the packs.
    #[command(after_help = INDEX_EXAMPLES)]
    Index(Go),
    /// Give lost or damaged packs up: save what is whole in them, write down what is lost of which restore point.
    #[command(after_help = PACKS_EXAMPLES)]
    Packs(Packs),
    /// Take restore points whose records are damaged or missing out of the lists.
    #[command(after_help = POINTS_EXAMPLES)]
    Points(Go),
}

#[derive(Args)]
struct Go {
    /// Do it without asking. Without this, and without a terminal to ask on, only a plan is printed.
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
struct Packs {
    /// Look at this pack alone; may be given again.
    #[arg(long = "pack", value_name = "ID", value_parser = parse_pack)]
    packs: Vec<PackId>,
    #[command(flatten)]
    go: Go,
}

fn parse_pack(text: &str) -> Result<PackId, String> {
    PackId::from_hex(text).ok_or_else(|| "a pack is 64 hex digits".to_owned())
}

/// What is the same of all three.
trait Told: Serialize {
    /// Whether there is anything to repair.
    fn needed(&self) -> bool;
    /// For people.
    fn text(&self) -> Vec<String>;
}

impl Repair {
    pub async fn run(self, app: &App) -> Result<u8> {
        let repository = app.uncached_repository().await?;
        let ctx = &app.ctx;
        let plan = RepairOptions::default().dry_run(true);
        match self.what {
            What::Index(go) => {
                let planned = repository.repair_index(&plan, ctx).await?;
                if !go.ahead(app, &planned)? {
                    return say(app, &planned, false);
                }
                say(app, &repository.repair_index(&RepairOptions::default(), ctx).await?, true)
            }
            What::Points(go) => {
                let planned = repository.repair_points(&plan, ctx).await?;
                if !go.ahead(app, &planned)? {
                    return say(app, &planned, false);
                }
                say(app, &repository.repair_points(&RepairOptions::default(), ctx).await?, true)
            }
            What::Packs(Packs { packs, go }) => {
                let packs = (!packs.is_empty()).then_some(packs);
                let planned = repository.repair_packs(&plan.packs(packs), ctx).await?;
                if !go.ahead(app, &planned)? {
                    return say(app, &planned, false);
                }
                // Those that the plan has found: what was whole a moment ago need not be read again.
                let bad = planned.damaged.iter().filter_map(|pack| PackId::from_hex(&pack.pack)).collect();
                let options = RepairOptions::default().packs(Some(bad));
                say(app, &repository.repair_packs(&options, ctx).await?, true)
            }
        }
    }
}

impl Go {
    fn ahead(&self, app: &App, planned: &impl Told) -> Result<bool> {
        if self.yes || !planned.needed() {
            return Ok(self.yes);
        }
        app.progress.clear();
        if app.output.json || !prompt::somebody_is_there() {
            return Ok(false);
        }
        planned.text().iter().for_each(|line| eprintln!("{line}"));
        prompt::confirm("Do this?")
    }
}

fn say(app: &App, report: &impl Told, done: bool) -> Result<u8> {
    app.progress.clear();
    let mut document = serde_json::to_value(report)
        .map_err(|error| Error::internal(format!("The report cannot be written as JSON: {error}")))?;
    document["needed"] = report.needed().into();
    document["warnings"] = app.progress.warnings().into();
    let waits = report.needed() && !done;
    app.output.report(&document, || {
        let mut lines = report.text();
        if !report.needed() {
            lines.push("nothing to repair".to_owned());
        } else if waits {
            lines.push("nothing was changed; --yes does it".to_owned());
        }
        lines.join("\n")
    })?;
    Ok(if waits { exit::FINDINGS } else { exit::OK })
}

impl Told for IndexRepair {
    fn needed(&self) -> bool {
        !self.bad_segments.is_empty()
    }

    fn text(&self) -> Vec<String> {
        let mut lines: Vec<_> =
            self.bad_segments.iter().map(|id| format!("index segment {id} is lost or damaged")).collect();
        if self.needed() {
            lines.push(format!(
                "written anew from {} packs that are known, and {} that nobody vouches for: these serve restores only",
                self.known_packs, self.unknown_packs
            ));
        }
        lines.extend(self.unreadable_packs.iter().map(|id| format!("pack {id} cannot be read: run `repair packs`")));
        lines
    }
}

impl Told for PackRepair {
    fn needed(&self) -> bool {
        !self.damaged.is_empty() || !self.lost.is_empty()
    }

    fn text(&self) -> Vec<String> {
        let mut lines: Vec<_> = self
            .damaged
            .iter()
            .map(|pack| {
                format!(
                    "pack {}: {} ({} of {} pieces are whole and saved, {} are whole elsewhere)",
                    pack.pack, pack.damage, pack.whole, pack.frames, pack.elsewhere
                )
            })
            .collect();
        for point in &self.lost {
            let parts =
                point.disks.iter().map(|disk| ("disk", disk)).chain(point.streams.iter().map(|it| ("stream", it)));
            lines.extend(parts.map(|(kind, part)| {
                format!(
                    "lost: point {} of {}, {kind} {}: {}",
                    point.point.short(),
                    point.workload,
                    part.name,
                    ranges(part)
                )
            }));
        }
        lines
    }
}

fn ranges(part: &Lost) -> String {
    const SHOWN: usize = 8;
    let mut text: Vec<_> =
        part.ranges.iter().take(SHOWN).map(|(offset, bytes)| format!("{offset}..{}", offset + bytes)).collect();
    if part.ranges.len() > SHOWN {
        text.push(format!("and {} more ranges", part.ranges.len() - SHOWN));
    }
    text.join(", ")
}

impl Told for PointRepair {
    fn needed(&self) -> bool {
        self.points.iter().any(|point| point.held.is_none())
    }

    fn text(&self) -> Vec<String> {
        let line = |point: &backstay::repository::BadPoint| {
            let mut text = format!("point {}: {}", point.point, point.damage);
            match &point.workload {
                Some(workload) => text.push_str(&format!("\n  of {workload}")),
                None => text.push_str("\n  nobody knows whose it is"),
            }
            for (disk, size) in &point.disks {
                text.push_str(&format!(", disk {disk} of {size} bytes"));
            }
            match &point.held {
                Some(reason) => text.push_str(&format!("\n  it is on hold ({reason}) and stays: `release` it first")),
                None if point.outcome => text.push_str("\n  its session counts as void; what others use of it stays"),
                None => text.push_str("\n  taken out of the lists; what others use of it stays"),
            }
            text
        };
        self.points.iter().map(line).collect()
    }
}
