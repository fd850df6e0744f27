//! How fast the secrets of a build are looked for in its output: 100 secrets in all their forms.
//!
//!     cargo bench --bench redact

use std::time::Instant;

use whistlestop::base::secret::Redactor;

fn main() {
    let redactor = Redactor::new();
    for n in 0..100u64 {
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        redactor.learn(&format!("{mixed:016x}/Key+{:x}&q\"{n}", mixed.rotate_left(17)));
    }
    let line =
        "2026-05-04T10:11:12Z INFO  compiling module 1234 of 99999: /usr/src/app/lib/handlers/session.go (0.125s)\n";
    let text = line.repeat(64 * 1024 * 1024 / line.len());
    redactor.redact("warm");
    let began = Instant::now();
    let mut stream = redactor.stream();
    let mut told = 0;
    for chunk in text.as_bytes().chunks(64 * 1024) {
        told += stream.push(std::str::from_utf8(chunk).expect("ascii")).len();
    }
    told += stream.finish().len();
    let rate = text.len() as f64 / began.elapsed().as_secs_f64() / 1e6;
    println!("redacted {told} bytes at {rate:.0} MB/s with 100 secrets (aim: 200)");
}
