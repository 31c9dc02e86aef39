//! Forgetting by name and by rules, and holds.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kit::{Home, MIB, content};

/// Backs `a.raw` up under this name and with these labels; gives the point's id.
fn point(home: &Home, workload: &str, labels: &[&str]) -> String {
    let labels = labels.iter().flat_map(|label| ["--label", label]);
    let args = ["backup", "a.raw", "--workload", workload].into_iter().chain(labels);
    home.json(args)["point"]["id"].as_str().unwrap().to_owned()
}

/// A home with the disk `a.raw` of this content.
fn home_with_a_disk() -> (Home, Vec<u8>) {
    let home = Home::new();
    let disk = content(11, MIB);
    home.disk("a.raw", &disk);
    (home, disk)
}

fn ids(points: &Value) -> Vec<&str> {
    points.as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect()
}

/// Why each point is kept or removed, by id.
fn why(answer: &Value) -> BTreeMap<&str, (bool, &str)> {
    let decisions = answer["decisions"].as_array().unwrap().iter();
    let why = |it: &Value| (it["keep"].as_bool().unwrap(), it["why"].as_str().unwrap().len());
    decisions.map(|it| (it["id"].as_str().unwrap(), (why(it).0, it["why"].as_str().unwrap()))).collect()
}

#[test]
fn named_points_are_forgotten_and_the_others_restore() {
    let home = Home::new();
    let mut disk = content(3, 2 * MIB);
    let mut points = Vec::new();
    for step in 0..3 {
        disk[step * MIB / 2..][..9].copy_from_slice(b"overnight");
        home.disk("a.raw", &disk);
        points.push((point(&home, "w", &[]), disk.clone()));
    }
    let (middle, first) = (points.remove(1), points.remove(0));
    let planned = home.json(["forget", &middle.0, "--dry-run"]);
    assert_eq!((&planned["dry_run"], ids(&planned["forgotten"])), (&true.into(), vec![middle.0.as_str()]));
    assert_eq!(home.points().len(), 3, "a dry run changes nothing");
    let answer = home.json(["forget", &middle.0[..10], &first.0]);
    assert_eq!(ids(&answer["forgotten"]), [&middle.0, &first.0]);
    assert_eq!((&answer["dry_run"], &answer["already_forgotten"]), (&false.into(), &Value::Array(vec![])));
    assert_eq!(home.points().len(), 1);
    assert_eq!(home.restored("latest", "disk0"), points[0].1);
    home.check();

    let again = home.json(["forget", &middle.0, &middle.0[..8]]);
    assert_eq!((ids(&again["forgotten"]), ids(&again["already_forgotten"])), (vec![], vec![middle.0.as_str()]));
    home.fails(12, ["forget", "ffffffff"]);
    home.fails(12, ["show", &middle.0]);
    assert!(home.ok(["forget", &middle.0]).contains("1 point forgotten before"));
    assert!(home.ok(["forget", "w@latest"]).contains("1 point forgotten"));
    assert_eq!(home.points(), Vec::<Value>::new());
    // And the workload goes on.
    home.backup(["a.raw"]);
    assert_eq!(home.restored("w@latest", "disk0"), disk);
    home.check();
}

#[test]
fn rules_say_of_every_point_why_it_is_kept_or_removed() {
    let (home, disk) = home_with_a_disk();
    let web: Vec<_> = (0..4).map(|_| point(&home, "web", &[])).collect();
    let labelled = point(&home, "db", &["tier=gold"]);
    let db: Vec<_> = (0..2).map(|_| point(&home, "db", &[])).collect();
    let rules = ["--keep-last", "2", "--keep-label", "tier=gold"];
    let planned = home.json(["forget", "--dry-run"].into_iter().chain(rules));
    assert_eq!(home.points().len(), 7);
    let expected = BTreeMap::from([
        (web[3].as_str(), (true, "last 1 of 2")),
        (&web[2], (true, "last 2 of 2")),
        (&web[1], (false, "no rule keeps it")),
        (&web[0], (false, "no rule keeps it")),
        (&db[1], (true, "last 1 of 2")),
        (&db[0], (true, "last 2 of 2")),
        (&labelled, (true, "label tier=gold")),
    ]);
    assert_eq!(why(&planned), expected);
    assert_eq!(planned["decisions"][0]["kept_by"][0]["rule"], "last");
    assert_eq!(ids(&planned["forgotten"]), [&web[1], &web[0]]);
    let done = home.json(["forget"].into_iter().chain(rules));
    assert_eq!((why(&done), &done["forgotten"]), (expected, &planned["forgotten"]), "a dry run tells the truth");
    assert_eq!(home.points().len(), 5);
    assert_eq!(home.restored("web@latest", "disk0"), disk);
    let text = home.ok(["forget"].into_iter().chain(rules));
    assert!(
        text.contains("WHY") && text.contains("label tier=gold") && text.contains("nothing to forget, 5 kept"),
        "{text}"
    );
    assert!(home.ok(["forget", "--keep-last", "1", "--dry-run"]).contains("3 points would be forgotten, 2 kept"));
    assert_eq!(home.ok(["forget", "--keep-last", "1", "--quiet"]), "");
    assert_eq!(home.points().len(), 2);
    home.check();
}

#[test]
fn every_rule_and_a_time_zone_can_be_given() {
    let (home, _) = home_with_a_disk();
    point(&home, "w", &[]);
    let newest = point(&home, "w", &[]);
    for (rule, value, said) in [
        ("--keep-hourly", "2", "hourly 1 of 2"),
        ("--keep-daily", "7", "daily 1 of 7"),
        ("--keep-weekly", "5", "weekly 1 of 5"),
        ("--keep-monthly", "12", "monthly 1 of 12"),
        ("--keep-yearly", "3", "yearly 1 of 3"),
        ("--keep-within", "14d", "within 2 w of the newest"),
    ] {
        let planned = home.json(["forget", rule, value, "--timezone", "Pacific/Kiritimati", "--dry-run"]);
        let (keep, why) = why(&planned)[newest.as_str()];
        assert!(keep && why.starts_with(said), "{rule}: {why}");
    }
    // The year is that of the zone's wall: the kept reason names the period.
    let planned = home.json(["forget", "--keep-yearly", "1", "--dry-run"]);
    assert_eq!(planned["decisions"][0]["kept_by"][0]["name"], planned["decisions"][0]["time"].as_str().unwrap()[..4]);
}

#[test]
fn rules_apply_to_what_is_selected_alone() {
    let (home, _) = home_with_a_disk();
    for workload in ["web", "db", "web", "db"] {
        point(&home, workload, &["tier=test", "site=a"]);
        point(&home, workload, &["tier=test"]);
    }
    let counts = |answer: &Value| (answer["decisions"].as_array().unwrap().len(), ids(&answer["forgotten"]).len());
    let dry = |args: &[&str]| counts(&home.json(["forget", "--dry-run", "--keep-last", "1"].iter().chain(args)));
    assert_eq!(dry(&[]), (8, 6));
    assert_eq!(dry(&["--workload", "web"]), (4, 3));
    assert_eq!(dry(&["--workload", "web", "--workload", "db"]), (8, 6));
    assert_eq!(dry(&["--label", "tier=test"]), (8, 6));
    assert_eq!(dry(&["--label", "tier=test", "--label", "site=a"]), (4, 2), "those that carry all labels");
    assert_eq!(dry(&["--label", "site=a", "--workload", "db"]), (2, 1));
    assert_eq!(dry(&["--label", "site=b"]), (0, 0));
    let typo = home.json(["forget", "--keep-last", "1", "--workload", "wbe"]);
    assert_eq!(counts(&typo), (0, 0));
    assert!(typo["warnings"][0].as_str().unwrap().contains("wbe"));
    assert_eq!(home.points().len(), 8);
}

#[test]
fn what_makes_no_sense_or_would_leave_nothing_is_refused() {
    let (home, _) = home_with_a_disk();
    let id = point(&home, "w", &["a=b"]);
    point(&home, "other", &["keep=me"]);
    let usage = home.fails(2, ["forget"]);
    let message = usage["message"].as_str().unwrap();
    assert!(message.contains("--keep-daily") && message.contains("points"), "{message}");
    for bad in [
        &["forget", "--dry-run"][..],
        &["forget", "--workload", "w"],
        &["forget", &id, "--keep-last", "1"],
        &["forget", &id, "--workload", "w"],
        &["forget", &id, "--label", "a=b"],
        &["forget", &id, "--timezone", "UTC"],
        &["forget", "--keep-last", "0"],
        &["forget", "--keep-last", "-1"],
        &["forget", "--keep-daily", "x"],
        &["forget", "--keep-within", "14"],
        &["forget", "--keep-within", "0d"],
        &["forget", "--keep-within", "2m"],
        &["forget", "--keep-label", "novalue"],
        &["forget", "--keep-last", "1", "--timezone", "Europe/Atlantis"],
        &["hold"],
        &["hold", &id, &id],
        &["release"],
    ] {
        assert_eq!(home.fails(2, bad)["kind"], "Usage", "{bad:?}");
    }
    for dry in [&["--dry-run"][..], &[]] {
        let args = ["forget", "--keep-label", "keep=me"];
        let refused = home.fails(11, args.iter().chain(dry));
        assert_eq!(refused["context"]["workload"], "w");
        assert!(refused["message"].as_str().unwrap().contains("allow-none"));
    }
    assert_eq!(home.points().len(), 2);
    // Others of the workload that the rules do not look at stay, so that it is not emptied.
    let third = point(&home, "w", &[]);
    assert_eq!(ids(&home.json(["forget", "--keep-label", "x=y", "--label", "a=b"])["forgotten"]), [&id]);
    let allowed = home.json(["forget", "--keep-label", "keep=me", "--allow-none"]);
    assert_eq!(ids(&allowed["forgotten"]), [&third]);
    assert_eq!(home.points().len(), 1);
}

#[test]
fn an_empty_repository_has_nothing_to_forget() {
    let home = Home::new();
    assert_eq!(home.json(["forget", "--keep-last", "1"])["decisions"], Value::Array(vec![]));
    assert_eq!(home.ok(["forget", "--keep-daily", "7"]), "nothing to forget\n");
}

#[test]
fn a_hold_keeps_a_point_and_is_shown() {
    let (home, disk) = home_with_a_disk();
    let held = point(&home, "w", &[]);
    let labelled = point(&home, "w", &["hold=before the upgrade"]);
    let bare = point(&home, "w", &["hold"]);
    let newest = point(&home, "w", &[]);
    let set = home.json(["hold", &held[..8], "--reason", "court case 7"]);
    assert_eq!((&set["changed"], &set["point"]), (&true.into(), &held.as_str().into()));
    assert!(home.ok(["hold", &held, "--reason", "court case 7"]).contains("on hold already"));

    let reasons: Vec<_> = home.points().iter().map(|point| point["hold"]["reason"].clone()).collect();
    assert_eq!(reasons, ["court case 7".into(), "before the upgrade".into(), "".into(), Value::Null]);
    assert!(home.points()[0]["hold"]["since"].is_string() && home.points()[1]["hold"]["since"].is_null());
    let shown = home.json(["show", &held]);
    assert_eq!(shown["hold"]["reason"], "court case 7");
    assert!(home.ok(["show", &held]).contains("court case 7"));
    let table = home.ok(["points"]);
    assert!(table.contains("HOLD") && table.contains("before the upgrade"), "{table}");

    let answer = home.json(["forget", "--keep-last", "1"]);
    assert_eq!(answer["forgotten"], Value::Array(vec![]));
    assert_eq!(why(&answer)[held.as_str()], (true, "on hold (court case 7)"));
    assert_eq!(why(&answer)[bare.as_str()], (true, "on hold"));
    assert_eq!(answer["decisions"][3]["kept_by"][0]["rule"], "hold");
    for args in [&["forget", &held][..], &["forget", &newest, &labelled], &["forget", &bare, "--dry-run"]] {
        let refused = home.fails(16, args);
        assert!(refused["message"].as_str().unwrap().contains("release"), "{refused}");
    }
    assert_eq!(home.points().len(), 4, "nothing goes when one of them is on hold");

    for id in [&held, &labelled, &bare] {
        assert_eq!(home.json(["release", id])["changed"], true);
    }
    assert!(home.ok(["release", &held]).contains("was not on hold"));
    assert!(home.points().iter().all(|point| point["hold"].is_null()));
    let answer = home.json(["forget", "--keep-last", "1"]);
    assert_eq!(ids(&answer["forgotten"]), [&bare, &labelled, &held]);
    assert_eq!(home.restored("latest", "disk0"), disk);
    home.fails(12, ["hold", &held]);
    home.check();
}

#[test]
fn a_damaged_point_is_left_alone_told_and_makes_no_other_one_go() {
    let (home, _) = home_with_a_disk();
    let points: Vec<_> = (0..4).map(|_| point(&home, "w", &[])).collect();
    let file = home.path("repo/points").join(&points[3]);
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let answer = home.json(["forget", "--keep-last", "2"]);
    assert_eq!(ids(&answer["forgotten"]), [&points[0]], "the damaged one counts for no rule");
    assert_eq!(answer["damaged"][0]["id"], points[3].as_str());
    assert!(answer["warnings"][0].as_str().unwrap().contains(&points[3]));
    assert_eq!(ids(&home.json(["forget", &points[1]])["forgotten"]), [&points[1]], "others go by their id");
    let refused = home.fails(18, ["forget", &points[3]]);
    assert!(refused["message"].as_str().unwrap().contains("release"), "{refused}");
    home.ok(["release", &points[3]]);
    home.ok(["forget", &points[3]]);
    assert_eq!(home.points().len(), 1);
    home.check();
}
