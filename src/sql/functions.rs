//! Functions whose kind PostgreSQL's own `provolatile` does not tell: volatile ones that are harmless, and others
//! that depend on the session or the node whatever their volatility.
//!
//! Names of PostgreSQL 13 to 18 and of the extensions that come with it. This file knows no catalog.

/// Whether a volatile function that is PostgreSQL's or an extension's own (written in C, or in `pg_catalog`) changes
/// nothing and means the same on every node.
#[must_use]
pub fn is_harmless(name: &str) -> bool {
    HARMLESS.binary_search(&name).is_ok()
}

/// Whether a function must run on the primary, or where the session is, although PostgreSQL may call it stable.
#[must_use]
pub fn is_bound(name: &str) -> bool {
    BOUND.binary_search(&name).is_ok() || BOUND_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Names that PostgreSQL's grammar gives to expressions, and that no catalog lists. They are keywords: quoted, they are
/// ordinary names.
#[must_use]
pub fn is_keyword(name: &str) -> bool {
    KEYWORDS.binary_search(&name).is_ok()
}

/// Keywords that are a call without parentheses.
#[must_use]
pub fn is_bare_keyword(name: &str) -> bool {
    BARE_KEYWORDS.binary_search(&name).is_ok()
}

/// Takes a session-level advisory lock.
pub(super) fn locks(name: &str) -> bool {
    matches!(
        name,
        "pg_advisory_lock" | "pg_advisory_lock_shared" | "pg_try_advisory_lock" | "pg_try_advisory_lock_shared"
    )
}

/// Releases session-level advisory locks.
pub(super) fn unlocks(name: &str) -> bool {
    matches!(name, "pg_advisory_unlock" | "pg_advisory_unlock_shared" | "pg_advisory_unlock_all")
}

/// Leaves something in the session that outlives the transaction and that nobody else could put there: the seed of
/// `random()`, dblink's named connections, a replication origin, shared libraries' own state.
pub(super) fn leaves_session_state(name: &str) -> bool {
    matches!(
        name,
        "setseed" | "dblink_connect" | "dblink_connect_u" | "pg_replication_origin_session_setup" | "set_limit"
    )
}

/// Sorted, for the binary search.
const HARMLESS: &[&str] = &[
    "clock_timestamp",
    "current_query",
    "gen_random_bytes",
    "gen_random_uuid",
    "gen_salt",
    "lo_get",
    "normal_rand",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "random",
    "random_normal",
    "timeofday",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
];

/// Sorted. Most are volatile anyway and stand here so that they are known before the catalog is loaded; the others are
/// stable or immutable by the catalog, with the reason beside them.
const BOUND: &[&str] = &[
    "currtid2",
    "currval",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    // Run SQL that is hidden in an argument, or read relations that are.
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    // The node's own addresses, and those of this server connection's peer.
    "inet_client_addr",
    "inet_client_port",
    "inet_server_addr",
    "inet_server_port",
    "lastval",
    "lo_close",
    "lo_creat",
    "lo_create",
    "lo_export",
    "lo_from_bytea",
    "lo_import",
    "lo_lseek",
    "lo_lseek64",
    "lo_open",
    "lo_put",
    "lo_tell",
    "lo_tell64",
    "lo_truncate",
    "lo_truncate64",
    "lo_unlink",
    "loread",
    "lowrite",
    // Counts from the node's next multixact.
    "mxid_age",
    "nextval",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_advisory_unlock",
    "pg_advisory_unlock_all",
    "pg_advisory_unlock_shared",
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    // What is installed on the node's disk.
    "pg_available_extension_versions",
    "pg_available_extensions",
    // Process ids mean one node's processes.
    "pg_backend_pid",
    "pg_blocking_pids",
    "pg_cancel_backend",
    "pg_conf_load_time",
    "pg_config",
    "pg_create_restore_point",
    // Snapshots and transaction ids: a standby has another view of them, and assigns none.
    "pg_current_snapshot",
    "pg_current_xact_id",
    "pg_current_xact_id_if_assigned",
    // Cursors, statements and channels of the session.
    "pg_cursor",
    "pg_export_snapshot",
    "pg_extension_update_paths",
    "pg_get_backend_memory_contexts",
    "pg_get_replication_slots",
    "pg_hba_file_rules",
    "pg_is_in_recovery",
    "pg_is_other_temp_schema",
    "pg_is_wal_replay_paused",
    "pg_listening_channels",
    "pg_lock_status",
    "pg_log_backend_memory_contexts",
    "pg_my_temp_schema",
    "pg_notification_queue_usage",
    "pg_notify",
    "pg_postmaster_start_time",
    "pg_prepared_statement",
    "pg_prepared_xact",
    "pg_promote",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_safe_snapshot_blocking_pids",
    "pg_sequence_last_value",
    "pg_settings_get_flags",
    "pg_show_all_file_settings",
    "pg_show_all_settings",
    "pg_switch_wal",
    // Directories, which may differ between nodes.
    "pg_tablespace_databases",
    "pg_tablespace_location",
    "pg_terminate_backend",
    "pg_timezone_abbrevs",
    "pg_timezone_names",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared",
    "pg_xact_commit_timestamp",
    "pg_xact_commit_timestamp_origin",
    "pg_xact_status",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "set_config",
    "setseed",
    "setval",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "ts_rewrite",
    "ts_stat",
    "txid_current",
    "txid_current_if_assigned",
    "txid_current_snapshot",
    "txid_status",
    // Minor versions differ during a rolling upgrade.
    "version",
];

/// Families: statistics, files, replication and WAL control of the node that is asked. `pg_walfile_name` is immutable
/// by the catalog and fails during recovery.
const BOUND_PREFIXES: &[&str] = &[
    "binary_upgrade_",
    "dblink",
    "pg_backup_",
    "pg_control_",
    "pg_copy_",
    "pg_create_",
    "pg_current_wal",
    "pg_drop_",
    "pg_get_shmem",
    "pg_get_wal",
    "pg_last_",
    "pg_logical_",
    "pg_ls_",
    "pg_read_",
    "pg_replication_",
    "pg_stat_",
    "pg_start_backup",
    "pg_stop_backup",
    "pg_wal_replay",
    "pg_walfile",
];

/// Sorted.
const KEYWORDS: &[&str] = &[
    "coalesce",
    "current_time",
    "current_timestamp",
    "greatest",
    "grouping",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_value",
    "least",
    "localtime",
    "localtimestamp",
    "nullif",
    "row",
    "xmlconcat",
    "xmlelement",
    "xmlforest",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
];

/// Sorted.
const BARE_KEYWORDS: &[&str] = &[
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "system_user",
    "user",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_apart() {
        for list in [HARMLESS, BOUND, KEYWORDS, BARE_KEYWORDS] {
            assert!(list.is_sorted(), "{list:?}");
        }
        assert!(HARMLESS.iter().all(|name| !is_bound(name)));
        assert!(is_bound("pg_stat_get_activity") && is_bound("dblink_exec") && !is_bound("pg_typeof"));
    }
}
