//! ErrorResponse and NoticeResponse: made here for clients, opened here for what Howdah must know.

use super::sqlstate::SqlState;
use super::text::split_cstr;
use bytes::{BufMut, BytesMut};

/// How bad an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed; the connection goes on.
    Error,
    /// The connection ends.
    Fatal,
    /// Not an error.
    Notice,
    /// Not an error yet.
    Warning,
}

impl Severity {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
        }
    }
}

/// An error or notice that Howdah itself sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How bad it is.
    pub severity: Severity,
    /// What PostgreSQL would call it.
    pub code: SqlState,
    /// What happened.
    pub message: String,
    /// What to do about it: names the setting to change.
    pub hint: Option<String>,
    /// Where PostgreSQL would raise it, for who goes by that.
    pub routine: Option<Routine>,
}

/// Functions of PostgreSQL's that clients know errors by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routine {
    /// Of a prepared statement that is not what it was (src/backend/utils/cache/plancache.c).
    RevalidateCachedQuery,
}

impl Routine {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RevalidateCachedQuery => "RevalidateCachedQuery",
        }
    }
}

impl Report {
    /// A failed statement.
    pub fn error(code: SqlState, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, code, message: message.into(), hint: None, routine: None }
    }

    /// The end of a connection.
    pub fn fatal(code: SqlState, message: impl Into<String>) -> Self {
        Self { severity: Severity::Fatal, code, message: message.into(), hint: None, routine: None }
    }

    /// Something worth telling.
    pub fn notice(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Notice,
            code: SqlState(*b"00000"),
            message: message.into(),
            hint: None,
            routine: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Appends the message to `out`: `E`, or `N` for notices and warnings.
    pub fn encode(&self, out: &mut BytesMut) {
        let tag = match self.severity {
            Severity::Error | Severity::Fatal => b'E',
            Severity::Notice | Severity::Warning => b'N',
        };
        super::backend::message(out, tag, |out| {
            let severity = self.severity.as_str();
            let mut field = |kind: u8, value: &str| {
                out.put_u8(kind);
                out.put_slice(value.replace('\0', "").as_bytes());
                out.put_u8(0);
            };
            field(b'S', severity);
            field(b'V', severity);
            field(b'C', self.code.as_str());
            field(b'M', &self.message);
            if let Some(hint) = &self.hint {
                field(b'H', hint);
            }
            if let Some(routine) = self.routine {
                field(b'R', routine.as_str());
            }
            out.put_u8(0);
        });
    }
}

/// The fields of a server's error that Howdah looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    /// `V`, or `S` from servers older than 9.6: ERROR, FATAL or PANIC.
    pub severity: &'a [u8],
    /// `C`: SQLSTATE; absent from some servers' and proxies' errors.
    pub code: Option<SqlState>,
    /// `M`.
    pub message: &'a [u8],
    /// `R`: the C function that reported it; not translated, unlike `M`.
    pub routine: &'a [u8],
}

impl<'a> ErrorFields<'a> {
    /// Opens the body of an `ErrorResponse`, as far as it is there.
    #[must_use]
    pub fn parse(mut body: &'a [u8]) -> Self {
        let mut fields = Self::default();
        while let Some((&kind, rest)) = body.split_first() {
            if kind == 0 {
                break;
            }
            let Some((value, rest)) = split_cstr(rest) else {
                break;
            };
            match kind {
                b'S' if fields.severity.is_empty() => fields.severity = value,
                b'V' => fields.severity = value,
                b'C' => fields.code = value.try_into().ok().map(SqlState),
                b'M' => fields.message = value,
                b'R' => fields.routine = value,
                _ => {}
            }
            body = rest;
        }
        fields
    }

    /// Whether the server closes the connection after this error.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.severity == b"FATAL" || self.severity == b"PANIC"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_can_be_opened() {
        let mut out = BytesMut::new();
        Report::fatal(SqlState::TOO_MANY_CONNECTIONS, "too\0 many").hint("raise limits.max_clients").encode(&mut out);
        let fields = ErrorFields::parse(&out[5..]);
        assert_eq!(fields.code, Some(SqlState::TOO_MANY_CONNECTIONS));
        assert_eq!(fields.message, b"too many");
        assert!(fields.is_fatal());
    }

    #[test]
    fn an_error_without_sqlstate_is_not_a_fault_of_ours() {
        let fields = ErrorFields::parse(b"SERROR\0Mtext\0");
        assert_eq!((fields.code, fields.message), (None, &b"text"[..]));
    }
}
