//! Tables over zones and changes of the clocks, and properties of every range.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::base::clock::Time;
use crate::resource::Mirror;

fn at(text: &str) -> Time {
    Time(text.parse::<Timestamp>().unwrap().as_millisecond())
}

fn with_env<T>(now: Time, f: impl FnOnce(&mut Env<'_>) -> T) -> T {
    let (mut log, build) = (Vec::new(), BTreeMap::new());
    f(&mut Env {
        log: &mut log,
        cache: None,
        allow_local: false,
        cancelled: &|| false,
        build: &build,
        now,
        privileged: false,
        mirror: Mirror::Nothing,
        registries: Default::default(),
    })
}

fn request(source: &Value, version: Option<&str>) -> Request {
    let version = version.map(|v| Version::from([("time", v)]));
    Request { source: source.as_object().cloned().unwrap(), params: None, version }
}

fn check(source: &Value, previous: Option<&str>, now: &str) -> Vec<String> {
    let versions = with_env(at(now), |env| TimeType.check(&request(source, previous), env)).unwrap();
    versions.into_iter().map(|v| v.0["time"].clone()).collect()
}

#[test]
fn check_table() {
    let daily = json!({});
    let range = json!({"start": "8:00 PM", "stop": "9:00 PM"});
    let night = json!({"start": "23:00", "stop": "01:00", "interval": "30m"});
    let tokyo = json!({"interval": "1m", "location": "Asia/Tokyo"});
    let days = json!({"interval": "1m", "days": ["Monday", "wed"]});
    let after = json!({"interval": "1m", "start_after": "2024-01-01T09:00", "location": "America/New_York"});
    for (source, previous, now, new) in [
        (&daily, None, "2024-01-01T10:00:00Z", Some("2024-01-01T10:00:00Z")),
        (&daily, Some("2024-01-01T00:00:00Z"), "2024-01-01T10:00:00Z", None),
        (&daily, Some("2023-12-31T23:59:59Z"), "2024-01-01T00:00:00Z", Some("2024-01-01T00:00:00Z")),
        (&range, None, "2024-01-01T19:59:59Z", None),
        (&range, None, "2024-01-01T20:00:00.25Z", Some("2024-01-01T20:00:00.25Z")),
        (&range, Some("2024-01-01T20:00:00Z"), "2024-01-01T20:30:00Z", None),
        (&range, Some("2023-12-31T20:00:00Z"), "2024-01-01T20:30:00Z", Some("2024-01-01T20:30:00Z")),
        (&range, None, "2024-01-01T21:00:00Z", None),
        (&night, None, "2024-01-01T00:30:00Z", Some("2024-01-01T00:30:00Z")),
        (&night, Some("2024-01-01T00:10:00Z"), "2024-01-01T00:30:00Z", None),
        (&night, None, "2024-01-01T01:00:00Z", None),
        (&tokyo, None, "2024-01-01T00:00:00Z", Some("2024-01-01T09:00:00+09:00")),
        (&tokyo, Some("2024-01-01T08:59:30+09:00"), "2024-01-01T00:00:00Z", None),
        (&days, None, "2024-01-01T00:00:00Z", Some("2024-01-01T00:00:00Z")),
        (&days, None, "2024-01-02T00:00:00Z", None),
        (&days, None, "2024-01-03T00:00:00Z", Some("2024-01-03T00:00:00Z")),
        (&after, None, "2024-01-01T14:00:00Z", None),
        (&after, None, "2024-01-01T14:00:01Z", Some("2024-01-01T09:00:01-05:00")),
    ] {
        let expected: Vec<_> = previous.into_iter().chain(new).map(str::to_owned).collect();
        assert_eq!(check(source, previous, now), expected, "{source} {previous:?} {now}");
    }
}

#[test]
fn an_initial_version_comes_at_any_time_and_go_s_zero_is_none() {
    let source = json!({"start": "8PM", "stop": "9PM", "initial_version": true});
    assert_eq!(check(&source, None, "2024-01-01T10:00:00Z"), ["2024-01-01T10:00:00Z"]);
    assert_eq!(check(&source, Some(moment::ZERO), "2024-01-01T10:00:00Z"), ["2024-01-01T10:00:00Z"]);
    assert_eq!(check(&source, Some("2024-01-01T09:00:00Z"), "2024-01-01T10:00:00Z"), ["2024-01-01T09:00:00Z"]);
}

#[test]
fn ranges_across_a_change_of_the_clocks() {
    // New York 2024: 02:00 to 03:00 is skipped on March 10, 01:00 to 02:00 comes twice on November 3.
    for (start, stop, now, expected) in [
        ("2:30 AM", "4 AM", "2024-03-10T08:00:00Z", ("2024-03-10T06:30:00Z", "2024-03-10T08:00:00Z")),
        ("2:30 AM", "4 AM", "2024-03-11T07:00:00Z", ("2024-03-11T06:30:00Z", "2024-03-11T08:00:00Z")),
        ("1 AM", "2 AM", "2024-11-03T05:30:00Z", ("2024-11-03T05:00:00Z", "2024-11-03T07:00:00Z")),
        ("12 AM", "12 AM", "2024-03-10T12:00:00Z", ("2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z")),
        ("12 AM", "12 AM", "2024-11-03T12:00:00Z", ("2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z")),
    ] {
        let source = json!({"start": start, "stop": stop, "location": "America/New_York"});
        let source = Source::read(source.as_object().unwrap()).unwrap();
        let (begin, end) = Window::new(&source).range(now.parse().unwrap());
        assert_eq!((begin.to_string().as_str(), end.to_string().as_str()), expected, "{start} {stop} {now}");
    }
}

#[test]
fn get_writes_three_files() {
    let dir = tempfile::tempdir().unwrap();
    let source =
        json!({"interval": "90m", "days": ["Monday"], "start": "8PM", "stop": "9PM", "location": "Asia/Tokyo"});
    let version = "2024-01-01T09:00:00.12+09:00";
    let response = with_env(Time(0), |env| TimeType.get(&request(&source, Some(version)), dir.path(), env)).unwrap();
    assert_eq!(response.version, Version::from([("time", version)]));
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("timestamp"), "2024-01-01 09:00:00.12 +0900 +0900");
    assert_eq!(read("epoch"), "1704067200");
    assert_eq!(
        read("input"),
        "{\"source\":{\"initial_version\":false,\"interval\":\"1h30m0s\",\"start\":\"20:00\",\"stop\":\"21:00\",\
         \"days\":[\"Monday\"],\"location\":\"Asia/Tokyo\",\"start_after\":null},\
         \"version\":{\"time\":\"2024-01-01T09:00:00.12+09:00\"}}\n"
    );
    with_env(Time(0), |env| TimeType.get(&request(&json!({}), Some("2024-01-01T00:00:00Z")), dir.path(), env)).unwrap();
    assert_eq!(read("timestamp"), "2024-01-01 00:00:00 +0000 UTC");
}

#[test]
fn put_gives_the_present_moment() {
    let source = json!({"location": "Asia/Kolkata"});
    let put = |env: &mut Env<'_>| TimeType.put(&request(&source, None), Path::new("/nowhere"), env);
    let response = with_env(at("2024-01-01T00:00:00.5Z"), put).unwrap();
    assert_eq!(response.version, Version::from([("time", "2024-01-01T05:30:00.5+05:30")]));
}

#[test]
fn mistakes_are_named() {
    for (source, version, text) in [
        (json!({"start": "8PM"}), None, "running command: must configure 'stop' if 'start' is set"),
        (json!({"stop": "8PM"}), None, "running command: must configure 'start' if 'stop' is set"),
        (json!({"interval": "x"}), None, "parse error: time: invalid duration \"x\""),
        (json!({}), Some("yesterday"), "parse error: parsing time \"yesterday\""),
    ] {
        let err = with_env(Time(0), |env| TimeType.check(&request(&source, version), env)).unwrap_err();
        assert!(err.to_string().starts_with(text), "{err}");
    }
}

proptest! {
    #[test]
    fn a_moment_is_read_as_it_was_written(millis in 0i64..4_000_000_000_000, minutes in -840i32..=840) {
        let instant = Timestamp::from_millisecond(millis).unwrap();
        let moment = Moment { instant, offset: jiff::tz::Offset::from_seconds(minutes * 60).unwrap() };
        prop_assert_eq!(Moment::parse(&moment.rfc3339()), Some(moment));
    }

    #[test]
    fn a_range_begins_before_it_ends_and_is_the_last_one(
        seconds in 1_500_000_000i64..1_900_000_000, start in 0i64..1440, stop in 0i64..1440, zone in 0usize..5,
    ) {
        let zone = ["UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"][zone];
        let source = json!({"start": format!("{:02}{:02}", start / 60, start % 60),
            "stop": format!("{:02}{:02}", stop / 60, stop % 60), "location": zone});
        let source = Source::read(source.as_object().unwrap()).unwrap();
        let now = Timestamp::from_second(seconds).unwrap();
        let (begin, end) = Window::new(&source).range(now);
        prop_assert!(begin < end);
        let length = end.duration_since(begin).as_secs();
        prop_assert!(length <= 25 * 3600, "{length}");
        prop_assert!(now.duration_since(begin).as_secs().abs() <= 25 * 3600);
    }

    #[test]
    fn a_new_version_is_never_sooner_than_the_interval(seconds in 1_500_000_000i64..1_900_000_000, gap in 0i64..7200) {
        let source = Source::read(json!({"interval": "1h"}).as_object().unwrap()).unwrap();
        let previous = Timestamp::from_second(seconds).unwrap();
        let now = Timestamp::from_second(seconds + gap).unwrap();
        prop_assert_eq!(Window::new(&source).due(Some(previous), now), gap >= 3600);
    }
}
