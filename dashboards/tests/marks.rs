//! What happened, drawn without a browser: flags with their words where there is room, sentences
//! under the pointer, text never markup.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serin_dashboards::draw::{Size, ThemeName, panel_png, panel_svg};
use serin_dashboards::{Data, Draw, Mark, NamedSeries, PanelData, PanelState};

const MINUTES: usize = 15;

fn at(minute: usize, second: usize) -> String {
    format!("2026-11-29T10:{minute:02}:{second:02}Z")
}

fn mark(minute: usize, kind: &str, label: Option<&str>, text: &str) -> Mark {
    Mark {
        time: at(minute, 0),
        text: text.to_owned(),
        kind: kind.to_owned(),
        label: label.map(str::to_owned),
    }
}

fn panel(marks: Vec<Mark>) -> PanelData {
    let lines = [("cart-v1-1", 0.3), ("cart-v1-2", 0.5)];
    let series = [0, 1].map(|look| (lines[look], look));
    let series = series.map(|((name, height), look)| NamedSeries {
        name: name.to_owned(),
        by: BTreeMap::from([(String::from("instance"), Some(name.to_owned()))]),
        dashed: false,
        look,
        points: (0..MINUTES * 4)
            .map(|step| {
                let wave = (step as f64 / 7.0).sin() * 0.1;
                (at(step / 4, step % 4 * 15), Some(height + wave))
            })
            .collect(),
    });
    PanelData {
        panel: String::from("cpu"),
        title: String::from("CPU by instance"),
        description: None,
        draw: Draw::Line,
        unit: Some(String::from("ratio")),
        better: None,
        state: PanelState::Ok,
        error: None,
        data: Some(Data::Series {
            step_s: 15.0,
            stacked: false,
            series: series.to_vec(),
        }),
        thresholds: Vec::new(),
        marks,
        series_dropped: 0,
        truncated: false,
        approximate: false,
        range: (at(0, 0), at(MINUTES, 0)),
        watermark: None,
        served_from: "raw",
    }
}

fn busy() -> PanelData {
    let hostile = "cart: </title><script>alert(1)</script> & more\nmail: v3 serves";
    panel(vec![
        mark(2, "deploy", Some("v1"), "cart: v1 serves: deployed by hand"),
        mark(6, "replace", Some("×7"), hostile),
        mark(7, "fail", None, "cart: v2 does not serve"),
        mark(
            9,
            "deploy",
            Some("v3"),
            "cart: v3 serves: its folder was saved",
        ),
        mark(
            11,
            "rollback",
            Some("v1"),
            "cart: v1 serves again: rolled back by hand",
        ),
        mark(13, "notify", None, "many_errors: errors was above 5 %"),
        mark(14, "resolve", None, "many_errors: errors was not above 5 %"),
    ])
}

#[test]
fn marks_have_words_where_there_is_room_and_sentences_under_the_pointer() {
    let wide = Size {
        width: 900,
        height: 260,
    };
    let svg = panel_svg(&busy(), wide, ThemeName::Light).expect("a picture");
    assert_eq!(svg.matches("<title>").count(), 7);
    assert!(svg.contains("rolled back by hand</title>"), "{svg}");
    assert!(svg.contains("cart: &lt;/title>&lt;script>alert(1)&lt;/script> &amp; more · mail"));
    assert!(!svg.contains("<script"));
    let words = |svg: &str| ["\nv1\n", "\nv3\n", "\n×7\n"].map(|word| svg.matches(word).count());
    assert_eq!(words(&svg), [2, 1, 1]);

    // Many within a few pixels have lines and sentences, and no words on top of each other.
    let crowd = (0..MINUTES).map(|minute| mark(minute, "deploy", Some("v1234"), "cart: serves"));
    let narrow = Size {
        width: 240,
        height: 160,
    };
    let svg = panel_svg(&panel(crowd.collect()), narrow, ThemeName::Light).expect("a picture");
    assert_eq!(svg.matches("<title>").count(), MINUTES);
    assert_eq!(svg.matches("v1234").count(), 0, "{svg}");

    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, width) in [("narrow", 360), ("wide", 900)] {
        for (theme_name, theme) in [("light", ThemeName::Light), ("dark", ThemeName::Dark)] {
            let size = Size { width, height: 240 };
            let png = panel_png(&busy(), size, theme).expect("a picture");
            fs::write(out.join(format!("marks-{name}-{theme_name}.png")), png).expect("written");
        }
    }
}
