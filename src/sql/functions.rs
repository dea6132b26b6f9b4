//! Functions whose volatility, as the catalog declares it, does not tell where they may run.

/// Volatile, and yet nothing comes of running them on a replica: each call gives another value anyway.
const HARMLESS: [&str; 19] = [
    "random",
    "random_normal",
    "clock_timestamp",
    "timeofday",
    "gen_random_uuid",
    "uuidv4",
    "uuidv7",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "gen_random_bytes",
    "gen_salt",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "statement_timestamp",
    "transaction_timestamp",
    "now",
    "crypt",
];

/// Neither read-only nor the same on every node, whatever the catalog declares.
const BOUND: [&str; 28] = [
    // With pg_temp in front of search_path they make the schema of temporary objects.
    "current_schema",
    "current_schemas",
    // Sequences, and what this session did with them.
    "nextval",
    "setval",
    "currval",
    "lastval",
    "last_value",
    // The session's settings and role travel with the client, but a replica's own differ.
    "set_config",
    "current_setting",
    "setseed",
    // Transaction ids are the primary's.
    "txid_current",
    "txid_current_if_assigned",
    "txid_current_snapshot",
    "txid_snapshot_xmin",
    "txid_status",
    // Which server this is.
    "inet_server_addr",
    "inet_server_port",
    "inet_client_addr",
    "inet_client_port",
    // Large objects: descriptors belong to a transaction, creation writes.
    "loread",
    "lowrite",
    // Other servers, files, and what changes the server itself.
    "dblink",
    "dblink_exec",
    "dblink_connect",
    "dblink_send_query",
    "query_to_xml",
    "database_to_xml",
    "currtid2",
];

/// Prefixes of families of bound functions.
const BOUND_PREFIXES: [&str; 5] = ["lo_", "dblink_", "txid_", "binary_upgrade_", "pgp_key"];

/// `pg_…` functions that read and are the same on every node; all others stay on the primary.
const PLAIN_PG: [&str; 27] = [
    "pg_typeof",
    "pg_column_size",
    "pg_get_viewdef",
    "pg_get_constraintdef",
    "pg_get_indexdef",
    "pg_get_functiondef",
    "pg_get_expr",
    "pg_get_triggerdef",
    "pg_get_userbyid",
    "pg_get_serial_sequence",
    "pg_get_partkeydef",
    "pg_get_ruledef",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_function_result",
    "pg_encoding_to_char",
    "pg_char_to_encoding",
    "pg_client_encoding",
    "pg_collation_for",
    "pg_collation_is_visible",
    "pg_table_is_visible",
    "pg_type_is_visible",
    "pg_function_is_visible",
    "pg_input_is_valid",
    "pg_size_pretty",
    "pg_size_bytes",
    "pg_describe_object",
];

/// Written like functions and handled by the grammar: not in `pg_proc`.
const GRAMMAR: [&str; 21] = [
    "coalesce",
    "nullif",
    "greatest",
    "least",
    "grouping",
    "row",
    "exists",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "current_user",
    "session_user",
    "user",
    "current_role",
    "current_catalog",
    "array",
    "cast",
    "trim",
    "any",
];

/// What the name alone says of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It may run on a replica.
    Plain,
    /// It must run on the primary.
    Bound,
    /// The catalog must say.
    Nothing,
}

/// What the name of a built-in function (in lower case) says.
pub(super) fn said(name: &str) -> Said {
    if BOUND.contains(&name) || BOUND_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Said::Bound;
    }
    if HARMLESS.contains(&name) || PLAIN_PG.contains(&name) || GRAMMAR.contains(&name) {
        return Said::Plain;
    }
    // Advisory locks, notifications, positions, statistics, signals, slots, files: node by node, or writes.
    if name.starts_with("pg_") { Said::Bound } else { Said::Nothing }
}
