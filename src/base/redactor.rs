//! Removes the secrets of one build from everything that leaves it, in whatever form they are written and wherever the
//! output is cut into pieces.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use super::disguise::{Form, forms};
use super::secret::REDACTED;

/// A start of an encoding this short at the end of a line is told before the next line is known.
const TOLD_BEFORE_BREAK: usize = 6;

/// Replaces the secrets one build has learnt in everything that leaves it. Clones share what they know.
///
/// Each line of a secret is matched on its own, trimmed, and only where longer than one character
/// (Concourse: `atc/engine/log_event_writer.go`); encodings of it as well, across line breaks too.
#[derive(Clone)]
pub struct Redactor(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    values: BTreeSet<String>,
    forms: BTreeSet<Form>,
    /// Made when it is needed, dropped when more is learnt.
    matcher: OnceLock<Option<Arc<Matcher>>>,
}

/// The redactors of everything that is going on, for what belongs to no build in particular.
static ALL: RwLock<Vec<Weak<RwLock<Known>>>> = RwLock::new(Vec::new());

/// `text` without any secret that some build or check of this process knows now: for the server's own log and for the
/// words of a panic.
pub fn redact_everything(text: &str) -> String {
    let all = ALL.read().unwrap_or_else(PoisonError::into_inner);
    let mut text = text.to_owned();
    for redactor in all.iter().filter_map(Weak::upgrade) {
        text = Redactor(redactor).redact(&text);
    }
    text
}

impl Default for Redactor {
    fn default() -> Self {
        Redactor(Arc::new(RwLock::new(Known::default())))
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// Knows no secret yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns every line of `value`, and its encodings.
    pub fn learn(&self, value: &str) {
        if self.0.read().unwrap_or_else(PoisonError::into_inner).values.contains(value) {
            return;
        }
        let new = forms(value);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.values.is_empty() {
            let mut all = ALL.write().unwrap_or_else(PoisonError::into_inner);
            all.retain(|r| r.strong_count() > 0);
            all.push(Arc::downgrade(&self.0));
        }
        known.values.insert(value.to_owned());
        known.forms.extend(new);
        known.matcher = OnceLock::new();
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).forms.is_empty()
    }

    /// `text` without any secret.
    pub fn redact(&self, text: &str) -> String {
        match self.matcher() {
            Some(matcher) => {
                let found = matcher.find(text.as_bytes()).0;
                rendered(text, &found, 0, text.len())
            }
            None => text.to_owned(),
        }
    }

    /// Replaces secrets in every text within `value`, names of members included.
    pub fn redact_json(&self, value: &mut serde_json::Value) {
        use serde_json::Value;
        match value {
            Value::String(text) => *text = self.redact(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact_json(item)),
            Value::Object(map) => {
                for (key, mut value) in std::mem::take(map) {
                    self.redact_json(&mut value);
                    map.insert(self.redact(&key), value);
                }
            }
            _ => {}
        }
    }

    /// For output that comes in pieces.
    pub fn stream(&self) -> Redacting {
        Redacting { redactor: self.clone(), held: String::new(), told: 0 }
    }

    fn matcher(&self) -> Option<Arc<Matcher>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.matcher.get_or_init(|| Matcher::new(&known.forms).map(Arc::new)).clone()
    }
}

/// Redacts output that comes in pieces: what may be the beginning of a secret is held until the rest is known.
#[derive(Debug)]
pub struct Redacting {
    redactor: Redactor,
    held: String,
    /// That much of `held` has been told already, or stands for what has.
    told: usize,
}

impl Redacting {
    /// Adds `text` and gives what is certain.
    pub fn push(&mut self, text: &str) -> String {
        let Some(matcher) = self.redactor.matcher() else {
            if self.held.is_empty() {
                return text.to_owned();
            }
            return self.finish() + text;
        };
        self.held.push_str(text);
        let (found, state) = matcher.find(self.held.as_bytes());
        let (keep, until) = matcher.undecided(self.held.as_bytes(), state);
        let mut until = until.max(self.told);
        for &(start, end) in &found {
            if start < until && until < end {
                until = end;
            }
        }
        let out = rendered(&self.held, &found, self.told, until);
        self.told = until - keep;
        self.held.drain(..keep);
        out
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.held.len() - self.told
    }

    /// Gives what is held back: the output has ended.
    pub fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        let told = std::mem::take(&mut self.told);
        match self.redactor.matcher() {
            Some(matcher) => rendered(&held, &matcher.find(held.as_bytes()).0, told, held.len()),
            None => held[told..].to_owned(),
        }
    }
}

/// The part `from..to` of `text` with the places in `found` replaced.
fn rendered(text: &str, found: &[(usize, usize)], from: usize, to: usize) -> String {
    let mut out = String::with_capacity(to - from);
    let mut at = from;
    for &(start, end) in found {
        if end <= at || start >= to {
            continue;
        }
        out.push_str(&String::from_utf8_lossy(&text.as_bytes()[at..start.max(at)]));
        out.push_str(REDACTED);
        at = end;
    }
    if at < to {
        out.push_str(&String::from_utf8_lossy(&text.as_bytes()[at..to]));
    }
    out
}

fn is_break(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

/// All forms of all secrets, ready to be looked for in one go.
struct Matcher {
    automaton: NFA,
    start: StateID,
    /// Sorted; also the patterns of the automaton, in this order.
    forms: Vec<Form>,
    /// Bit for each pair of bytes with which a form may begin.
    pairs: Box<[u64; 1024]>,
}

impl Matcher {
    fn new(forms: &BTreeSet<Form>) -> Option<Matcher> {
        if forms.is_empty() {
            return None;
        }
        let forms: Vec<Form> = forms.iter().cloned().collect();
        let automaton = NFA::builder()
            .match_kind(MatchKind::Standard)
            .dense_depth(3)
            .build(forms.iter().map(|f| &f.text))
            .inspect_err(|error| tracing::error!(%error, "secrets cannot be looked for"))
            .ok()?;
        let start = automaton.start_state(Anchored::No).ok()?;
        let mut pairs = Box::new([0u64; 1024]);
        let mut set = |first: u8, second: u8| {
            let at = usize::from(first) << 8 | usize::from(second);
            pairs[at >> 6] |= 1 << (at & 63);
        };
        for form in &forms {
            set(form.text[0], form.text[1]);
            // A line break may stand within: what is passed over must never be a beginning.
            set(form.text[0], b'\n');
            set(form.text[0], b'\r');
        }
        Some(Matcher { automaton, start, forms, pairs })
    }

    /// Whether a form may begin at `at`.
    fn may_begin(&self, text: &[u8], at: usize) -> bool {
        let Some(second) = text.get(at + 1) else { return true };
        let pair = usize::from(text[at]) << 8 | usize::from(*second);
        self.pairs[pair >> 6] & 1 << (pair & 63) != 0
    }

    /// Every place that belongs to a secret, in order, none touching another, and the state at the end. Line breaks
    /// are passed over, since encoders put them anywhere.
    fn find(&self, text: &[u8]) -> (Vec<(usize, usize)>, StateID) {
        let mut found: Vec<(usize, usize)> = Vec::new();
        let (mut state, mut at) = (self.start, 0);
        while at < text.len() {
            if state == self.start {
                while at < text.len() && !self.may_begin(text, at) {
                    at += 1;
                }
                if at == text.len() {
                    break;
                }
            }
            let byte = text[at];
            at += 1;
            if is_break(byte) {
                continue;
            }
            state = self.automaton.next_state(Anchored::No, state, byte);
            if self.automaton.is_special(state) && self.automaton.is_match(state) {
                self.note(text, state, at, &mut found);
            }
        }
        (found, state)
    }

    /// Adds the longest of the forms that end before `end`.
    fn note(&self, text: &[u8], state: StateID, end: usize, found: &mut Vec<(usize, usize)>) {
        let mut first = None;
        for n in 0..self.automaton.match_len(state) {
            let form = &self.forms[self.automaton.match_pattern(state, n).as_usize()];
            let (start, broken) = back(text, end, form.text.len());
            if form.wraps || !broken {
                first = Some(first.map_or(start, |f: usize| f.min(start)));
            }
        }
        let Some(mut start) = first else { return };
        while let Some(&(earlier, until)) = found.last() {
            if until <= start {
                break;
            }
            start = start.min(earlier);
            found.pop();
        }
        found.push((start, end));
    }

    /// From where on the end of `text` may be the beginning of a form, and up to where it can be told all the same.
    fn undecided(&self, text: &[u8], mut state: StateID) -> (usize, usize) {
        let mut base = 0;
        loop {
            let depth = self.depth(&text[base..], state);
            if depth == 0 {
                return (text.len(), text.len());
            }
            let (start, _) = back(text, text.len(), depth);
            let rest: Vec<u8> = text[start..].iter().copied().filter(|b| !is_break(*b)).collect();
            let last_break = text[start..].iter().rposition(|b| is_break(*b));
            let from = self.forms.partition_point(|f| f.text.as_slice() < rest.as_slice());
            let longer = self.forms[from..].iter().take_while(|f| f.text.starts_with(&rest));
            if longer.into_iter().any(|f| f.text.len() > rest.len() && (f.wraps || last_break.is_none())) {
                let told = last_break
                    .map(|at| at + 1)
                    .filter(|at| text[start..start + at].iter().filter(|b| !is_break(**b)).count() < TOLD_BEFORE_BREAK);
                return (start, start + told.unwrap_or(0));
            }
            base = start + 1;
            state = self.after(&text[base..]);
        }
    }

    fn after(&self, text: &[u8]) -> StateID {
        let step = |state, byte: &u8| self.automaton.next_state(Anchored::No, state, *byte);
        text.iter().filter(|b| !is_break(**b)).fold(self.start, step)
    }

    /// How many bytes at the end of `text` (line breaks aside) are the beginning of a form: a state stands for one such
    /// beginning, and exactly those bytes lead to it from the start.
    fn depth(&self, text: &[u8], state: StateID) -> usize {
        if state == self.start {
            return 0;
        }
        let leads = |n: usize| self.after(&text[back(text, text.len(), n).0..]) == state;
        let mut enough = 1;
        while !leads(enough) && enough < text.len() {
            enough *= 2;
        }
        let (mut low, mut high) = (enough / 2, enough);
        while low + 1 < high {
            let middle = low.midpoint(high);
            if leads(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }
}

/// Where the `n` bytes before `end` that are no line breaks begin, and whether a line break is among them.
fn back(text: &[u8], end: usize, n: usize) -> (usize, bool) {
    let (mut at, mut left, mut broken) = (end, n, false);
    let mut pending = false;
    while left > 0 && at > 0 {
        at -= 1;
        if is_break(text[at]) {
            pending = true;
        } else {
            left -= 1;
            broken |= pending && left < n - 1;
            pending = false;
        }
    }
    (at, broken)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn knowing(secrets: &[&str]) -> Redactor {
        let redactor = Redactor::new();
        secrets.iter().for_each(|s| redactor.learn(s));
        redactor
    }

    #[test]
    fn each_line_of_a_secret_is_hidden_and_single_characters_are_not() {
        let r = knowing(&["first\n  second \nx"]);
        assert_eq!(r.redact("a first b second c x"), "a ((redacted)) b ((redacted)) c x");
        assert_eq!(knowing(&["x", "7", ""]).redact("x = 7"), "x = 7");
    }

    #[test]
    fn overlapping_secrets_leave_nothing_of_themselves() {
        let r = knowing(&["pass", "password", "wording"]);
        assert_eq!(r.redact("password pass passwording"), "((redacted)) ((redacted)) ((redacted))");
        assert_eq!(knowing(&["aa"]).redact("aaaaab"), "((redacted))b");
    }

    #[test]
    fn encodings_are_found_across_line_breaks_but_plain_text_is_not_joined() {
        let secret = "a-rather-long-secret-that-does-not-fit-on-one-line-of-base64-output-0123456789";
        let r = knowing(&[secret, "ab"]);
        let encoded = STANDARD.encode(format!("user:{secret}\n"));
        for width in [20, 60, 64, 76] {
            for end in ["\n", "\r\n"] {
                let lines: Vec<&str> =
                    encoded.as_bytes().chunks(width).map(|c| std::str::from_utf8(c).unwrap()).collect();
                let hidden = r.redact(&lines.join(end));
                assert!(!hidden.contains(&encoded[20..30]) && !hidden.contains(&encoded[90..100]), "{width} {hidden}");
            }
        }
        assert_eq!(r.redact("a\nb ab"), "a\nb ((redacted))");
    }

    #[test]
    fn output_is_told_as_soon_as_it_is_certain() {
        let mut stream = knowing(&["hunter2", "token"]).stream();
        assert_eq!(stream.push("hello\n"), "hello\n");
        assert_eq!(stream.push("the t"), "the ");
        assert_eq!(stream.held(), 1);
        assert_eq!(stream.push("okay hunt"), "tokay ");
        assert_eq!(stream.push("er2"), "((redacted))");
        assert_eq!(stream.push("\nprogress: h\n"), "\nprogress: h\n");
        assert_eq!(stream.push("tok"), "");
        assert_eq!(stream.finish(), "tok");
    }

    #[test]
    fn what_is_learnt_later_is_hidden_from_then_on() {
        let redactor = Redactor::new();
        let mut stream = redactor.stream();
        assert_eq!(stream.push("secret "), "secret ");
        redactor.learn("secret");
        assert_eq!(stream.push("secret sec"), "((redacted)) ");
        assert_eq!(stream.push("ret"), "((redacted))");
    }

    #[test]
    fn the_process_knows_what_any_build_knows() {
        let build = knowing(&["known-to-one-build"]);
        assert_eq!(redact_everything("x known-to-one-build"), "x ((redacted))");
        drop(build);
    }

    proptest! {
        #[test]
        fn any_cut_hides_the_same(
            secrets in proptest::collection::vec("[ab]{2,6}", 1..4),
            text in "[abc\n]{0,80}",
            cuts in proptest::collection::vec(0usize..20, 0..12),
        ) {
            let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
            let redactor = knowing(&secrets);
            let (mut stream, mut out, mut at) = (redactor.stream(), String::new(), 0);
            for cut in cuts {
                let end = (at + cut).min(text.len());
                out.push_str(&stream.push(&text[at..end]));
                at = end;
            }
            out.push_str(&stream.push(&text[at..]));
            out.push_str(&stream.finish());
            // Adjoining places may be told as one or as two.
            let once = |t: &str| { let mut t = t.to_owned(); while t.contains("((redacted))((redacted))") { t = t.replace("((redacted))((redacted))", "((redacted))"); } t };
            prop_assert_eq!(once(&out), once(&redactor.redact(&text)));
            for secret in secrets {
                prop_assert!(!out.contains(secret));
            }
        }
    }
}
