//! The functions that ad-hoc statements may call, by name.
//!
//! A test compares this list with what DataFusion registers, so that an upgrade cannot slip a new
//! function in. Held back is what makes much from little, and what tells about the machine.

/// Functions that may be called, sorted.
#[rustfmt::skip]
pub(crate) const ALLOWED: &[&str] = &[
    "abs", "acos", "acosh", "any_value", "approx_distinct", "approx_median",
    "approx_percentile_cont", "approx_percentile_cont_with_weight", "arrow_cast", "arrow_field",
    "arrow_metadata", "arrow_try_cast", "arrow_typeof", "ascii", "asin", "asinh", "atan", "atan2",
    "atanh", "avg", "bit_and", "bit_length", "bit_or", "bit_xor", "bool_and", "bool_or", "btrim",
    "cast_to_type", "cbrt", "ceil", "char_length", "character_length", "chr", "coalesce", "concat",
    "concat_ws", "contains", "corr", "cos", "cosh", "cot", "count", "covar", "covar_pop",
    "covar_samp", "cume_dist", "current_date", "current_time", "current_timestamp", "date_bin",
    "date_format", "date_part", "date_trunc", "datepart", "datetrunc", "decode", "degrees", "dense_rank",
    "encode", "ends_with", "exp", "factorial", "find_in_set", "first_value", "floor", "from_unixtime", "gcd",
    "get_field", "greatest", "grouping", "ifnull", "initcap", "instr", "isnan", "iszero", "lag",
    "last_value", "lcm", "lead", "least", "left", "length", "levenshtein", "ln", "log", "log10",
    "log2", "lower", "ltrim", "make_date", "make_time", "max", "mean", "median", "min",
    "named_struct", "nanvl", "now", "nth_value", "ntile", "nullif", "nvl", "nvl2", "octet_length",
    "overlay", "percent_rank", "percentile_cont", "pi", "position", "pow", "power", "quantile",
    "quantile_cont", "radians", "rand", "random", "rank", "regexp_count", "regexp_instr",
    "regexp_like", "regexp_match", "regexp_replace", "regr_avgx", "regr_avgy", "regr_count", "regr_intercept", "regr_r2",
    "regr_slope", "regr_sxx", "regr_sxy", "regr_syy", "replace", "reverse", "right", "round", "row",
    "row_number", "rtrim", "signum", "sin", "sinh", "split_part", "sqrt", "starts_with", "stddev",
    "stddev_pop", "stddev_samp", "string_agg", "strpos", "struct", "substr", "substr_index",
    "substring", "substring_index", "sum", "tan", "tanh", "time_bucket", "to_char", "to_date",
    "to_hex", "to_local_time", "to_time", "to_timestamp", "to_timestamp_micros",
    "to_timestamp_millis", "to_timestamp_nanos", "to_timestamp_seconds", "to_unixtime", "today",
    "translate", "trim", "trunc", "try_cast_to_type", "union_extract", "union_tag", "upper", "uuid",
    "var", "var_pop", "var_population", "var_samp", "var_sample", "with_metadata",
];

/// Functions DataFusion has and we hold back, each with why.
pub(crate) const HELD_BACK: &[(&str, &str)] = &[
    ("repeat", "it makes much from little"),
    ("lpad", "it makes much from little"),
    ("rpad", "it makes much from little"),
    ("generate_series", "it makes much from little"),
    ("range", "it makes much from little"),
    (
        "array_agg",
        "it makes much from little; use string_agg or a smaller GROUP BY",
    ),
    ("input_file_name", "it tells where files lie"),
    ("file_row_index", "it tells where files lie"),
    ("version", "it tells about the server"),
];

/// Functions of ours that the guard rewrites; met afterwards, they had the wrong arguments.
const REWRITTEN: &[(&str, &str)] = &[
    (
        "p50",
        "write p50(x) with one argument; FILTER may follow, DISTINCT, ORDER BY and OVER may not",
    ),
    (
        "p90",
        "write p90(x) with one argument; FILTER may follow, DISTINCT, ORDER BY and OVER may not",
    ),
    (
        "p95",
        "write p95(x) with one argument; FILTER may follow, DISTINCT, ORDER BY and OVER may not",
    ),
    (
        "p99",
        "write p99(x) with one argument; FILTER may follow, DISTINCT, ORDER BY and OVER may not",
    ),
    (
        "rate",
        "write rate() or rate(x); FILTER may follow, DISTINCT, ORDER BY and OVER may not",
    ),
];

/// Lets a function pass, or says why not.
pub(crate) fn check(name: &str) -> Result<(), String> {
    let told = HELD_BACK
        .iter()
        .chain(REWRITTEN)
        .find(|(told, _)| *told == name);
    if let Some((_, why)) = told {
        return Err(format!(": {why}"));
    }
    if ALLOWED.binary_search(&name).is_ok() {
        return Ok(());
    }
    let near = serin_yaml::nearest(name, ALLOWED.iter().copied());
    Err(near.map_or_else(String::new, |near| format!("; did you mean {near}?")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every function DataFusion registers is either allowed or held back, and nothing else is.
    #[test]
    fn every_registered_function_has_been_looked_at() {
        let state = datafusion::execution::session_state::SessionStateBuilder::new()
            .with_default_features()
            .build();
        let registered: BTreeSet<&str> = state
            .scalar_functions()
            .keys()
            .chain(state.aggregate_functions().keys())
            .chain(state.window_functions().keys())
            .chain(state.table_functions().keys())
            .map(String::as_str)
            .chain(["time_bucket", "quantile"])
            .collect();
        let known: BTreeSet<&str> = ALLOWED
            .iter()
            .copied()
            .chain(HELD_BACK.iter().map(|(name, _)| *name))
            .collect();
        let unseen: Vec<_> = registered.difference(&known).collect();
        let gone: Vec<_> = known.difference(&registered).collect();
        assert!(
            unseen.is_empty() && gone.is_empty(),
            "unseen {unseen:?}, gone {gone:?}"
        );
        assert!(ALLOWED.is_sorted());
    }

    #[test]
    fn refusals_help() {
        assert_eq!(check("sum"), Ok(()));
        assert_eq!(check("summ"), Err("; did you mean sum?".to_owned()));
        assert_eq!(
            check("repeat"),
            Err(": it makes much from little".to_owned())
        );
        assert_eq!(check("read_csv"), Err(String::new()));
    }
}
