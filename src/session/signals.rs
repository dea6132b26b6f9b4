//! Processes that a batch signals by number (`pg_terminate_backend`, `pg_cancel_backend`).
//!
//! The number may be one that a client was given when it logged in, which no process has.

use std::ops::Range;

use super::observe::{Batch, Plan, Step};
use super::{Session, registry};
use crate::protocol::frame::HEADER;
use crate::protocol::frontend::{self, Bind, Parse};
use crate::protocol::tag::frontend as tag;
use crate::sql::signals::{Call, Source, calls};

/// How a number stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In decimal digits.
    Digits,
    /// In four or eight bytes, the highest first.
    Binary,
}

/// A number in a batch that says which process is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// What becomes of the process.
    pub call: Call,
    /// Its number.
    pub process_id: i32,
    /// Where in the buffer it is.
    pub at: Range<usize>,
    /// In which form.
    pub form: Form,
}

impl Signal {
    /// What stands for `process_id` in its place, in as many bytes; none where these are too few.
    #[must_use]
    pub fn instead(&self, process_id: i32) -> Option<Vec<u8>> {
        let length = self.at.len();
        let bytes = match self.form {
            // Leading zeros change no number.
            Form::Digits => format!("{process_id:0length$}").into_bytes(),
            Form::Binary if length == 4 => process_id.to_be_bytes().to_vec(),
            Form::Binary => i64::from(process_id).to_be_bytes().to_vec(),
        };
        (bytes.len() == length).then_some(bytes)
    }
}

impl Session {
    /// The processes that `batch` signals by a number in the text of a simple query or of an unnamed statement, or by a parameter.
    #[must_use]
    pub fn signals(&self, batch: Batch<'_>, plan: &Plan) -> Vec<Signal> {
        let mut signals = Vec::new();
        // What is not run now would be run when the processes may be others'.
        let tags = || batch.frames.iter().map(|frame| frame.tag);
        let runs = tags().next_back() == Some(tag::SYNC) && tags().any(|known| known == tag::EXECUTE);
        for (frame, body) in batch.messages() {
            let base = frame.start + HEADER;
            match frame.tag {
                tag::QUERY => signals.extend(in_text(frontend::query(body).unwrap_or_default(), base)),
                tag::PARSE if runs => {
                    let Ok(parse) = Parse::open(body) else { continue };
                    if parse.name.is_empty() {
                        signals.extend(in_text(parse.text, base + 1));
                    }
                }
                tag::BIND if runs => {
                    let Ok(bind) = Bind::open(body) else { continue };
                    let parsed = batch.parse_before(bind.statement, frame).and_then(|index| plan.steps.get(index));
                    let statement = match parsed {
                        Some(Step::Parse(statement)) => Some(statement),
                        _ => self.statement(bind.statement),
                    };
                    let Some(statement) = statement else { continue };
                    let before = body.len() - bind.rest.len();
                    signals.extend(in_bind(statement, bind, base + before));
                }
                _ => {}
            }
        }
        signals
    }
}

fn in_text(text: &[u8], base: usize) -> Vec<Signal> {
    let signal = |(call, source)| {
        let Source::Digits(at) = source else { return None };
        let process_id = std::str::from_utf8(&text[at.clone()]).ok()?.parse().ok()?;
        Some(Signal { call, process_id, at: base + at.start..base + at.end, form: Form::Digits })
    };
    calls(text).into_iter().filter_map(signal).collect()
}

fn in_bind(statement: &registry::Statement, bind: Bind<'_>, base: usize) -> Vec<Signal> {
    let signal = |(call, source)| {
        let Source::Parameter(number) = source else { return None };
        let index = usize::checked_sub(number, 1)?;
        let value = bind.parameter(index)?;
        let start = value.as_ptr() as usize - bind.rest.as_ptr() as usize;
        let (process_id, form) = match (bind.is_binary(index), value.len()) {
            (true, 4) => (i32::from_be_bytes(value.try_into().ok()?), Form::Binary),
            (true, 8) => (i64::from_be_bytes(value.try_into().ok()?).try_into().ok()?, Form::Binary),
            (true, _) => return None,
            (false, _) => (std::str::from_utf8(value).ok()?.parse().ok()?, Form::Digits),
        };
        Some(Signal { call, process_id, at: base + start..base + start + value.len(), form })
    };
    calls(&statement.text).into_iter().filter_map(signal).collect()
}
