//! SQLSTATE codes that Howdah sends or reacts to (PostgreSQL manual, appendix "Error Codes").

/// A five-character error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SqlState(pub [u8; 5]);

impl SqlState {
    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = $code:literal;)*) => {
        impl SqlState {
            $($(#[$meta])* #[doc = concat!(" `", stringify!($name), "`")] pub const $name: Self = Self(*$code);)*
        }
    };
}

codes! {
    WARNING = b"01000";
    CONNECTION_EXCEPTION = b"08000";
    CONNECTION_FAILURE = b"08006";
    SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION = b"08001";
    TRANSACTION_RESOLUTION_UNKNOWN = b"08007";
    PROTOCOL_VIOLATION = b"08P01";
    FEATURE_NOT_SUPPORTED = b"0A000";
    INVALID_PARAMETER_VALUE = b"22023";
    ACTIVE_SQL_TRANSACTION = b"25001";
    READ_ONLY_SQL_TRANSACTION = b"25006";
    IN_FAILED_SQL_TRANSACTION = b"25P02";
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT = b"25P03";
    INVALID_SQL_STATEMENT_NAME = b"26000";
    INVALID_AUTHORIZATION_SPECIFICATION = b"28000";
    INVALID_PASSWORD = b"28P01";
    INVALID_CATALOG_NAME = b"3D000";
    T_R_SERIALIZATION_FAILURE = b"40001";
    T_R_DEADLOCK_DETECTED = b"40P01";
    SYNTAX_ERROR = b"42601";
    INSUFFICIENT_PRIVILEGE = b"42501";
    UNDEFINED_COLUMN = b"42703";
    UNDEFINED_OBJECT = b"42704";
    UNDEFINED_FUNCTION = b"42883";
    UNDEFINED_TABLE = b"42P01";
    DUPLICATE_PSTATEMENT = b"42P05";
    UNDEFINED_SCHEMA = b"3F000";
    TOO_MANY_CONNECTIONS = b"53300";
    CONFIGURATION_LIMIT_EXCEEDED = b"53400";
    PROGRAM_LIMIT_EXCEEDED = b"54000";
    OBJECT_NOT_IN_PREREQUISITE_STATE = b"55000";
    QUERY_CANCELED = b"57014";
    LOCK_NOT_AVAILABLE = b"55P03";
    ADMIN_SHUTDOWN = b"57P01";
    CRASH_SHUTDOWN = b"57P02";
    CANNOT_CONNECT_NOW = b"57P03";
    DATABASE_DROPPED = b"57P04";
    IDLE_SESSION_TIMEOUT = b"57P05";
    CONFIG_FILE_ERROR = b"F0000";
    INTERNAL_ERROR = b"XX000";
}
