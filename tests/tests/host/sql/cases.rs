//! Which of the engine's conformance tests run through the host: all that its storage in memory is
//! meant to pass and that are SQL text.
//!
//! | group of the suite | cases | run | why the others don't |
//! |---|---|---|---|
//! | store, as SQL | 161 | 161 | |
//! | store, as Rust | 31 | 0 | build statements and schemas in Rust: there is no text to send |
//! | alter table | 2 | 2 | |
//! | custom function | 1 | 1 | |
//! | metadata of tables | 1 | 1 | |
//! | index, also with alter table, metadata, transactions | 15 | 0 | the storage has no indexes |
//! | transaction, also with alter table | 8 | 0 | a call is a transaction; `BEGIN` is rejected |

/// Folders of the suite, and the fixtures in them.
const FOLDERS: &[(&str, &str)] = &[
    (
        "",
        "array basic column_alias custom_function default delete dictionary distinct filter \
         foreign_key inline_view insert join like_ilike limit migrate nested_select nullable \
         order_by ordering primary_key project regex series show_columns synthesize type_match \
         update values",
    ),
    ("aggregate", "avg count error expr group_by having max min null stdev sum variance"),
    ("alter", "create_table drop_table"),
    ("alter/alter_table", "add_drop rename"),
    (
        "data_type",
        "bytea date decimal float32 inet int128 int16 int32 int64 int8 interval list map null \
         point sql_types time timestamp uint128 uint16 uint32 uint64 uint8 uuid",
    ),
    (
        "expr",
        "arrow between bitwise_and bitwise_shift_left bitwise_shift_right case concat in_list \
         unary_operator",
    ),
    ("expr/arithmetic", "error on_where project"),
    (
        "function",
        "abs add_month append ascii ceil chr coalesce concat concat_ws current_date \
         current_time current_timestamp dedup degrees div_mod entries extract find_idx floor \
         format gcd_lcm generate_uuid greatest hex ifnull initcap is_empty keys last_day \
         left_right length lpad_rpad ltrim_rtrim md5 now nullif pi position prepend radians \
         rand repeat replace reverse round sign skip slice sort splice substr take to_date trim \
         trunc upper_lower values",
    ),
    ("function/cast", "literal value"),
    ("function/exp_log", "exp ln log log10 log2"),
    ("function/geometry", "calc_distance get_x get_y"),
    ("function/math_function", "acos asin atan cos sin tan"),
    ("function/sqrt_power", "power sqrt"),
    ("join", "project"),
    ("metadata", "table"),
    ("nullable", "implicit_insert text"),
    ("schemaless", "basic error project"),
    ("validate", "types unique"),
];

/// The path of each fixture.
pub(super) fn fixtures() -> impl Iterator<Item = String> {
    FOLDERS.iter().flat_map(|(folder, names)| {
        names.split_whitespace().map(move |name| match *folder {
            "" => format!("{name}.sql"),
            folder => format!("{folder}/{name}.sql"),
        })
    })
}
