//! Of what is made of results; the measuring is not tested here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::record::Record;
use super::{SUITES, document, plot, table};
use crate::run;

fn record(line: &str) -> Record {
    Record::parse(line).unwrap()
}

fn point(x: f64, median: f64, unit: &str) -> Record {
    record(&format!(
        r#"{{"suite":"scaling","curve":"variables","x":{x:?},"what":"envoy-tls, {x} variables","unit":"{unit}",
        "median":{median},"lowest":{median},"highest":{median},"goal":null}}"#
    ))
}

#[test]
fn a_table_says_whether_goals_are_met() {
    let records = [
        record(
            r#"{"curve":null,"x":null,"what":"good","unit":"µs","median":1.25,"lowest":1,"highest":20,"goal":2}"#,
        ),
        record(
            r#"{"curve":null,"x":null,"what":"bad","unit":"×","median":1234.5,"lowest":9,"highest":2000,"goal":5}"#,
        ),
        record(
            r#"{"curve":null,"x":null,"what":"neither","unit":"MB","median":0.5,"lowest":0.5,"highest":0.5,"goal":null}"#,
        ),
    ];
    let expected = "\
| what    |   median | lowest – highest |   goal | met    |
|---------|---------:|-----------------:|-------:|--------|
| good    |  1.25 µs |      1.00 – 20.0 | ≤ 2 µs | yes    |
| bad     |   1234 × |      9.00 – 2000 |  ≤ 5 × | **no** |
| neither | 0.500 MB |    0.500 – 0.500 |        |        |
";
    assert_eq!(table::of(&records), expected);
}

#[test]
fn a_curve_has_a_row_for_each_place_and_a_column_for_each_thing() {
    let mut last = point(2000.0, 81.4, "µs");
    last.goal = Some(500.0);
    let records = [
        point(1.0, 8.26, "µs"),
        point(1.0, 30_793.0, "B"),
        last,
        point(2000.0, 291_913.0, "B"),
    ];
    let expected = "\
|    N | envoy-tls, N variables: µs | envoy-tls, N variables: B |
|-----:|---------------------------:|--------------------------:|
|    1 |                       8.26 |                     30793 |
| 2000 |                       81.4 |                    291913 |

| what                      |  median | lowest – highest |     goal | met |
|---------------------------|--------:|-----------------:|---------:|-----|
| envoy-tls, 2000 variables | 81.4 µs |      81.4 – 81.4 | ≤ 500 µs | yes |
";
    assert_eq!(
        table::of_curve(&records.iter().collect::<Vec<_>>()),
        expected
    );
}

#[test]
fn a_result_without_a_number_is_refused_by_name() {
    let error = Record::parse(r#"{"what":"it","unit":"µs","median":"1"}"#).unwrap_err();
    assert!(error.to_string().contains("`median`"), "{error}");
    let error =
        Record::parse(r#"{"what":"it","unit":"µs","median":1,"lowest":1,"highest":1,"curve":"c"}"#);
    assert!(error.unwrap_err().to_string().contains("`x`"));
}

#[test]
fn points_of_a_curve_are_one_series() {
    let names = [point(1.0, 3.0, "µs"), point(500.0, 40.0, "µs")].map(|it| it.series());
    assert_eq!(names, ["envoy-tls, N variables", "envoy-tls, N variables"]);
    let mut other = point(5.0, 1.0, "µs");
    other.what = "p50 of 5, of 50".to_owned();
    assert_eq!(other.series(), "p50 of N, of 50");
}

#[test]
fn a_plot_has_a_panel_for_each_unit_and_the_goal() {
    let mut last = point(2000.0, 150.0, "µs");
    last.goal = Some(500.0);
    let records = [
        point(1.0, 3.0, "µs"),
        last,
        point(1.0, 4000.0, "B"),
        point(2000.0, 48_000.0, "B"),
    ];
    let svg = plot::svg("variables", &records.iter().collect::<Vec<_>>()).unwrap();
    assert!(svg.starts_with("<svg "), "{svg}");
    let texts = |text| svg.lines().filter(|line| *line == text).count();
    assert_eq!(texts("envoy-tls, N variables"), 2, "{svg}");
    assert_eq!((texts("µs"), texts("B")), (1, 1), "{svg}");
    assert_eq!(texts("goal, at most"), 1, "{svg}");
    assert!(texts("40k") == 1, "{svg}");
    let line = |line: &&str| line.starts_with("<polyline") && line.contains("#1F77B4");
    assert_eq!(svg.lines().filter(line).count(), 2, "{svg}");
}

#[test]
fn only_what_is_between_the_markers_is_replaced() {
    let page = "a\n<!-- bench: one -->\nold\n<!-- end: one -->\nb\n<!-- bench: two -->\n<!-- end: two -->\n";
    let new = document::replaced(page, "one", "new\n").unwrap();
    assert_eq!(new, page.replace("old", "new"));
    assert_eq!(document::replaced(&new, "one", "new\n").unwrap(), new);
    let error = document::replaced(page, "three", "").unwrap_err();
    assert!(
        error.to_string().contains("<!-- bench: three -->"),
        "{error}"
    );
}

#[test]
fn every_suite_has_its_place_on_the_page_and_every_plot_is_there() {
    let folder = run::root().join("docs");
    let page = std::fs::read_to_string(folder.join("performance.md")).unwrap();
    for suite in SUITES {
        document::replaced(&page, suite.name, "").unwrap();
        assert!(
            page.contains(&format!("`{}`", suite.name)),
            "{}",
            suite.name
        );
    }
    for linked in page.split("](performance/").skip(1) {
        let plot = linked.split(')').next().unwrap();
        assert!(folder.join("performance").join(plot).is_file(), "{plot}");
    }
}

#[test]
fn a_suite_that_is_not_known_is_refused_by_name() {
    let names = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let chosen = super::chosen(&names.iter().collect::<Vec<_>>());
        chosen.map(|suites| suites.iter().map(|suite| suite.name).collect::<Vec<_>>())
    };
    assert_eq!(names(&[]).unwrap().len(), SUITES.len());
    assert_eq!(
        names(&["scaling", "process"]).unwrap(),
        ["process", "scaling"]
    );
    let error = names(&["proces"]).unwrap_err().to_string();
    assert!(
        error.contains("`proces`") && error.contains("cluster"),
        "{error}"
    );
}
