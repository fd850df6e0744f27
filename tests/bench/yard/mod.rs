//! What the benchmarks share: the server under measurement, bare HTTP, pairs of samples and how they are shown.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub mod http;
pub mod server;

use std::time::Duration;

/// Pairs of samples taken unless `--pairs N` says otherwise.
const PAIRS: usize = 60;

/// Whether `cargo bench` runs this, and not `cargo test`. Says so where not.
pub fn wanted() -> bool {
    let wanted = std::env::args().any(|a| a == "--bench");
    if !wanted {
        println!("not run: a measurement needs `cargo bench`");
    }
    wanted
}

/// The value of `--NAME`.
fn argument(name: &str) -> Option<String> {
    let mut args = std::env::args().skip_while(|a| a != name);
    args.next()?;
    args.next()
}

/// How many pairs to take.
pub fn pairs() -> usize {
    argument("--pairs").and_then(|n| n.parse().ok()).unwrap_or(PAIRS)
}

/// Whether a part of the benchmark was asked for: `--only NAME`, or all of them.
pub fn asked(part: &str) -> bool {
    argument("--only").is_none_or(|only| only == part)
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The value below which `share` of the values lie.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len() - 1;
    sorted[((last as f64 * share).ceil() as usize).min(last)]
}

/// Half lie below.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Prints the head of the table.
pub fn title() {
    println!("{:<58} {:>14} {:>14} {:>12} {:>9}  n", "figure", "goal", "measured", "floor", "ratio");
}

/// Prints one figure beside its goal and the floor of the same run.
pub fn line(figure: &str, goal: &str, (value, unit): (f64, &str), floor: Option<f64>, n: usize) {
    let digits = if value < 1.0 { 4 } else { 2 };
    let measured = format!("{value:.digits$} {unit}");
    let (floor, ratio) = match floor {
        Some(floor) => (format!("{floor:.2} {unit}"), format!("{:.3}", value / floor)),
        None => Default::default(),
    };
    println!("{figure:<58} {goal:>14} {measured:>14} {floor:>12} {ratio:>9}  {n}");
}

/// Pairs of a value and its floor, taken in turns.
#[derive(Default)]
pub struct Pairs {
    /// What was measured.
    pub values: Vec<f64>,
    /// What nothing can be below.
    pub floors: Vec<f64>,
}

impl Pairs {
    /// Adds one pair.
    pub fn add(&mut self, value: Duration, floor: Duration) {
        self.values.push(ms(value));
        self.floors.push(ms(floor));
    }

    /// Prints median against median, and the median of the pairs' own ratios, which a drift of the machine cannot bend.
    pub fn show(&self, figure: &str, goal: &str) {
        line(figure, goal, (median(&self.values), "ms"), Some(median(&self.floors)), self.values.len());
        let ratios: Vec<f64> = self.values.iter().zip(&self.floors).map(|(v, f)| v / f).collect();
        let (low, high) = (quantile(&ratios, 0.1), quantile(&ratios, 0.9));
        println!("  pair by pair: {:.3} (one in ten below {low:.3}, one in ten above {high:.3})", median(&ratios));
    }
}
