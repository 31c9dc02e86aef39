use proptest::prelude::*;

use super::*;

fn candidate(id: u8, time: &str) -> Candidate {
    Candidate {
        id: RestorePointId::from_bytes([id; 16]),
        workload: WorkloadId::new("web").unwrap(),
        time: time.parse().unwrap(),
        labels: BTreeMap::new(),
        hold: None,
    }
}

/// One point for each moment, numbered from 1.
fn candidates(times: &[&str]) -> Vec<Candidate> {
    times.iter().zip(1..).map(|(time, id)| candidate(id, time)).collect()
}

fn kept(points: &[Candidate], rules: &Retention, zone: &str) -> Vec<u8> {
    let plan = plan_retention(points, rules, &zone.parse().unwrap()).unwrap();
    assert_eq!(plan.len(), points.len());
    let mut kept: Vec<_> = plan.iter().filter(|point| point.keep()).map(|point| point.id.as_bytes()[0]).collect();
    kept.sort();
    kept
}

#[test]
fn no_rules_keep_everything() {
    let points = candidates(&["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]);
    assert_eq!(kept(&points, &Retention::default(), "UTC"), [1, 2]);
    assert_eq!(kept(&[], &Retention::default().last(1), "UTC"), [0; 0]);
}

#[test]
fn the_newest_of_each_of_the_last_days_that_have_one_is_kept() {
    let times = [
        "2026-11-20T23:00:00Z",
        "2026-11-20T01:00:00Z",
        "2026-11-17T05:00:00Z",
        "2026-11-17T04:00:00Z",
        "2026-11-01T00:00:00Z",
    ];
    let points = candidates(&times);
    assert_eq!(kept(&points, &Retention::default().daily(2), "UTC"), [1, 3]);
    assert_eq!(kept(&points, &Retention::default().daily(3), "UTC"), [1, 3, 5]);
    assert_eq!(kept(&points, &Retention::default().last(2), "UTC"), [1, 2]);
    assert_eq!(kept(&points, &Retention::default().last(1).daily(2).monthly(9), "UTC"), [1, 3]);
}

#[test]
fn a_day_is_that_of_the_zone() {
    // Half past eleven in the evening of the 20th in Berlin is the 20th in UTC too; an hour later it is the 21st in Berlin alone.
    let points = candidates(&["2026-11-20T23:30:00Z", "2026-11-20T22:30:00Z", "2026-11-20T12:00:00Z"]);
    assert_eq!(kept(&points, &Retention::default().daily(9), "UTC"), [1]);
    assert_eq!(kept(&points, &Retention::default().daily(9), "Europe/Berlin"), [1, 2]);
}

#[test]
fn the_hour_that_comes_twice_in_autumn_is_two_hours() {
    // Berlin, 2026-10-25: 02:30 with summer time, 02:30 without, and 03:30.
    let points =
        candidates(&["2026-10-25T02:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T00:10:00Z"]);
    assert_eq!(kept(&points, &Retention::default().hourly(9), "Europe/Berlin"), [1, 2, 3]);
    assert_eq!(kept(&points, &Retention::default().daily(9), "Europe/Berlin"), [1], "and a day of 25 hours is one day");
}

#[test]
fn clocks_of_odd_steps_and_skipped_days_are_followed() {
    // Lord Howe goes back by half an hour: 01:30 to 02:00 comes twice on 2026-04-05, and its halves differ in their offset.
    let points = candidates(&["2026-04-04T15:10:00Z", "2026-04-04T14:40:00Z", "2026-04-04T14:10:00Z"]);
    assert_eq!(kept(&points, &Retention::default().hourly(9), "Australia/Lord_Howe"), [1, 2], "01:40 twice, and 01:10");
    // In Berlin, 2026-03-29 has no hour from 2 to 3: 01:30 and 03:30 lie one hour apart.
    let points = candidates(&["2026-03-29T01:30:00Z", "2026-03-29T00:30:00Z", "2026-03-28T23:30:00Z"]);
    assert_eq!(kept(&points, &Retention::default().hourly(2), "Europe/Berlin"), [1, 2]);
    assert_eq!(kept(&points, &Retention::default().daily(9), "Europe/Berlin"), [1], "a day of 23 hours is one day");
    // Samoa had no 2011-12-30.
    let points = candidates(&["2011-12-30T11:00:00Z", "2011-12-30T09:00:00Z"]);
    assert_eq!(kept(&points, &Retention::default().daily(9), "Pacific/Apia"), [1, 2]);
    let plan = plan_retention(&points, &Retention::default().daily(9), &"Pacific/Apia".parse().unwrap()).unwrap();
    assert_eq!(plan[0].kept_by[0].to_string(), "daily 1 of 9 (2011-12-31)");
    assert_eq!(plan[1].kept_by[0].to_string(), "daily 2 of 9 (2011-12-29)");
}

#[test]
fn weeks_are_iso_weeks_and_cross_the_year() {
    // Thursday 2026-12-31 and Friday 2027-01-01 lie in week 53 of 2026.
    let points = candidates(&["2027-01-01T12:00:00Z", "2026-12-31T12:00:00Z", "2026-12-27T12:00:00Z"]);
    assert_eq!(kept(&points, &Retention::default().weekly(9), "UTC"), [1, 3]);
    assert_eq!(kept(&points, &Retention::default().yearly(9), "UTC"), [1, 2]);
    let plan = plan_retention(&points, &Retention::default().weekly(2), &Zone::utc()).unwrap();
    assert_eq!(plan[0].kept_by[0].to_string(), "weekly 1 of 2 (2026-W53)");
}

#[test]
fn within_counts_back_from_the_newest_point_and_not_from_today() {
    let points = candidates(&["2001-01-01T00:01:00Z", "2001-01-01T00:00:01Z", "2001-01-01T00:00:00Z"]);
    let mut rules = Retention::default().within_seconds(60);
    assert_eq!(kept(&points, &rules, "UTC"), [1, 2]);
    rules = rules.within_seconds(u64::MAX);
    assert_eq!(kept(&points, &rules, "UTC"), [1, 2, 3]);
}

#[test]
fn labels_and_holds_keep_whatever_the_rules_say() {
    let mut points = candidates(&["2026-01-03T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"]);
    points[1].labels.insert("release".into(), "v1=final".into());
    points[2].hold = Some("audit".into());
    let rules = Retention::default().last(1).labels(vec!["release=v1=final".into()]);
    assert_eq!(kept(&points, &rules, "UTC"), [1, 2, 3]);
    let plan = plan_retention(&points, &rules, &Zone::utc()).unwrap();
    let why: Vec<_> = plan.iter().map(|point| point.kept_by[0].to_string()).collect();
    assert_eq!(why, ["last 1 of 1", "label release=v1=final", "on hold (audit)"]);
    let other = Retention::default().last(1).labels(vec!["release=v2".into()]);
    assert_eq!(kept(&points, &other, "UTC"), [1, 3]);
    let wrong = plan_retention(&points, &Retention::default().labels(vec!["release".into()]), &Zone::utc());
    assert_eq!(wrong.unwrap_err().kind(), backstay_core::ErrorKind::InvalidInput);
}

#[test]
fn each_workload_is_counted_by_itself() {
    let mut points = candidates(&["2026-01-03T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"]);
    points[2].workload = WorkloadId::new("database").unwrap();
    assert_eq!(kept(&points, &Retention::default().last(1), "UTC"), [1, 3]);
}

#[test]
fn an_unknown_zone_is_refused_with_an_example() {
    let error = "Europe/Atlantis".parse::<Zone>().unwrap_err();
    assert!(error.to_string().contains("Europe/Berlin"));
    assert_eq!("Europe/Berlin".parse::<Zone>().unwrap().to_string(), "Europe/Berlin");
}

fn any_points() -> impl Strategy<Value = Vec<Candidate>> {
    let point = (any::<[u8; 16]>(), 0i64..100_000_000, any::<bool>(), 0u8..10, 0u8..3);
    prop::collection::vec(point, 0..60).prop_map(|points| {
        let make = |(id, seconds, labelled, hold, workload): ([u8; 16], i64, bool, u8, u8)| Candidate {
            id: RestorePointId::from_bytes(id),
            workload: WorkloadId::new(format!("w{workload}")).unwrap(),
            // From the first of January 2025 on, past many changes of clocks.
            time: Timestamp::from_nanos(1_735_689_600_000_000_000).plus_seconds(seconds),
            labels: BTreeMap::from_iter([
                ("keep".to_owned(), if labelled { "yes" } else { "no" }.to_owned()),
                ("group".to_owned(), (id[0] % 4).to_string()),
            ]),
            hold: (hold == 0).then(String::new),
        };
        points.into_iter().map(make).collect()
    })
}

fn any_rules() -> impl Strategy<Value = Retention> {
    ((0u32..5, 0u32..5, 0u32..9, 0u32..5), (0u32..5, 0u32..3, 0u64..9_000_000, any::<bool>())).prop_map(
        |((last, hourly, daily, weekly), (monthly, yearly, within, label))| {
            let labels = label.then(|| "keep=yes".to_owned()).into_iter().collect();
            let rules = Retention::default().last(last).hourly(hourly).daily(daily).weekly(weekly);
            rules.monthly(monthly).yearly(yearly).within_seconds(within).labels(labels)
        },
    )
}

const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Kiritimati"];

fn any_zone() -> impl Strategy<Value = Zone> {
    prop::sample::select(&ZONES[..]).prop_map(|name| name.parse().unwrap())
}

fn ids(plan: &[Decision]) -> BTreeSet<RestorePointId> {
    plan.iter().filter(|point| point.keep()).map(|point| point.id).collect()
}

proptest! {
    #[test]
    fn every_point_is_decided_once_whatever_order_they_come_in(points in any_points(), rules in any_rules(), zone in any_zone()) {
        let plan = plan_retention(&points, &rules, &zone).unwrap();
        prop_assert_eq!(plan.len(), points.len());
        let mut reversed = points.clone();
        reversed.reverse();
        prop_assert_eq!(&plan, &plan_retention(&reversed, &rules, &zone).unwrap());
        for point in &points {
            prop_assert!(point.hold.is_none() || ids(&plan).contains(&point.id));
        }
    }

    #[test]
    fn what_was_kept_is_kept_when_the_rest_is_gone(points in any_points(), rules in any_rules(), zone in any_zone()) {
        let before = ids(&plan_retention(&points, &rules, &zone).unwrap());
        let rest: Vec<_> = points.into_iter().filter(|point| before.contains(&point.id)).collect();
        prop_assert_eq!(ids(&plan_retention(&rest, &rules, &zone).unwrap()), before);
    }

    #[test]
    fn a_more_generous_rule_never_removes_what_a_meaner_one_keeps(points in any_points(), rules in any_rules(), more in 1u32..4, zone in any_zone()) {
        prop_assume!(rules != Retention::default());
        let before = ids(&plan_retention(&points, &rules, &zone).unwrap());
        let generous = [
            rules.clone().last(rules.last + more),
            rules.clone().hourly(rules.hourly + more),
            rules.clone().daily(rules.daily + more),
            rules.clone().weekly(rules.weekly + more),
            rules.clone().monthly(rules.monthly + more),
            rules.clone().yearly(rules.yearly + more),
            rules.clone().within_seconds(rules.within_seconds + u64::from(more)),
            rules.clone().labels([&rules.labels[..], &["group=1".to_owned()]].concat()),
        ];
        for rules in generous {
            prop_assert!(ids(&plan_retention(&points, &rules, &zone).unwrap()).is_superset(&before));
        }
    }

    #[test]
    fn a_point_that_cannot_be_read_never_makes_another_one_go(points in any_points(), lost in prop::collection::vec(any::<bool>(), 60), rules in any_rules(), zone in any_zone()) {
        let before = ids(&plan_retention(&points, &rules, &zone).unwrap());
        let readable: Vec<_> = points.iter().zip(lost).filter(|(_, lost)| !lost).map(|(point, _)| point.clone()).collect();
        let after = ids(&plan_retention(&readable, &rules, &zone).unwrap());
        prop_assert!(readable.iter().all(|point| !before.contains(&point.id) || after.contains(&point.id)));
    }

    #[test]
    fn whatever_one_rule_keeps_is_kept_by_all_rules_together(points in any_points(), rules in any_rules(), zone in any_zone()) {
        let together = ids(&plan_retention(&points, &rules, &zone).unwrap());
        let none = Retention::default;
        let alone = [
            none().last(rules.last),
            none().hourly(rules.hourly),
            none().daily(rules.daily),
            none().weekly(rules.weekly),
            none().monthly(rules.monthly),
            none().yearly(rules.yearly),
            none().within_seconds(rules.within_seconds),
            none().labels(rules.labels.clone()),
        ];
        for rule in alone.into_iter().filter(|rule| *rule != none()) {
            prop_assert!(together.is_superset(&ids(&plan_retention(&points, &rule, &zone).unwrap())));
        }
    }

    #[test]
    fn a_workload_is_decided_as_if_it_were_alone(points in any_points(), rules in any_rules(), zone in any_zone()) {
        let together = plan_retention(&points, &rules, &zone).unwrap();
        for name in ["w0", "w1", "w2"] {
            let own: Vec<_> = points.iter().filter(|point| point.workload.as_str() == name).cloned().collect();
            let of_it: Vec<_> = together.iter().filter(|point| point.workload.as_str() == name).cloned().collect();
            prop_assert_eq!(plan_retention(&own, &rules, &zone).unwrap(), of_it);
        }
    }

    #[test]
    fn a_rule_keeps_no_more_than_it_says_and_always_the_newest(points in any_points(), daily in 1u32..9, zone in any_zone()) {
        let plan = plan_retention(&points, &Retention::default().daily(daily), &zone).unwrap();
        for of_one in plan.chunk_by(|a, b| a.workload == b.workload) {
            prop_assert!(of_one[0].keep());
            let by_day = of_one.iter().filter(|point| point.kept_by.iter().any(|why| !matches!(why, Reason::Hold { .. })));
            prop_assert!(by_day.count() <= daily as usize);
        }
    }
}
