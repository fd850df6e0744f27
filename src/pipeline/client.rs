//! A pipeline as Concourse's client reads it before it sends it: keys that stand twice are refused, keys nobody knows are
//! passed over, unless it is asked to be strict.

use serde_json::Value;

use super::Config;
use super::decode::{self, Fault, Reading};
use super::load::{Again, malformed, read_plain, unreadable, yaml_remedy};
use super::problem::{Problem, Section, Warning};
use super::validate::validate;
use super::yaml::document::Document;
use super::yaml::screen::{Shape, screen};
use crate::vars::typed::untyped;
use crate::vars::{Missing, Static, fill_template, number};

/// Reads and checks a pipeline as the client's `validate-pipeline` does. A strict client refuses unknown keys and
/// whatever there is to warn of.
pub fn load(text: &[u8], strict: bool) -> Result<(Config, Vec<Warning>), Vec<Problem>> {
    let (document, read) = read_template(text).map_err(|problem| vec![*problem])?;
    let broken = |problem: Problem| vec![problem.located(&document)];
    let filled = fill_template(&read, &Static::default(), Missing::Leave);
    let mut value = untyped(filled.map_err(|error| broken(Problem::new(Section::Malformed, &[], error.to_string())))?);
    Again::client(&mut value).map_err(|problem| vec![*problem])?;
    if strict {
        decode::config(&value, Reading::Strict).map_err(|fault| broken(malformed(&fault, &value)))?;
    }
    let config = decode(&value).map_err(|fault| broken(malformed(&fault, &value)))?;
    let (mut problems, warnings) = validate(&config);
    if strict {
        let refused = warnings.iter().map(|warning| Problem::new(Section::Warned, &[], &warning.message));
        problems.extend(refused);
    }
    match problems.is_empty() {
        true => Ok((config, warnings)),
        false => Err(problems.into_iter().map(|problem| problem.located(&document)).collect()),
    }
}

/// Reads a file whose variables are to be filled in: it must be a map, and no key may stand twice, of which the server
/// would silently take the last one.
pub fn read_template(text: &[u8]) -> Result<(Document, Value), Box<Problem>> {
    screened(text)?;
    read_plain(text)
}

/// Looks at a file as the client does before it fills in its variables.
pub fn screened(text: &[u8]) -> Result<(), Box<Problem>> {
    let Err(refusal) = screen(text, Shape::Texts) else { return Ok(()) };
    let message = format!("error parsing yaml before applying templates: yaml: {}", refusal.message);
    let problem = Problem::new(Section::Malformed, &[], message).at_mark(refusal.mark);
    let remedy = match refusal.twice.as_deref() {
        None => yaml_remedy(&refusal.message),
        Some("<<") => Some("write them as one: `<<: [*a, *b]`"),
        Some(_) => Some("take one of them out; the server would take the last one"),
    };
    Err(Box::new(match remedy {
        Some(remedy) => problem.remedy(remedy),
        None => problem,
    }))
}

/// Reads a pipeline without checking it, as the client's `format-pipeline` does.
pub fn read(text: &[u8]) -> Result<Config, Box<Problem>> {
    let document = Document::parse(text).map_err(|error| unreadable(&error))?;
    let value = document.to_json_with_floats().map_err(|error| unreadable(&error))?;
    decode(&value).map_err(|fault| Box::new(malformed(&fault, &value).located(&document)))
}

/// Takes JSON as the client does: what stands where anything may stand has become a float, params of tasks have become
/// text before that, and numbers that a key wants whole are whole.
pub fn decode(value: &Value) -> Result<Config, Fault> {
    let mut config = decode::config(value, Reading::Client)?;
    config.each_object(&mut number::through_float);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOBS: &str = "jobs: [{name: j, plan: []}]\n";

    fn said(text: &str, strict: bool) -> Result<(), Vec<String>> {
        let problems = |all: Vec<Problem>| all.into_iter().map(|problem| problem.message).collect();
        load(text.as_bytes(), strict).map(drop).map_err(problems)
    }

    #[test]
    fn a_key_twice_and_a_second_merge_are_refused_with_their_lines() {
        let told = said(&format!("{JOBS}a: 1\na: 2\n"), false).unwrap_err();
        let words = "error parsing yaml before applying templates: yaml: unmarshal errors:\n  line 3: mapping key \"a\" already defined at line 2";
        assert_eq!(told, [words]);
        let twice = load(format!("{JOBS}x: &x {{}}\ny:\n  <<: *x\n  <<: *x\n").as_bytes(), false).unwrap_err();
        assert_eq!(twice[0].line, Some(5));
        assert_eq!(twice[0].remedy.as_deref(), Some("write them as one: `<<: [*a, *b]`"));
    }

    #[test]
    fn only_a_strict_client_minds_unknown_keys_and_warnings() {
        let unknown = format!("{JOBS}x: 1\n");
        assert_eq!(said(&unknown, false), Ok(()));
        assert_eq!(
            said(&unknown, true).unwrap_err(),
            ["error unmarshaling JSON: while decoding JSON: json: unknown field \"x\""]
        );
        let nested = "jobs: [{name: j, plan: [], zz: 1}]\nresources: []\n";
        assert_eq!(said(nested, false), Ok(()));
        let odd = "jobs: [{name: J, plan: []}]\n";
        assert_eq!(said(odd, false), Ok(()));
        let words = "jobs.J: 'J' is not a valid identifier: must start with a lowercase letter or a number";
        assert_eq!(said(odd, true).unwrap_err(), [words]);
    }
}
