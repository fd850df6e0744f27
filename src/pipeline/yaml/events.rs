//! The events of a YAML text, from libyaml, which Go's yaml is a port of, so that both take the same texts and complain
//! in the same words.
//!
//! The library's interface is that of C; only this file and `emit` touch it. What keeps that sound: the parser never moves
//! (it is boxed) and never outlives the text it reads; an event is copied out and freed before it is handed on; after
//! an error the parser is not asked again.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::slice;

use unsafe_libyaml_norway as unsafe_sys;

use super::document::{Library, Mark, YamlError, start};

/// What comes next in a text.
pub(super) enum Event {
    /// The start of the text or of a document.
    Start,
    /// The end of the text or of a document.
    End,
    /// `*name`
    Alias(String),
    /// A word, a number, a text; `plain` where neither quotes nor a tag say what it is.
    Scalar { anchor: Option<String>, tag: String, value: String, plain: bool, unquoted: bool },
    /// The start of a list.
    Sequence { anchor: Option<String>, flow: bool },
    /// The start of a map.
    Mapping { anchor: Option<String>, flow: bool },
    /// The end of a list or a map.
    Close,
}

/// Reads a text event by event.
pub(super) struct Events<'t> {
    parser: Box<MaybeUninit<unsafe_sys::yaml_parser_t>>,
    failed: Option<YamlError>,
    text: &'t [u8],
    library: Library,
}

impl<'t> Events<'t> {
    pub(super) fn of(text: &'t [u8], library: Library) -> Result<Events<'t>, YamlError> {
        let mut parser = Box::new(MaybeUninit::uninit());
        // SAFETY: the pointer is to memory of the right size and alignment, which initialisation fills.
        if unsafe { unsafe_sys::yaml_parser_initialize(parser.as_mut_ptr()) }.fail {
            return Err(YamlError { message: "out of memory".into(), mark: None });
        }
        // SAFETY: the parser was initialised, is boxed, and the lifetime keeps the text alive as long as the parser.
        unsafe { unsafe_sys::yaml_parser_set_input_string(parser.as_mut_ptr(), text.as_ptr(), text.len() as u64) };
        Ok(Events { parser, failed: None, text, library })
    }

    /// The next event and where it starts.
    pub(super) fn next(&mut self) -> Result<(Event, Mark), YamlError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut raw = MaybeUninit::<unsafe_sys::yaml_event_t>::uninit();
        // SAFETY: the parser was initialised; the event is filled before success is told.
        if unsafe { unsafe_sys::yaml_parser_parse(self.parser.as_mut_ptr(), raw.as_mut_ptr()) }.fail {
            let error = self.error();
            self.failed = Some(error.clone());
            return Err(error);
        }
        // SAFETY: parsing succeeded, so the event is filled; it is read while it lives and freed once.
        let (event, mark, refused) = unsafe {
            let filled = raw.assume_init_ref();
            let (event, mark, refused) = (copied(filled), place(&filled.start_mark), self.escaped_slash(filled));
            unsafe_sys::yaml_event_delete(raw.as_mut_ptr());
            (event, mark, refused)
        };
        match refused {
            Some(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
            None => Ok((event, mark)),
        }
    }

    /// What Go's yaml says of a slash that is escaped between double quotes, which only libyaml knows.
    ///
    /// # Safety
    /// The event must have been filled by the parser and not been freed.
    unsafe fn escaped_slash(&self, event: &unsafe_sys::yaml_event_t) -> Option<YamlError> {
        // SAFETY: the type says which member of the union was filled.
        let quoted = event.type_ == unsafe_sys::YAML_SCALAR_EVENT
            && unsafe { event.data.scalar.style } == unsafe_sys::YAML_DOUBLE_QUOTED_SCALAR_STYLE;
        if !quoted {
            return None;
        }
        let first = start(self.text);
        let written = self.text.get(first + event.start_mark.index as usize..first + event.end_mark.index as usize)?;
        let mut at = 0;
        while let Some(found) = written[at..].iter().position(|&byte| byte == b'\\') {
            at += found;
            if written.get(at + 1) == Some(&b'/') {
                let line = place(&event.start_mark).line + written[..at].iter().filter(|&&byte| byte == b'\n').count();
                let first = place(&event.start_mark).line;
                let told = if self.library == Library::Three && first > 1 { first } else { line };
                let told = if told > 1 { format!("line {told}: ") } else { String::new() };
                let mark = Some(Mark { line, column: 1 });
                return Some(YamlError { message: format!("{told}found unknown escape character"), mark });
            }
            at = (at + 2).min(written.len());
        }
        None
    }

    /// After how many bytes it stopped at an error.
    pub(super) fn position(&self) -> usize {
        // SAFETY: the parser was initialised.
        unsafe { self.parser.assume_init_ref() }.problem_mark.index as usize
    }

    /// Go's message names a line only where libyaml's mark is beyond the first one, and counts scanner errors from 1: the
    /// line of what is wrong, or for the later library that of what it is part of.
    fn error(&self) -> YamlError {
        // SAFETY: the parser was initialised; its problem is null or a constant text of the library.
        let (parser, problem) = unsafe {
            let parser = self.parser.assume_init_ref();
            let problem = (!parser.problem.is_null()).then(|| CStr::from_ptr(parser.problem.cast()));
            (parser, problem.map(|text| text.to_string_lossy().into_owned()))
        };
        let problem = problem.unwrap_or_else(|| "unknown problem parsing YAML content".to_owned());
        // As it was misspelt when Go's yaml was written after libyaml.
        let problem = problem.replace("hexadecimal", "hexdecimal");
        let scanner = u64::from(parser.error == unsafe_sys::YAML_SCANNER_ERROR);
        let mut lines = [parser.problem_mark.line, parser.context_mark.line];
        if self.library == Library::Three {
            lines.reverse();
        }
        let line = lines.into_iter().find(|line| *line != 0);
        let message = match line {
            Some(line) => format!("line {}: {problem}", line + scanner),
            None => problem,
        };
        YamlError { message, mark: Some(place(&parser.problem_mark)) }
    }
}

impl Drop for Events<'_> {
    fn drop(&mut self) {
        // SAFETY: the parser was initialised and is freed only here.
        unsafe { unsafe_sys::yaml_parser_delete(self.parser.as_mut_ptr()) };
    }
}

fn place(mark: &unsafe_sys::yaml_mark_t) -> Mark {
    Mark { line: mark.line as usize + 1, column: mark.column as usize + 1 }
}

/// Copies an event into memory of our own.
///
/// # Safety
/// The event must have been filled by the parser and not been freed.
unsafe fn copied(event: &unsafe_sys::yaml_event_t) -> Event {
    // SAFETY: the type says which member of the union was filled; its texts are null or end in a zero byte.
    unsafe {
        match event.type_ {
            unsafe_sys::YAML_STREAM_START_EVENT | unsafe_sys::YAML_DOCUMENT_START_EVENT => Event::Start,
            unsafe_sys::YAML_ALIAS_EVENT => Event::Alias(text(event.data.alias.anchor).unwrap_or_default()),
            unsafe_sys::YAML_SCALAR_EVENT => {
                let scalar = event.data.scalar;
                let value = slice::from_raw_parts(scalar.value, scalar.length as usize);
                Event::Scalar {
                    anchor: text(scalar.anchor),
                    tag: text(scalar.tag).unwrap_or_default(),
                    value: owned(value),
                    plain: scalar.plain_implicit,
                    unquoted: scalar.style == unsafe_sys::YAML_PLAIN_SCALAR_STYLE,
                }
            }
            unsafe_sys::YAML_SEQUENCE_START_EVENT => Event::Sequence {
                anchor: text(event.data.sequence_start.anchor),
                flow: event.data.sequence_start.style == unsafe_sys::YAML_FLOW_SEQUENCE_STYLE,
            },
            unsafe_sys::YAML_MAPPING_START_EVENT => Event::Mapping {
                anchor: text(event.data.mapping_start.anchor),
                flow: event.data.mapping_start.style == unsafe_sys::YAML_FLOW_MAPPING_STYLE,
            },
            unsafe_sys::YAML_SEQUENCE_END_EVENT | unsafe_sys::YAML_MAPPING_END_EVENT => Event::Close,
            _ => Event::End,
        }
    }
}

/// The library has looked at the encoding already, so the slow way is for what cannot be.
fn owned(text: &[u8]) -> String {
    std::str::from_utf8(text).map_or_else(|_| String::from_utf8_lossy(text).into_owned(), str::to_owned)
}

/// Copies a text of C's.
///
/// # Safety
/// The pointer must be null or to a text that ends in a zero byte.
unsafe fn text(pointer: *const u8) -> Option<String> {
    // SAFETY: as the caller promises.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer.cast()) }.to_string_lossy().into_owned())
}
