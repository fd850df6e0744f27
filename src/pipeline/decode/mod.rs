//! JSON taken into the types of this module as Go's `encoding/json` takes it into Concourse's.
//!
//! Keys match in any case, null leaves a field alone, the first wrong type is remembered while decoding goes on, and a
//! type that decodes itself ends it at once. The words of an error are Go's, since clients of Concourse look for them;
//! the path beside it is ours.

mod config;
mod step;
mod task;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::quote::quoted;
use super::yaml::value::Segment;
use super::{CheckEvery, Object};
use crate::vars::number;

#[cfg(test)]
pub(super) use config::{JOB, RESOURCE, RESOURCE_TYPE, TOP};
pub use config::{Reading, config};
#[cfg(test)]
pub(super) use step::known;
pub use step::step;
pub use task::{TASK, task};

/// Why a value could not be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    cause: Cause,
    /// Where.
    pub at: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    /// A value of the wrong type for a field.
    Type { value: String, into: &'static str, owner: &'static str, field: String },
    /// A key nobody knows, with those that are known.
    Unknown { key: String, known: Vec<&'static str> },
    /// Anything else, in its own words.
    Other(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.cause {
            Cause::Type { value, into, owner, field } if !owner.is_empty() || !field.is_empty() => {
                write!(f, "json: cannot unmarshal {value} into Go struct field {owner}.{field} of type {into}")
            }
            Cause::Type { value, into, .. } => write!(f, "json: cannot unmarshal {value} into Go value of type {into}"),
            Cause::Unknown { key, .. } => write!(f, "json: unknown field {}", quoted(key)),
            Cause::Other(message) => f.write_str(message),
        }
    }
}

impl Fault {
    /// The keys that could have stood in place of an unknown one.
    pub fn known(&self) -> &[&'static str] {
        match &self.cause {
            Cause::Unknown { known, .. } => known,
            _ => &[],
        }
    }

    /// The same place with other words around the message.
    fn wrapped(self, words: impl FnOnce(&Fault) -> String) -> Fault {
        Fault { cause: Cause::Other(words(&self)), at: self.at }
    }
}

/// What decoding gives: an error ends it at once.
type Taken<T = ()> = Result<T, Fault>;

/// One step of the path to where a run stands; it borrows, since most paths are never told.
#[derive(Clone, Copy)]
enum Crumb<'v> {
    Key(&'v str),
    Index(usize),
}

/// An object without the keys that were taken from it before.
#[derive(Clone)]
struct View<'v> {
    map: &'v Map<String, Value>,
    taken: Vec<&'static str>,
}

impl<'v> View<'v> {
    fn of(map: &'v Map<String, Value>) -> Self {
        View { map, taken: Vec::new() }
    }

    fn has(&self, key: &str) -> bool {
        // A step has few keys and is asked for many, so comparing is cheaper than hashing.
        let there = if self.map.len() <= 8 { self.map.keys().any(|k| k == key) } else { self.map.contains_key(key) };
        there && !self.taken.contains(&key)
    }

    /// What it holds, in sorted order of the keys.
    fn entries(&self) -> Vec<(&'v String, &'v Value)> {
        let mut entries: Vec<_> = self.map.iter().filter(|(key, _)| !self.taken.contains(&key.as_str())).collect();
        if !entries.is_sorted_by_key(|(key, _)| key.as_str()) {
            entries.sort_by_key(|(key, _)| key.as_str());
        }
        entries
    }

    /// What is left once these keys are taken too.
    fn rest(&self, known: &[&str]) -> BTreeMap<String, Value> {
        let left = self.map.iter().filter(|(k, _)| !self.taken.contains(&k.as_str()) && !known.contains(&k.as_str()));
        left.map(|(key, value)| {
            let mut value = value.clone();
            number::settle(&mut value);
            (key.clone(), value)
        })
        .collect()
    }
}

/// One run over a value; a type that decodes itself gets a run of its own.
struct Decoder<'v> {
    /// Whether unknown keys are errors.
    strict: bool,
    /// Whether numbers and booleans become text where text is wanted.
    coerce: bool,
    owner: &'static str,
    field: Vec<&'static str>,
    path: Vec<Crumb<'v>>,
    saved: Option<Fault>,
    /// How many steps lie around this place.
    steps: usize,
}

impl<'v> Decoder<'v> {
    fn new(strict: bool, coerce: bool) -> Self {
        Decoder { strict, coerce, owner: "", field: Vec::new(), path: Vec::new(), saved: None, steps: 0 }
    }

    /// The end of a run: what was remembered becomes the error.
    fn finish<T>(&mut self, result: Taken<T>) -> Taken<T> {
        let taken = result?;
        match self.saved.take() {
            Some(fault) => Err(fault),
            None => Ok(taken),
        }
    }

    fn other<T>(&self, message: impl Into<String>) -> Taken<T> {
        Err(Fault { cause: Cause::Other(message.into()), at: self.at() })
    }

    fn save(&mut self, cause: Cause) {
        if self.saved.is_none() {
            self.saved = Some(Fault { cause, at: self.at() });
        }
    }

    /// Where the run stands.
    fn at(&self) -> Vec<Segment> {
        let segment = |crumb: &Crumb| match crumb {
            Crumb::Key(key) => Segment::Key((*key).to_owned()),
            Crumb::Index(index) => Segment::Index(*index),
        };
        self.path.iter().map(segment).collect()
    }

    /// Decodes in a run of its own that stands at the same place.
    fn alone<T>(&mut self, strict: bool, decode: impl FnOnce(&mut Decoder<'v>) -> Taken<T>) -> Taken<T> {
        let depth = self.path.len();
        let path = std::mem::take(&mut self.path);
        let mut inner = Decoder { path, steps: self.steps, ..Decoder::new(strict, false) };
        let result = decode(&mut inner);
        let result = inner.finish(result);
        self.path = inner.path;
        self.path.truncate(depth);
        result
    }

    fn mismatch(&mut self, value: &Value, into: &'static str) {
        let cause = Cause::Type { value: kind(value).into(), into, owner: self.owner, field: self.field.join(".") };
        self.save(cause);
    }

    /// Lets a type decode itself in a run of its own; a wrong type within learns where this run stands.
    fn custom<T>(&mut self, strict: bool, decode: impl FnOnce(&mut Decoder<'v>) -> Taken<T>) -> Taken<T> {
        self.alone(strict, decode).map_err(|mut fault| {
            if let Cause::Type { owner, field, .. } = &mut fault.cause
                && !self.owner.is_empty()
            {
                *owner = self.owner;
                let outer = self.field.join(".");
                *field = if field.is_empty() { outer } else { format!("{outer}.{field}") };
            }
            fault
        })
    }

    /// Visits each known field of an object, in sorted order of the keys.
    fn structure(
        &mut self,
        value: &'v Value,
        names: (&'static str, &'static str),
        known: &[&'static str],
        visit: &mut dyn FnMut(&mut Self, &'static str, &'v Value) -> Taken,
    ) -> Taken {
        match value {
            Value::Null => Ok(()),
            Value::Object(map) => self.fields(&View::of(map), names.0, known, visit),
            other => {
                self.mismatch(other, names.1);
                Ok(())
            }
        }
    }

    /// The same for an object some of whose keys were taken before.
    fn fields(
        &mut self,
        view: &View<'v>,
        owner: &'static str,
        known: &[&'static str],
        visit: &mut dyn FnMut(&mut Self, &'static str, &'v Value) -> Taken,
    ) -> Taken {
        self.entries(view.entries(), owner, known, visit)
    }

    fn entries(
        &mut self,
        entries: Vec<(&'v String, &'v Value)>,
        owner: &'static str,
        known: &[&'static str],
        visit: &mut dyn FnMut(&mut Self, &'static str, &'v Value) -> Taken,
    ) -> Taken {
        let before = self.owner;
        for (key, value) in entries {
            self.path.push(Crumb::Key(key));
            match field(key, known) {
                Some(field) => {
                    self.owner = owner;
                    self.field.push(field);
                    visit(self, field, value)?;
                    self.field.pop();
                    self.owner = before;
                }
                None if self.strict => self.save(Cause::Unknown { key: key.clone(), known: known.to_vec() }),
                None => {}
            }
            self.path.pop();
        }
        Ok(())
    }

    fn string(&mut self, value: &Value, to: &mut String) -> Taken {
        match value {
            Value::Null => {}
            Value::String(s) => to.clone_from(s),
            Value::Bool(b) if self.coerce => *to = b.to_string(),
            Value::Number(n) if self.coerce => {
                *to = n.as_f64().filter(|_| n.is_f64()).map_or_else(|| n.to_string(), number::shortest_single);
            }
            other => self.mismatch(other, "string"),
        }
        Ok(())
    }

    fn boolean(&mut self, value: &Value, to: &mut bool) -> Taken {
        match value {
            Value::Null => {}
            Value::Bool(b) => *to = *b,
            other => self.mismatch(other, "bool"),
        }
        Ok(())
    }

    fn integer(&mut self, value: &Value, to: &mut i64) -> Taken {
        match value {
            Value::Null => {}
            Value::Number(n) => match n.as_i64().or_else(|| number::text(n).parse().ok()) {
                Some(n) => *to = n,
                None => {
                    let value = format!("number {}", number::text(n));
                    let field = self.field.join(".");
                    self.save(Cause::Type { value, into: "int", owner: self.owner, field });
                }
            },
            other => self.mismatch(other, "int"),
        }
        Ok(())
    }

    /// A list; null is none.
    fn list<T>(
        &mut self,
        value: &'v Value,
        into: &'static str,
        mut item: impl FnMut(&mut Self, &'v Value) -> Taken<T>,
    ) -> Taken<Option<Vec<T>>> {
        match value {
            Value::Null => Ok(None),
            Value::Array(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, value) in items.iter().enumerate() {
                    self.path.push(Crumb::Index(index));
                    list.push(item(self, value)?);
                    self.path.pop();
                }
                Ok(Some(list))
            }
            other => {
                self.mismatch(other, into);
                Ok(None)
            }
        }
    }

    fn strings(&mut self, value: &'v Value, to: &mut Vec<String>) -> Taken {
        let list = self.list(value, "[]string", |d, item| {
            let mut text = String::new();
            d.string(item, &mut text).map(|()| text)
        })?;
        *to = list.unwrap_or_default();
        Ok(())
    }

    /// Tags: empty ones are forgotten.
    fn tags(&mut self, value: &'v Value, to: &mut Vec<String>) -> Taken {
        *to = self.custom(false, |d| {
            let mut tags = Vec::new();
            d.strings(value, &mut tags).map(|()| tags)
        })?;
        to.retain(|tag| !tag.is_empty());
        Ok(())
    }

    fn object(&mut self, value: &Value, into: &'static str, to: &mut Option<Object>) -> Taken {
        match value {
            Value::Null => *to = None,
            // A key written twice in different cases adds to what is there.
            Value::Object(map) => match to {
                Some(before) => before.extend(map.iter().map(|(k, v)| (k.clone(), v.clone()))),
                None => *to = Some(map.clone()),
            },
            other => self.mismatch(other, into),
        }
        Ok(())
    }

    fn text_map(&mut self, value: &'v Value, into: &'static str) -> Taken<BTreeMap<String, String>> {
        let mut texts = BTreeMap::new();
        match value {
            Value::Null => {}
            Value::Object(map) => {
                for (key, value) in map {
                    let mut text = String::new();
                    self.path.push(Crumb::Key(key));
                    self.string(value, &mut text)?;
                    self.path.pop();
                    texts.insert(key.clone(), text);
                }
            }
            other => self.mismatch(other, into),
        }
        Ok(texts)
    }

    /// Environment variables: anything becomes text.
    fn environment(&mut self, value: &'v Value) -> Taken<BTreeMap<String, String>> {
        self.custom(false, |d| match value {
            Value::Null => Ok(BTreeMap::new()),
            Value::Object(map) => Ok(map.iter().map(|(k, v)| (k.clone(), coerced(v))).collect()),
            other => {
                d.mismatch(other, "map[string]atc.CoercedString");
                Ok(BTreeMap::new())
            }
        })
    }

    fn check_every(&mut self, value: &Value) -> Taken<Option<CheckEvery>> {
        match value {
            Value::Null => Ok(None),
            Value::String(text) => match CheckEvery::parse(text) {
                Ok(every) => Ok(Some(every)),
                Err(error) => self.other(error.to_string()),
            },
            _ => self.other("non-string value provided"),
        }
    }
}

/// The field a key means, in any case of its letters.
fn field(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let exact = known.iter().find(|field| **field == key);
    exact.or_else(|| known.iter().find(|field| folds(key, field))).copied()
}

/// Whether Go takes a key for a field: in any case, and with the two letters beyond ASCII whose capitals are ASCII's.
fn folds(key: &str, field: &str) -> bool {
    let folded = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    field.eq_ignore_ascii_case(key) || !key.is_ascii() && key.chars().map(folded).eq(field.chars())
}

/// The name Go's JSON gives to what stands there.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The text of an environment variable: numbers as written, lists and maps as JSON.
pub(crate) fn coerced(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        Value::Number(n) => number::text(n),
        other => other
            .to_string()
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026")
            .replace('\u{2028}', "\\u2028")
            .replace('\u{2029}', "\\u2029"),
    }
}

/// A value in Go's `%v` notation.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(s) => s.clone(),
        Value::Number(n) => number::shortest(n.as_f64().unwrap_or_default()),
        Value::Bool(b) => b.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<_> = map.iter().map(|(k, v)| format!("{k}:{}", shown(v))).collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}
