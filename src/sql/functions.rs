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
const BOUND: [&str; 25] = [
    // With pg_temp in front of search_path they make the schema of temporary objects.
    "current_schema",
    "current_schemas",
    // Sequences, and what this session did with them.
    "nextval",
    "setval",
    "currval",
    "lastval",
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
    "currtid2",
];

/// Prefixes of families of bound functions.
const BOUND_PREFIXES: [&str; 10] = [
    "lo_",
    "dblink_",
    "txid_",
    "binary_upgrade_",
    "pgp_key",
    // They run what a text, a cursor or a view says.
    "query_to_xml",
    "cursor_to_xml",
    "table_to_xml",
    "schema_to_xml",
    "database_to_xml",
];

/// `pg_…` functions that read the system's tables, or none, and are the same on every node. All others stay on the primary: what a
/// node or a session has, files and their sizes, and whatever newer releases may bring.
const PLAIN_PG: [&str; 68] = [
    "pg_typeof",
    "pg_column_size",
    "pg_column_compression",
    "pg_get_viewdef",
    "pg_get_constraintdef",
    "pg_get_indexdef",
    "pg_get_functiondef",
    "pg_get_expr",
    "pg_get_triggerdef",
    "pg_get_userbyid",
    "pg_get_serial_sequence",
    "pg_get_partkeydef",
    "pg_get_partition_constraintdef",
    "pg_get_ruledef",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_function_result",
    "pg_get_function_arg_default",
    "pg_get_function_sqlbody",
    "pg_get_statisticsobjdef",
    "pg_get_statisticsobjdef_columns",
    "pg_get_statisticsobjdef_expressions",
    "pg_get_replica_identity_index",
    "pg_get_publication_tables",
    "pg_get_object_address",
    "pg_get_acl",
    "pg_get_keywords",
    "pg_get_catalog_foreign_keys",
    "pg_identify_object",
    "pg_identify_object_as_address",
    "pg_describe_object",
    "pg_encoding_to_char",
    "pg_char_to_encoding",
    "pg_encoding_max_length",
    "pg_client_encoding",
    "pg_collation_for",
    "pg_collation_is_visible",
    "pg_conversion_is_visible",
    "pg_function_is_visible",
    "pg_opclass_is_visible",
    "pg_operator_is_visible",
    "pg_opfamily_is_visible",
    "pg_statistics_obj_is_visible",
    "pg_table_is_visible",
    "pg_ts_config_is_visible",
    "pg_ts_dict_is_visible",
    "pg_ts_parser_is_visible",
    "pg_ts_template_is_visible",
    "pg_type_is_visible",
    "pg_has_role",
    "pg_input_is_valid",
    "pg_input_error_info",
    "pg_size_pretty",
    "pg_size_bytes",
    "pg_basetype",
    "pg_mcv_list_items",
    "pg_options_to_table",
    "pg_sequence_parameters",
    "pg_relation_is_publishable",
    "pg_relation_is_updatable",
    "pg_column_is_updatable",
    "pg_index_has_property",
    "pg_index_column_has_property",
    "pg_indexam_has_property",
    "pg_partition_ancestors",
    "pg_partition_root",
    "pg_partition_tree",
    "pg_wal_lsn_diff",
];

/// Written like functions and handled by the grammar: not in `pg_proc`.
const GRAMMAR: [&str; 38] = [
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
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_value",
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
