//! JSON written as YAML the way Go's yaml does: keys in its natural order, lines folded at 80 columns.
//!
//! The layout comes from libyaml, whose interface is that of C. What keeps that sound: the emitter never moves (it is
//! boxed), what it writes to outlives it, and each event is handed over to it whole.

use std::cmp::Ordering;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::slice;

use serde_json::Value;
use unsafe_libyaml_norway as unsafe_sys;

use super::scalar::{Scalar, untagged};
use crate::vars::{number, typed};

/// Writes a value as YAML with a line end after it.
pub fn to_yaml(value: &Value) -> String {
    let mut bytes = Vec::new();
    let mut beyond = Vec::new();
    let complete = Emitter::into(&mut bytes, &mut beyond).is_some_and(|mut emitter| emitter.document(value));
    debug_assert!(complete, "text that is valid UTF-8 can always be written");
    // libyaml marks the end after a text that keeps its line ends; Go's yaml does not.
    if bytes.ends_with(b"\n...\n") {
        bytes.truncate(bytes.len() - 4);
    }
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    for c in beyond {
        text = text.replacen(&STAND_IN.repeat(ESCAPED), &format!("\\U{:08X}", u32::from(c)), 1);
    }
    text
}

/// Stands for a character beyond the first 65536, which Go's yaml writes in quotes and escaped, and libyaml as it is; as
/// many of them as the escape is long, so that lines are folded where they are there.
const STAND_IN: &str = "\u{f5e1}";
const ESCAPED: usize = 10;

struct Emitter<'b> {
    raw: Box<MaybeUninit<unsafe_sys::yaml_emitter_t>>,
    /// The characters that stand-ins stand for, in the order in which they are written.
    beyond: &'b mut Vec<char>,
}

/// Appends to the vector behind `data`.
///
/// # Safety
/// `data` must point to a live vector of bytes, `buffer` to `size` bytes.
unsafe fn append(data: *mut c_void, buffer: *mut u8, size: u64) -> i32 {
    // SAFETY: as the caller promises.
    unsafe { (*data.cast::<Vec<u8>>()).extend_from_slice(slice::from_raw_parts(buffer, size as usize)) };
    1
}

impl<'b> Emitter<'b> {
    fn into(output: &'b mut Vec<u8>, beyond: &'b mut Vec<char>) -> Option<Emitter<'b>> {
        let mut raw = Box::new(MaybeUninit::uninit());
        // SAFETY: the pointer is to memory of the right size and alignment, which initialisation fills; the lifetime
        // keeps the output alive and untouched as long as the emitter.
        unsafe {
            if unsafe_sys::yaml_emitter_initialize(raw.as_mut_ptr()).fail {
                return None;
            }
            unsafe_sys::yaml_emitter_set_unicode(raw.as_mut_ptr(), true);
            unsafe_sys::yaml_emitter_set_output(raw.as_mut_ptr(), append, std::ptr::from_mut(output).cast());
        }
        Some(Emitter { raw, beyond })
    }

    /// Fills an event with `fill` and hands it over.
    fn emit(&mut self, fill: impl FnOnce(*mut unsafe_sys::yaml_event_t) -> bool) -> bool {
        let mut event = MaybeUninit::uninit();
        if !fill(event.as_mut_ptr()) {
            return false;
        }
        // SAFETY: the event was filled; the emitter takes it over, whatever becomes of it.
        unsafe { unsafe_sys::yaml_emitter_emit(self.raw.as_mut_ptr(), event.as_mut_ptr()) }.ok
    }

    fn document(&mut self, value: &Value) -> bool {
        // SAFETY: each call fills the event it is given; there are no directives.
        self.emit(|e| unsafe { unsafe_sys::yaml_stream_start_event_initialize(e, unsafe_sys::YAML_UTF8_ENCODING) }.ok)
            && self.emit(|e| {
                // SAFETY: as above.
                unsafe { unsafe_sys::yaml_document_start_event_initialize(e, null_mut(), null_mut(), null_mut(), true) }.ok
            })
            && self.value(value)
            // SAFETY: as above.
            && self.emit(|e| unsafe { unsafe_sys::yaml_document_end_event_initialize(e, true) }.ok)
            // SAFETY: as above.
            && self.emit(|e| unsafe { unsafe_sys::yaml_stream_end_event_initialize(e) }.ok)
    }

    fn value(&mut self, value: &Value) -> bool {
        match value {
            Value::Null => self.scalar("null", unsafe_sys::YAML_PLAIN_SCALAR_STYLE),
            Value::Bool(b) => self.scalar(if *b { "true" } else { "false" }, unsafe_sys::YAML_PLAIN_SCALAR_STYLE),
            Value::Number(n) => {
                let float = n.as_f64().filter(|_| n.is_f64());
                let text = float.map_or_else(|| n.to_string(), number::shortest);
                self.scalar(&text, unsafe_sys::YAML_PLAIN_SCALAR_STYLE)
            }
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                // SAFETY: the call fills the event; without anchor and tag.
                self.emit(|e| {
                    let style = unsafe_sys::YAML_BLOCK_SEQUENCE_STYLE;
                    unsafe { unsafe_sys::yaml_sequence_start_event_initialize(e, null(), null(), true, style) }.ok
                }) && items.iter().all(|item| self.value(item))
                    // SAFETY: as above.
                    && self.emit(|e| unsafe { unsafe_sys::yaml_sequence_end_event_initialize(e) }.ok)
            }
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by(|(a, _), (b, _)| by_kind(a, b));
                // SAFETY: the call fills the event; without anchor and tag.
                self.emit(|e| {
                    let style = unsafe_sys::YAML_BLOCK_MAPPING_STYLE;
                    unsafe { unsafe_sys::yaml_mapping_start_event_initialize(e, null(), null(), true, style) }.ok
                }) && entries.into_iter().all(|(key, value)| self.key(key) && self.value(value))
                    // SAFETY: as above.
                    && self.emit(|e| unsafe { unsafe_sys::yaml_mapping_end_event_initialize(e) }.ok)
            }
        }
    }

    /// A key: as a text, but one that would be read as a merge stands in quotes.
    fn key(&mut self, key: &str) -> bool {
        if let Some(written) = typed::written(key) {
            self.scalar(written, unsafe_sys::YAML_PLAIN_SCALAR_STYLE)
        } else if key == "<<" {
            self.scalar(key, unsafe_sys::YAML_DOUBLE_QUOTED_SCALAR_STYLE)
        } else {
            self.text(key)
        }
    }

    /// A text: literal where it has lines, in quotes where it would mean something else.
    fn text(&mut self, text: &str) -> bool {
        let style = if text.contains('\n') {
            unsafe_sys::YAML_LITERAL_SCALAR_STYLE
        } else if means_itself(text) {
            unsafe_sys::YAML_PLAIN_SCALAR_STYLE
        } else {
            unsafe_sys::YAML_DOUBLE_QUOTED_SCALAR_STYLE
        };
        if !text.chars().any(is_beyond) {
            return self.scalar(text, style);
        }
        self.beyond.extend(text.chars().filter(|&c| is_beyond(c)));
        let written: String = text.chars().fold(String::new(), |mut written, c| {
            match is_beyond(c) {
                true => written.push_str(&STAND_IN.repeat(ESCAPED)),
                false => written.push(c),
            }
            written
        });
        self.scalar(&written, unsafe_sys::YAML_DOUBLE_QUOTED_SCALAR_STYLE)
    }

    fn scalar(&mut self, text: &str, style: unsafe_sys::yaml_scalar_style_t) -> bool {
        let Ok(length) = i32::try_from(text.len()) else { return false };
        // SAFETY: the call copies the text, which is `length` bytes long, and fills the event.
        self.emit(|e| {
            unsafe {
                unsafe_sys::yaml_scalar_event_initialize(e, null(), null(), text.as_ptr(), length, true, true, style)
            }
            .ok
        })
    }
}

impl Drop for Emitter<'_> {
    fn drop(&mut self) {
        // SAFETY: the emitter was initialised and is freed only here.
        unsafe { unsafe_sys::yaml_emitter_delete(self.raw.as_mut_ptr()) };
    }
}

fn is_beyond(c: char) -> bool {
    c > '\u{ffff}'
}

/// Whether a plain word would be read back as this text.
fn means_itself(text: &str) -> bool {
    matches!(untagged(text), Scalar::Plain(Value::String(_))) && !clock(text) && !date(text)
}

/// Whether YAML 1.1 would read it as a number to base 60.
fn clock(text: &str) -> bool {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = body.split(':');
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let first = parts.next().is_some_and(|part| part.starts_with(|c: char| c.is_ascii_digit()) && digits(part));
    let rest: Vec<&str> = parts.collect();
    let Some((last, middle)) = rest.split_last() else { return false };
    let sixty = |part: &str| match part.as_bytes() {
        [b] => b.is_ascii_digit(),
        [b'0'..=b'5', b] => b.is_ascii_digit(),
        _ => false,
    };
    let (seconds, fraction) = last.split_once('.').unwrap_or((last, ""));
    first && middle.iter().all(|part| sixty(part)) && sixty(seconds) && digits(fraction)
}

/// Whether Go's yaml would read it as a time.
fn date(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || !bytes[..4].iter().all(u8::is_ascii_digit) || bytes[4] != b'-' {
        return false;
    }
    let (day, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let part = |s: &str, most: u32| (1..=2).contains(&s.len()) && s.parse::<u32>().is_ok_and(|n| n <= most);
    let fields: Vec<&str> = day.split('-').collect();
    let [_, month, of_month] = fields[..] else { return false };
    if !part(month, 12) || !part(of_month, 31) {
        return false;
    }
    let Some(time) = time else { return true };
    let zoned = text.as_bytes()[day.len()] != b' ';
    let time = match zoned {
        false => time,
        true => match time.strip_suffix(['Z', 'z']).or_else(|| time.rfind(['+', '-']).map(|at| &time[..at])) {
            Some(time) => time,
            None => return false,
        },
    };
    let fields: Vec<&str> = time.split(':').collect();
    let [hour, minute, second] = fields[..] else { return false };
    part(hour, 23) && part(minute, 59) && part(second.split('.').next().unwrap_or_default(), 59)
}

/// The order of keys in Go's yaml: numbers by value, false as 0 and true as 1, and then texts.
fn by_kind(a: &str, b: &str) -> Ordering {
    let value = |key: &str| {
        let written = typed::written(key)?;
        Some(match written {
            "false" => 0.0,
            "true" => 1.0,
            number => number.parse::<f64>().unwrap_or_default(),
        })
    };
    match (value(a), value(b)) {
        // What is true or false stands before a number of the same value.
        (Some(x), Some(y)) => x.total_cmp(&y).then_with(|| b.cmp(a)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => natural(a, b),
    }
}

/// The order of keys in Go's yaml: letters by code, runs of digits by value, other signs before letters.
pub(in crate::pipeline) fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let less = |yes: bool| if yes { Ordering::Less } else { Ordering::Greater };
    let mut digits = false;
    for i in 0..a.len().min(b.len()) {
        let (ca, cb) = (a[i], b[i]);
        if ca == cb {
            digits = ca.is_numeric();
            continue;
        }
        match (ca.is_alphabetic(), cb.is_alphabetic()) {
            (true, true) => return ca.cmp(&cb),
            (false, false) => {}
            (letter, _) => return less(if digits { letter } else { !letter }),
        }
        let leads = |c: char| c == '0';
        let before = a[..i].iter().rev().take_while(|c| c.is_ascii_digit());
        let carried = u128::from((leads(ca) || leads(cb)) && before.into_iter().any(|c| *c != '0'));
        let run = |text: &[char]| {
            let digits = text[i..].iter().map_while(|c| c.to_digit(10));
            digits.fold((carried, 0usize), |(n, count), d| {
                (n.saturating_mul(10).saturating_add(u128::from(d)), count + 1)
            })
        };
        let ((na, la), (nb, lb)) = (run(&a), run(&b));
        return na.cmp(&nb).then(la.cmp(&lb)).then(ca.cmp(&cb));
    }
    a.len().cmp(&b.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::pipeline::yaml::Document;

    #[test]
    fn writes_what_go_writes() {
        let long = "echo to stdout; echo to stderr >&2; cat code/note.txt; echo v-$A > out/version; touch cache/x";
        let value = json!({
            "a": ["1", "1.1", "yes", "12:30", "2001-01-01", "", "null", "<<", "~", "0x1F", "plain", "a: b", "#c", "- x"],
            "b": {}, "c": [], "d": null, "e": 1.5, "f": 1e21, "g": true, "h": 5.0,
            "lines": "a\nb\n", "stripped": "a\nb", "long": long, "json": "{\"a\":1}", "list": [[1], {"k": ["x"]}],
            "false": 2, "k10": 1, "k9": 1, "UP": 1, "a.b": 1,
        });
        let want = "UP: 1
a:
- \"1\"
- \"1.1\"
- \"yes\"
- \"12:30\"
- \"2001-01-01\"
- \"\"
- \"null\"
- <<
- \"~\"
- \"0x1F\"
- plain
- 'a: b'
- '#c'
- '- x'
a.b: 1
b: {}
c: []
d: null
e: 1.5
f: 1e+21
\"false\": 2
g: true
h: 5
json: '{\"a\":1}'
k9: 1
k10: 1
lines: |
  a
  b
list:
- - 1
- k:
  - x
long: echo to stdout; echo to stderr >&2; cat code/note.txt; echo v-$A > out/version;
  touch cache/x
stripped: |-
  a
  b
";
        assert_eq!(to_yaml(&value), want);
    }

    #[test]
    fn characters_beyond_the_first_65536_are_escaped() {
        let value = json!({"a": "go \u{1f680}\n", "\u{1f642}": "\u{2705}"});
        assert_eq!(to_yaml(&value), "\"\\U0001F642\": \u{2705}\na: \"go \\U0001F680\\n\"\n");
    }

    #[test]
    fn keys_that_are_no_text_stand_first_and_without_quotes() {
        let typed = |text: &str| Document::parse(text.as_bytes()).unwrap().to_template().unwrap();
        let written = to_yaml(&typed("{a: 1, \"1\": 2, 1: 3, true: 4, 10: 5, 9: 6, 1.50: 7, 1e6: 8, no: 9}"));
        assert_eq!(written, "false: 9\ntrue: 4\n1: 3\n1.5: 7\n9: 6\n10: 5\n1e+06: 8\n\"1\": 2\na: 1\n");
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~]{0,100}".prop_map(Value::from),
            "([a-zé ]{0,6}\n){0,4}[a-z\t#: -]{0,5}".prop_map(Value::from),
            "(yes|no|~|0x1|1e3|1_0|2001-1-1|1:2|null|<<|=|!x|&a|[*]a|@|%)".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z0-9.:# -]{0,5}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in tree()) {
            let text = to_yaml(&value);
            let read = Document::parse(text.as_bytes()).unwrap().to_json().unwrap();
            prop_assert_eq!(read, value, "{}", text);
        }
    }
}
