//! `backstay forget`

use std::collections::BTreeSet;

use backstay::{
    Engine, Error, ForgetPlan, ForgetRequest, Repository, RestorePointId, Result, Retention, WorkloadId,
    repository::{ForgetReport, PointSelector},
    scheduler::{Decision, Reason, Zone},
};
use clap::{Args, CommandFactory, error::ErrorKind};
use serde::Serialize;

use super::backup::parse_label;
use crate::{app::App, args::Cli, exit, output::table, units::parse_span, views::short_time};

const EXAMPLES: &str = "\
Examples:
  backstay forget 1a2b3c4d 5e6f7a8b --repo /srv/backups
  backstay forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run --repo /srv/backups
  backstay forget --workload web --keep-last 3 --keep-within 14d --timezone Europe/Berlin --repo /srv/backups
  backstay forget --label tier=test --keep-last 1 --repo /srv/backups --json

Rules count for each workload by itself. A point that any rule keeps stays, whatever the others say, and so does a point
on hold (see `backstay hold`). A point that cannot be read is left alone, and makes no other one go.

A forgotten point is gone from every list at once and cannot be brought back. The space of what no point needs any more
is freed by `backstay prune`.";

/// Forget restore points: those that are named, or those that no rule keeps.
///
/// Says for every point that the rules look at why it is kept or removed; --dry-run says it and does nothing.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Forget {
    /// Which ones; without rules.
    #[arg(value_name = "POINT")]
    points: Vec<PointSelector>,
    #[command(flatten)]
    rules: Rules,
    /// Apply the rules to this workload alone; may be given again.
    #[arg(long, short, value_name = "NAME", conflicts_with = "points")]
    workload: Vec<WorkloadId>,
    /// Apply the rules only to points that carry this label; given again, to those that carry all.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label, conflicts_with = "points")]
    labels: Vec<(String, String)>,
    /// Time zone of hours, days, weeks, months and years: Europe/Berlin.
    #[arg(long, value_name = "ZONE", default_value = "UTC", conflicts_with = "points")]
    timezone: Zone,
    /// Go on also when no point of a workload would stay.
    #[arg(long, conflicts_with = "points")]
    allow_none: bool,
    /// Only say what would be forgotten.
    #[arg(long, short = 'n')]
    dry_run: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Rules")]
struct Rules {
    /// Keep the newest N points.
    #[arg(long, value_name = "N", value_parser = at_least_one(), conflicts_with = "points")]
    keep_last: Option<u32>,
    /// Keep the newest of each of the last N hours that have one.
    #[arg(long, value_name = "N", value_parser = at_least_one(), conflicts_with = "points")]
    keep_hourly: Option<u32>,
    /// Keep the newest of each of the last N days that have one.
    #[arg(long, value_name = "N", value_parser = at_least_one(), conflicts_with = "points")]
    keep_daily: Option<u32>,
    /// Keep the newest of each of the last N ISO weeks that have one.
    #[arg(long, value_name = "N", value_parser = at_least_one(), conflicts_with = "points")]
    keep_weekly: Option<u32>,
    /// Keep the newest of each of the last N months that have one.
    #[arg(long, value_name = "N", value_parser = at_least_one(), conflicts_with = "points")]
    keep_monthly: Option<u32>,
    /// Keep the newest of each of the last N years that have one.
    #[arg(long, value_name = "N", value_parser = at_least_one(), conflicts_with = "points")]
    keep_yearly: Option<u32>,
    /// Keep what is younger than this, counted back from the workload's newest point: 36h, 14d, 8w.
    #[arg(long, value_name = "SPAN", value_parser = parse_span, conflicts_with = "points")]
    keep_within: Option<u64>,
    /// Keep what carries this label; may be given again.
    #[arg(long = "keep-label", value_name = "KEY=VALUE", value_parser = parse_label, conflicts_with = "points")]
    keep_labels: Vec<(String, String)>,
}

fn at_least_one() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

impl Rules {
    fn is_empty(&self) -> bool {
        let counts =
            [self.keep_last, self.keep_hourly, self.keep_daily, self.keep_weekly, self.keep_monthly, self.keep_yearly];
        counts.iter().all(Option::is_none) && self.keep_within.is_none() && self.keep_labels.is_empty()
    }

    fn retention(self) -> Retention {
        let labels = self.keep_labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        Retention::default()
            .last(self.keep_last.unwrap_or(0))
            .hourly(self.keep_hourly.unwrap_or(0))
            .daily(self.keep_daily.unwrap_or(0))
            .weekly(self.keep_weekly.unwrap_or(0))
            .monthly(self.keep_monthly.unwrap_or(0))
            .yearly(self.keep_yearly.unwrap_or(0))
            .within_seconds(self.keep_within.unwrap_or(0))
            .labels(labels)
    }
}

/// What was done, or would be. Names in JSON are frozen.
#[derive(Serialize)]
struct Document<'a> {
    dry_run: bool,
    /// By rules alone: every point that they looked at.
    decisions: Vec<DecisionView<'a>>,
    /// By rules alone: points that cannot be read and stay.
    damaged: Vec<DamagedView>,
    /// What a dry run would forget.
    forgotten: Vec<RestorePointId>,
    already_forgotten: Vec<RestorePointId>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct DecisionView<'a> {
    id: RestorePointId,
    workload: &'a str,
    time: String,
    keep: bool,
    kept_by: &'a [Reason],
    why: String,
}

#[derive(Serialize)]
struct DamagedView {
    id: RestorePointId,
    kind: &'static str,
    message: String,
}

impl Forget {
    pub async fn run(self, app: &App) -> Result<u8> {
        if self.points.is_empty() && self.rules.is_empty() {
            exit::usage(&Cli::command().error(
                ErrorKind::MissingRequiredArgument,
                "say what to forget: points by their ids (`points` lists them), or rules that say what to keep, such as \
                 --keep-daily 7 --keep-weekly 5; --dry-run shows what they would do",
            ));
        }
        let repository = app.repository().await?;
        if self.points.is_empty() { self.by_rules(repository, app).await } else { self.by_name(repository, app).await }
    }

    async fn by_name(self, repository: Repository, app: &App) -> Result<u8> {
        let points = repository.point_ids(&self.points).await?;
        let report = if self.dry_run {
            repository.plan_forget(&points).await?
        } else {
            Engine::new(repository).forget(&points, &app.ctx).await?
        };
        let document = Document::new(self.dry_run, None, report, app);
        app.output.report(&document, || summary(&document))?;
        Ok(exit::OK)
    }

    async fn by_rules(self, repository: Repository, app: &App) -> Result<u8> {
        let request = ForgetRequest::new(self.rules.retention())
            .zone(self.timezone)
            .workloads(self.workload)
            .labels(self.labels.into_iter().collect())
            .allow_none(self.allow_none);
        let engine = Engine::new(repository);
        let plan = engine.plan_forget(&request).await?;
        tell_of(&plan, &request, app);
        let points = plan.to_forget();
        let report = if self.dry_run {
            engine.repository().plan_forget(&points).await?
        } else {
            engine.forget(&points, &app.ctx).await?
        };
        app.progress.clear();
        let document = Document::new(self.dry_run, Some(&plan), report, app);
        app.output.report(&document, || text(&document) + &summary(&document))?;
        Ok(exit::OK)
    }
}

/// What the answer says and nobody must miss.
fn tell_of(plan: &ForgetPlan, request: &ForgetRequest, app: &App) {
    for (id, error) in &plan.damaged {
        let why = error.message();
        app.progress.warn(&format!("Point {id} cannot be read and is left alone; run `check`: {why}"));
    }
    let known: BTreeSet<_> = plan.decisions.iter().map(|point| &point.workload).collect();
    for workload in request.workloads.iter().filter(|workload| !known.contains(workload)) {
        app.progress.warn(&format!("No point of workload {workload} is selected"));
    }
}

impl<'a> Document<'a> {
    fn new(dry_run: bool, plan: Option<&'a ForgetPlan>, report: ForgetReport, app: &App) -> Self {
        let damaged = |(id, error): &(RestorePointId, Error)| DamagedView {
            id: *id,
            kind: error.kind().name(),
            message: error.message().to_owned(),
        };
        Self {
            dry_run,
            decisions: plan.iter().flat_map(|plan| plan.decisions.iter().map(DecisionView::new)).collect(),
            damaged: plan.iter().flat_map(|plan| plan.damaged.iter().map(damaged)).collect(),
            forgotten: report.forgotten,
            already_forgotten: report.already,
            warnings: app.progress.warnings(),
        }
    }
}

impl<'a> DecisionView<'a> {
    fn new(decision: &'a Decision) -> Self {
        let reasons: Vec<_> = decision.kept_by.iter().map(Reason::to_string).collect();
        Self {
            id: decision.id,
            workload: decision.workload.as_str(),
            time: decision.time.to_string(),
            keep: decision.keep(),
            kept_by: &decision.kept_by,
            why: if decision.keep() { reasons.join(", ") } else { "no rule keeps it".to_owned() },
        }
    }
}

fn text(document: &Document<'_>) -> String {
    if document.decisions.is_empty() {
        return String::new();
    }
    let mut rows = table(["POINT", "TIME (UTC)", "WORKLOAD", "", "WHY"], 0..0);
    for point in &document.decisions {
        let verdict = if point.keep { "keep" } else { "forget" };
        rows.add_row([&point.id.short(), &short_time(&point.time), point.workload, verdict, &point.why]);
    }
    format!("{rows}\n\n")
}

fn summary(document: &Document<'_>) -> String {
    let points = |count: usize| if count == 1 { "1 point".to_owned() } else { format!("{count} points") };
    let mut parts = vec![match (document.forgotten.len(), document.dry_run) {
        (0, _) => "nothing to forget".to_owned(),
        (count, true) => format!("{} would be forgotten", points(count)),
        (count, false) => format!("{} forgotten", points(count)),
    }];
    let kept = document.decisions.iter().filter(|point| point.keep).count();
    if kept > 0 {
        parts.push(format!("{kept} kept"));
    }
    if !document.already_forgotten.is_empty() {
        parts.push(format!("{} forgotten before", points(document.already_forgotten.len())));
    }
    if !document.damaged.is_empty() {
        parts.push(format!("{} unreadable and left alone", points(document.damaged.len())));
    }
    parts.join(", ")
}
